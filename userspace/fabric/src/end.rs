//! A circuit's end at this router.

use std::time::{Duration, Instant};

use nightgate_model::id::{IdentityId, RouterId, ServiceId, TerminatorId};
use nightgate_wire::link::{CircuitId, PathId};

use crate::{
    Dial, DialRefusal, EndId, Lane, LinkId, Role,
    flow::{Receiver, Sender},
    path::Lost,
    proof::{Prover, Verifier},
};

/// How long a circuit without a path waits for one; both ends forget it then.
pub(crate) const HEAL_TIME: Duration = Duration::from_secs(30);

/// How long links that failed a circuit are avoided by it.
const AVOID_TIME: Duration = Duration::from_secs(60);

/// Links that one circuit avoids at most.
const MAX_AVOIDED: usize = 16;

/// Where frames of a circuit go next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Hop {
    /// To a neighbour.
    Link(LinkId),
    /// To an end at this very router.
    End(EndId),
}

/// One path of a circuit, seen from its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Way {
    pub(crate) hop: Hop,
    pub(crate) path: PathId,
}

/// How far an end has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EndState {
    /// The other side has until then to answer.
    Waiting(Instant),
    /// Messages flow.
    Open,
    /// The client has gone; what it sent is still to arrive.
    Closing,
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) circuit: CircuitId,
    pub(crate) role: Role,
    /// Where its client is.
    pub(crate) lane: Lane,
    pub(crate) state: EndState,
    pub(crate) service: ServiceId,
    pub(crate) dialer: IdentityId,
    pub(crate) host: IdentityId,
    /// Routers of the current path, or of the last one.
    pub(crate) routers: Vec<RouterId>,
    /// None while the circuit has no path.
    pub(crate) way: Option<Way>,
    pub(crate) send: Sender,
    pub(crate) receive: Receiver,
    pub(crate) healing: Healing,
    pub(crate) watch: Watch,
    pub(crate) proof: Proof,
    /// What a dial needs to be tried again; none once the circuit stands.
    pub(crate) attempt: Option<Box<Attempt>>,
    /// Where the dialer's end counts as a circuit.
    pub(crate) terminator: Option<TerminatorId>,
    /// A neighbour's request that its host has not answered.
    pub(crate) request: Option<Box<Request>>,
    pub(crate) armed: Option<Instant>,
}

/// What a neighbour has to answer for until a host has answered.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) peer: RouterId,
    pub(crate) bytes: usize,
}

/// This end's side of the proofs.
#[derive(Debug)]
pub(crate) enum Proof {
    Dialer(Prover),
    Host(Verifier),
}

/// A dial that is under way.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) dial: Dial,
    /// Terminators that refused.
    pub(crate) tried: Vec<TerminatorId>,
    pub(crate) count: u32,
    pub(crate) last: Option<DialRefusal>,
}

/// The search for another path.
#[derive(Debug, Default)]
pub(crate) struct Healing {
    /// Since when the circuit has no path.
    pub(crate) since: Option<Instant>,
    /// The path that was asked for.
    pub(crate) asked: Option<Asked>,
    /// When to look for a path again, and how often that was in vain.
    pub(crate) retry: Option<Instant>,
    pub(crate) tries: u32,
    /// When the circuit last got a path.
    pub(crate) moved: Option<Instant>,
    /// How often it moved.
    pub(crate) moves: u32,
    /// How many paths in a row ended at somebody who said that the other end is not there.
    pub(crate) denials: u32,
    avoid: Vec<Lost>,
    avoid_until: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) way: Way,
    pub(crate) routers: Vec<RouterId>,
    pub(crate) until: Instant,
}

impl Healing {
    /// Links that this circuit does not take now.
    pub(crate) fn avoided(&self, now: Instant) -> &[Lost] {
        match self.avoid_until {
            Some(until) if now < until => &self.avoid,
            _ => &[],
        }
    }

    pub(crate) fn avoid(&mut self, lost: impl IntoIterator<Item = Lost>, now: Instant) {
        if self.avoid_until.is_some_and(|until| until <= now) {
            self.avoid.clear();
        }
        for lost in lost {
            if !self.avoid.contains(&lost) && self.avoid.len() < MAX_AVOIDED {
                self.avoid.push(lost);
            }
        }
        self.avoid_until = Some(now + AVOID_TIME);
    }

    pub(crate) fn forgive(&mut self) {
        self.avoid.clear();
    }
}

/// Watches whether what is sent arrives.
#[derive(Debug)]
pub(crate) struct Watch {
    /// When the other end last got something new, or all of it.
    pub(crate) progress: Instant,
    /// When the other end was last asked whether it is there.
    pub(crate) asked: Option<Instant>,
    /// How often it was asked since it last answered.
    pub(crate) unanswered: u32,
    /// When it was last begun to send again.
    pub(crate) repeated: Option<Instant>,
    /// How often that was because nothing arrived, since something did.
    pub(crate) silences: u32,
}

/// A sender whose messages are not acknowledged for this long asks the other end.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// When nothing arrives for this time and two round trips, although the other end answers, what is under way is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// How often that time is doubled.
const MAX_SILENCES: u32 = 5;

impl Watch {
    pub(crate) fn new(now: Instant) -> Self {
        Self { progress: now, asked: None, unanswered: 0, repeated: None, silences: 0 }
    }

    /// Something is about to be sent: from now on, an acknowledgement is expected.
    pub(crate) fn expect(&mut self, send: &Sender, now: Instant) {
        if send.is_idle() {
            *self = Self { repeated: self.repeated, ..Self::new(now) };
        }
    }

    /// The other end acknowledged something, new or not.
    pub(crate) fn handle_answer(&mut self, progress: bool, now: Instant) {
        self.unanswered = 0;
        if progress {
            (self.progress, self.silences) = (now, 0);
        }
    }

    /// Whether what is under way is lost: nothing arrived for so long, although the other end answers. Twice as long
    /// each time, for its acknowledgement may be as late as a full queue is long (RFC 6298, section 5.5).
    pub(crate) fn is_silent(&self, send: &Sender, now: Instant) -> bool {
        let patience = LOST_AFTER + 2 * send.round_trip().unwrap_or_default();
        let since = self.repeated.map_or(self.progress, |at| at.max(self.progress));
        !send.is_idle() && now >= since + patience * (1 << self.silences.min(MAX_SILENCES))
    }

    pub(crate) fn due(&self) -> Instant {
        self.asked.unwrap_or(self.progress).max(self.progress) + ASK_AFTER
    }
}

impl End {
    /// When this end has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let waiting = match self.state {
            EndState::Waiting(until) => Some(until),
            EndState::Open => None,
            EndState::Closing => Some(self.watch.progress + HEAL_TIME),
        };
        let moving = match self.way {
            Some(_) => {
                let watch = (!self.send.is_idle()).then(|| self.watch.due());
                [self.receive.owed(), watch]
            }
            None => [self.healing.since.map(|since| since + HEAL_TIME), self.healing.retry],
        };
        let asked = self.healing.asked.as_ref().map(|asked| asked.until);
        [waiting, asked].into_iter().chain(moving).flatten().min()
    }

    /// Bytes that this router keeps for it.
    pub(crate) fn bytes(&self) -> u64 {
        self.send.kept() + self.receive.held()
    }
}
