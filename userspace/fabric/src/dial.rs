//! Making circuits: authorize, choose a terminator and a path, try another when that fails.

use std::time::{Duration, Instant};

use nightgate_model::{
    entity::{Permission, Terminator},
    id::{IdentityId, RouterId},
};
use nightgate_wire::link::{CircuitId, Frame, PathId};

use crate::{
    Command, Dial, DialRefusal, EndId, FailureCause, KeyShare, Lane, Offer, Role, Router,
    end::{Attempt, End, EndState, Healing, Hop, Proof, Watch, Way},
    flow::{Receiver, Sender},
    open::Open,
    path::{Lost, Path},
    proof::{Key, Prover},
    router::Route,
};

/// A dial that is not answered for this long has failed. Longer than a host's own time to connect
/// to its server (5 s), so that the host's more exact cause arrives first.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often one dial is tried, with another terminator or another path.
const MAX_ATTEMPTS: u32 = 4;

impl Router {
    /// Starts a circuit for a client on a lane; [`Command::Opened`] or [`Command::Refused`] tells how it went.
    ///
    /// # Errors
    /// The model does not allow it, or knows no terminator that can be reached.
    pub fn dial(&mut self, dial: Dial, lane: Lane, now: Instant) -> Result<EndId, DialRefusal> {
        self.check_validity(now)?;
        self.authorize_dial(&dial)?;
        if self.is_full(None) {
            return Err(self.full());
        }
        let proof = Proof::Dialer(self.prover().ok_or_else(|| self.full())?);
        let end = End {
            attempt: Some(Box::new(Attempt::new(dial.clone()))),
            lane,
            ..End::new(CircuitId(0), &dial, proof, now)
        };
        let id = self.insert_end(end, now);
        if let Err(refusal) = self.try_dial(id, now) {
            self.remove_end(id);
            return Err(refusal);
        }
        self.settle(now);
        Ok(id)
    }

    /// Tries the best terminator that has not refused yet, by the best path.
    fn try_dial(&mut self, id: EndId, now: Instant) -> Result<(), DialRefusal> {
        loop {
            let Some(end) = self.ends.get(&id) else { return Ok(()) };
            let Some(attempt) = &end.attempt else { return Ok(()) };
            let avoid = end.healing.avoided(now).to_vec();
            let (dial, tried, last) =
                (attempt.dial.clone(), attempt.tried.clone(), attempt.last.clone());
            if attempt.count >= MAX_ATTEMPTS
                && let Some(last) = last
            {
                return Err(last);
            }
            let (terminator, path) = match self.choose_terminator(&dial, &tried, &avoid, now) {
                Ok(choice) => choice,
                // What was met on the way says more than that nothing is left to try.
                Err(refusal) => return Err(last.unwrap_or(refusal)),
            };
            let Err(refusal) = self.open(id, (&terminator, path), dial, now) else { return Ok(()) };
            self.note_failure(id, refusal, None, now);
        }
    }

    /// Sends the request for a circuit, or offers it to a host of this router.
    fn open(
        &mut self,
        id: EndId,
        (terminator, path): (&Terminator, Path),
        dial: Dial,
        now: Instant,
    ) -> Result<(), DialRefusal> {
        let number = PathId(self.random.number());
        let circuit = CircuitId(number.0);
        let Some(end) = self.ends.get_mut(&id) else { return Ok(()) };
        let Proof::Dialer(prover) = &end.proof else { return Ok(()) };
        let (anchor, lane) = (prover.anchor(), end.lane);
        end.circuit = circuit;
        end.host = terminator.host.clone();
        end.routers.clone_from(&path.routers);
        if let Some(attempt) = &mut end.attempt {
            attempt.count += 1;
        }
        if let Some(before) = end.terminator.replace(terminator.id.clone()) {
            self.loads.end(&before);
        }
        self.loads.begin(&terminator.id, now);
        let offer = Offer { terminator: terminator.id.clone(), dial, request: None };
        let open = Open { path: path.routers, anchor, offer };
        let way = match open.path.get(1) {
            Some(next) => {
                let link = self.link_to(next, lane).ok_or_else(|| no_link(next))?;
                self.add_route(link, number, Route { hop: Hop::End(id), circuit }, now);
                let way = Way { hop: Hop::Link(link), path: number };
                self.emit(way.hop, Frame::Open(number, open.to_headers()));
                way
            }
            None => {
                let host = self.offer(Way { hop: Hop::End(id), path: number }, open, now)?;
                Way { hop: Hop::End(host), path: number }
            }
        };
        if let Some(end) = self.ends.get_mut(&id) {
            end.way = Some(way);
        }
        Ok(())
    }

    pub(crate) fn handle_opened(&mut self, id: EndId, host: KeyShare, now: Instant) {
        if let Some(end) = self.ends.get_mut(&id) {
            end.state = EndState::Open;
            end.attempt = None;
            end.healing.forgive();
            end.healing.moved = Some(now);
            if let Some(terminator) = &end.terminator {
                self.loads.succeed(terminator, now);
            }
            self.commands.push_back(Command::Opened(id, end.circuit, host));
        }
    }

