//! Better paths for circuits whose path works: looked for now and then, a few circuits at a time.

use std::{
    ops::Bound,
    time::{Duration, Instant},
};

use crate::{
    EndId, Role, Router,
    end::{End, EndState, Hop},
    path::Path,
    timer::Due,
};

/// Better paths are looked for this often, for so many circuits, and so many of them move.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AT: usize = 1024;
const MOVE_AT_ONCE: usize = 8;

/// A circuit keeps its path for at least this long when it works.
const STAY: Duration = Duration::from_secs(10);

/// A better path costs a fifth less, and so many units less (milliseconds, mostly).
const GAIN: u64 = 5;

impl Router {
    pub(crate) fn arm_moves(&mut self, now: Instant) {
        self.timers.arm(Due::Moves, &mut self.moves_armed, Some(now + LOOK_EVERY));
    }

    /// Moves a few circuits for which there is a clearly better path.
    pub(crate) fn look_for_better_paths(&mut self, now: Instant) {
        self.moves_armed = None;
        let from = (Bound::Excluded(self.looked_at), Bound::Unbounded);
        let ends: Vec<EndId> = self.ends.range(from).take(LOOK_AT).map(|(id, _)| *id).collect();
        let mut moved = 0;
        self.looked_at = EndId(0);
        for id in ends {
            if moved == MOVE_AT_ONCE {
                self.looked_at = id;
                break;
            }
            if let Some(path) = self.better_path(id, now) {
                self.ask(id, path, now);
                moved += 1;
            }
            if self.ends.len() > LOOK_AT {
                self.looked_at = id;
            }
        }
        if !self.ends.is_empty() {
            self.arm_moves(now);
        }
    }

    fn better_path(&mut self, id: EndId, now: Instant) -> Option<Path> {
        let end = self.ends.get(&id).filter(|end| end.may_move(now))?;
        let (routers, avoid) = (end.routers.clone(), end.healing.avoided(now).to_vec());
        let (cost, to) = (self.topology().cost(&routers)?, routers.last()?);
        let best = self.distance(to, &avoid)?;
        let better = best + GAIN <= cost && best * 5 <= cost * 4;
        if !better && !self.topology().is_forbidden(&routers) {
            return None;
        }
        self.find_path(to, &avoid).filter(|path| path.routers != routers)
    }
}

impl End {
    fn may_move(&self, now: Instant) -> bool {
        let settled = self.healing.moved.is_none_or(|at| now >= at + STAY);
        self.state == EndState::Open
            && self.way.is_some_and(|way| matches!(way.hop, Hop::Link(_)))
            && self.healing.asked.is_none()
            && self.role == Role::Dialer
            && settled
    }
}
