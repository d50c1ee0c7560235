//! What the controller says of those at the other end of circuits: routers, which connect the two, are not taken at
//! their word.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nightgate_e2ee::Method;
use nightgate_identity::ProvenIdentity;
use nightgate_model::{entity::Permission, id::ServiceId};
use tokio::time::{Instant, timeout};

use crate::{
    context::Inner, controller::Controller, dial::EndToEnd, rest::ControllerError, service::Service,
};

/// How long it counts that somebody is admitted. A policy that is withdrawn cuts circuits at the routers at once.
const ADMITTED: Duration = Duration::from_secs(60);

/// How long it counts that somebody is not.
const REFUSED: Duration = Duration::from_secs(5);

/// Longest wait for an answer; the dial waits as long.
const PATIENCE: Duration = Duration::from_secs(2);

/// How old a list of services may be to say that some of a side do not speak our method.
const LISTED: Duration = Duration::from_secs(60);

/// Answers that are kept.
const KEPT: usize = 4_096;

/// Why one at the other end of a circuit is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PeerRefusal {
    /// It proved an identity that has no business there.
    #[error("identity {} proved itself, which may not {} this service", .0.id, .1.as_str())]
    NotPermitted(ProvenIdentity, Permission),
    /// It proved nothing, where everybody can.
    #[error("no identity was proven, but everybody who may be there can: a router suppressed it")]
    Downgraded,
}

/// What the controller has said of peers.
#[derive(Default)]
pub(crate) struct Peers(Mutex<HashMap<Question, Answer>>);

type Question = (ServiceId, Permission, ProvenIdentity);

#[derive(Clone, Copy)]
struct Answer {
    is_admitted: bool,
    until: Instant,
}

impl Inner {
    /// Checks the other end of a circuit, on the side of those with this permission. Whoever proved an identity must
    /// have the permission; nobody goes without proof where everybody can prove one.
    pub(crate) async fn check_peer(
        &self,
        service: &Service,
        side: Permission,
        wanted: EndToEnd,
        (method, peer): (Option<Method>, Option<&ProvenIdentity>),
    ) -> Result<(), PeerRefusal> {
        if let Some(peer) = peer {
            return match self.peers.admit(&self.controller, service, side, peer).await {
                true => Ok(()),
                false => Err(PeerRefusal::NotPermitted(peer.clone(), side)),
            };
        }
        let could_be = method.is_some() && wanted.is_negotiated();
        let could_be = could_be && self.credentials().is_some();
        match could_be && self.is_native(service, side).await {
            true => Err(PeerRefusal::Downgraded),
            false => Ok(()),
        }
    }

    /// Whether everybody on a side of the service speaks our own method. Clients come and go, so the controller is
    /// asked again before it is believed; where it does not answer, what it said last counts.
    async fn is_native(&self, service: &Service, side: Permission) -> bool {
        let is_native = |it: &Service| it.id == service.id && it.native_ends.contains(&side);
        if let Some(known) = self.listed_within(LISTED, &service.name)
            && !is_native(&known)
        {
            return false;
        }
        match timeout(PATIENCE, self.list_services()).await {
            Ok(Ok(listed)) => listed.iter().any(is_native),
            Ok(Err(_)) | Err(_) => is_native(service),
        }
    }
}

impl Peers {
    /// Whether the peer has the permission. Where the controller does not answer, what it said last counts, and
    /// if it never did, the word of the routers.
    async fn admit(
        &self,
        controller: &Controller,
        service: &Service,
        side: Permission,
        peer: &ProvenIdentity,
    ) -> bool {
        let question = (service.id.clone(), side, peer.clone());
        let known = self.answers().get(&question).copied();
        if let Some(answer) = known
            && Instant::now() < answer.until
        {
            return answer.is_admitted;
        }
        let asked = timeout(PATIENCE, controller.permissions_of(peer, &service.id)).await;
        let is_admitted = match asked {
            Ok(Ok(permissions)) => permissions.contains(&side),
            Ok(Err(error)) => {
                unknown(peer, Some(&error));
                known.is_none_or(|answer| answer.is_admitted)
            }
            Err(_elapsed) => {
                unknown(peer, None);
                known.is_none_or(|answer| answer.is_admitted)
            }
        };
        self.keep(question, is_admitted);
        is_admitted
    }

    fn keep(&self, question: Question, is_admitted: bool) {
        let now = Instant::now();
        let mut answers = self.answers();
        if answers.len() >= KEPT {
            answers.retain(|_, answer| now < answer.until);
        }
        if answers.len() < KEPT {
            let until = now + if is_admitted { ADMITTED } else { REFUSED };
            answers.insert(question, Answer { is_admitted, until });
        }
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Question, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(peer: &ProvenIdentity, error: Option<&ControllerError>) {
    let error = error.map(|error| error as &dyn Error);
    tracing::warn!(peer = peer.id, error, "the controller did not say what a peer may do");
}