    /// Takes that a host or a router on the way refused.
    pub(crate) fn handle_refused(
        &mut self,
        id: EndId,
        refusal: DialRefusal,
        lost: Option<Lost>,
        now: Instant,
    ) {
        let final_word = !worth_another_try(refusal.cause);
        self.note_failure(id, refusal.clone(), lost, now);
        if final_word {
            return self.give_up_dial(id, refusal);
        }
        self.dial_again(id, now);
    }

    /// Tries again after the path or the terminator of an attempt has failed.
    pub(crate) fn dial_again(&mut self, id: EndId, now: Instant) {
        if let Err(refusal) = self.try_dial(id, now) {
            self.give_up_dial(id, refusal);
        }
    }

    /// What moves a new circuit; `None` if memory is short.
    fn prover(&mut self) -> Option<Prover> {
        let Self { key, random, .. } = self;
        if key.is_none() {
            *key = Key::new(&random.secret());
        }
        key.clone().map(Prover::new)
    }

    fn give_up_dial(&mut self, id: EndId, refusal: DialRefusal) {
        if self.remove_end(id).is_some() {
            self.commands.push_back(Command::Refused(id, refusal));
        }
    }

    fn note_failure(&mut self, id: EndId, refusal: DialRefusal, lost: Option<Lost>, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        let way = end.way.take();
        end.note_refusal(refusal);
        if let Some(attempt) = &mut end.attempt {
            match lost {
                Some(lost) => end.healing.avoid([lost], now),
                None => {
                    if let Some(terminator) = end.terminator.take() {
                        self.loads.end(&terminator);
                        self.loads.fail(&terminator, now);
                        attempt.tried.push(terminator);
                    }
                }
            }
        }
        if let Some(way) = way {
            self.remove_way(way);
        }
    }

    fn authorize_dial(&self, dial: &Dial) -> Result<(), DialRefusal> {
        let known = self.replica.identities.get(&dial.dialer);
        let Some(identity) = known.filter(|_| !self.barred.contains(&dial.dialer)) else {
            let detail = format!("identity {} is unknown or disabled", dial.dialer);
            return Err(DialRefusal::new(FailureCause::Unauthorized, detail));
        };
        let Some(service) = self.replica.services.get(&dial.service) else {
            let detail = format!("service {} is unknown", dial.service);
            return Err(DialRefusal::new(FailureCause::NoService, detail));
        };
        let permission = Permission::Dial;
        if !self.replica.authorizations.allows(&dial.dialer, permission, &dial.service) {
            let detail =
                format!("no policy lets identity {} dial service {}", identity.name, service.name);
            return Err(DialRefusal::new(FailureCause::Unauthorized, detail));
        }
        if !self.reaches(&dial.dialer, &dial.service) {
            let detail = format!(
                "edge-router policies do not let identity {} use service {} through router {}",
                identity.name, service.name, self.id
            );
            return Err(DialRefusal::new(FailureCause::Unauthorized, detail));
        }
        Ok(())
    }
}

impl Attempt {
    fn new(dial: Dial) -> Self {
        Self { dial, tried: Vec::new(), count: 0, last: None }
    }
}

impl End {
    /// Keeps what the dialer is told if nothing else works either.
    pub(crate) fn note_refusal(&mut self, refusal: DialRefusal) {
        if let Some(attempt) = &mut self.attempt {
            attempt.last = Some(refusal);
        }
    }

    /// A dialer's end that has no path yet.
    pub(crate) fn new(circuit: CircuitId, dial: &Dial, proof: Proof, now: Instant) -> Self {
        Self {
            circuit,
            role: Role::Dialer,
            lane: Lane::default(),
            state: EndState::Waiting(now + DIAL_TIMEOUT),
            service: dial.service.clone(),
            dialer: dial.dialer.clone(),
            host: IdentityId::new(""),
            routers: Vec::new(),
            way: None,
            send: Sender::default(),
            receive: Receiver::new(now),
            healing: Healing::default(),
            watch: Watch::new(now),
            proof,
            attempt: None,
            terminator: None,
            request: None,
            armed: None,
        }
    }
}

/// Whether another terminator, or another path to the same one, may do better.
fn worth_another_try(cause: FailureCause) -> bool {
    match cause {
        FailureCause::NoRoute
        | FailureCause::InvalidTerminator
        | FailureCause::Unauthorized
        | FailureCause::HostRefused
        | FailureCause::ConnectionRefused
        | FailureCause::HostUnreachable
        | FailureCause::ConnectTimeout
        | FailureCause::LinkLost
        | FailureCause::NoTerminator
        | FailureCause::NoModel
        | FailureCause::Capacity => true,
        FailureCause::NoService
        | FailureCause::DialTimeout
        | FailureCause::Encryption
        | FailureCause::ClosedByPeer
        | FailureCause::Protocol => false,
    }
}

fn no_link(next: &RouterId) -> DialRefusal {
    DialRefusal::new(FailureCause::NoRoute, format!("no link to router {next}"))
}
