//! What is due when.

use std::{collections::BTreeSet, time::Instant};

use crate::{EndId, LinkId};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Due {
    Link(LinkId),
    End(EndId),
    /// Looking for better paths.
    Moves,
}

impl Due {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Link(_) => "link liveness",
            Self::End(_) => "circuit",
            Self::Moves => "better paths",
        }
    }
}

/// Wake-ups in their order, at most one for each. Each keeps the time of its own in a field.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Due)>);

impl Timers {
    /// Wakes `due` at `at` or earlier; a later wish changes nothing, so that putting a deadline off
    /// costs nothing: who is woken too early asks again.
    pub(crate) fn arm(&mut self, due: Due, armed: &mut Option<Instant>, at: Option<Instant>) {
        let Some(at) = at else { return };
        match *armed {
            Some(earlier) if earlier <= at => {}
            before => {
                self.disarm(due, before);
                self.0.insert((at, due));
                *armed = Some(at);
            }
        }
    }

    pub(crate) fn disarm(&mut self, due: Due, armed: Option<Instant>) {
        if let Some(at) = armed {
            self.0.remove(&(at, due));
        }
    }

    /// Takes the next that is due by now.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        let first = *self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.remove(&first);
        Some(first.1)
    }

    pub(crate) fn first(&self) -> Option<(Instant, Due)> {
        self.0.first().copied()
    }
}
