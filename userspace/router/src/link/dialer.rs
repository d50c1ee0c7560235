//! Which routers are dialed, and that they stay so.

use std::{collections::HashMap, os::fd::AsFd as _, time::Duration};

use nightgate_model::{id::RouterId, replica::ReplicaRouter};
use nightgate_tls::TlsStream;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinSet, time::sleep};
use tracing::{debug, warn};

use super::{CONNECT_TIME, LinkError, Side, fingerprint, known, lane, prepare, run};
use crate::{Router, backoff::Backoff, control::chain};

/// Of two routers that both listen, the one with the smaller id dials. The other waits this long for it before it
/// tries for itself: there may be no way in the first direction.
const YIELD_TIME: Duration = Duration::from_secs(5);

/// Time between two attempts at a router that this one has no group in common with.
const OTHER_GROUP_PAUSE: Duration = Duration::from_secs(60);

/// A router to dial.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Target {
    address: String,
    /// Whether it will dial this router as well, if it can, and is to be waited for.
    yields: bool,
}

/// Dials every router that listens.
pub(crate) struct Dialer {
    router: Router,
    dialing: HashMap<RouterId, (Target, JoinSet<()>)>,
}

impl Dialer {
    pub(crate) fn new(router: Router) -> Self {
        Self { router, dialing: HashMap::new() }
    }

    pub(crate) async fn run(mut self) {
        if self.router.links.dial.is_empty() {
            return;
        }
        let mut replica = self.router.replica();
        // The one from disk is there already, and another may not come for long.
        replica.mark_changed();
        while replica.changed().await.is_ok() {
            let routers = replica.borrow_and_update().routers.clone();
            let wanted = wanted(self.router.id(), &routers);
            // Dropped tasks end, and their connections with them.
            self.dialing.retain(|id, (target, _)| wanted.get(id) == Some(target));
            for (id, target) in wanted {
                if !self.dialing.contains_key(&id) {
                    let connections = self.connections(&id, &target);
                    self.dialing.insert(id, (target, connections));
                }
            }
        }
    }

    /// Tasks that keep the connections of one link.
    fn connections(&self, peer: &RouterId, target: &Target) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for number in 0..self.router.links.connections {
            let connection = Connection {
                router: self.router.clone(),
                peer: peer.clone(),
                target: target.clone(),
                number,
            };
            let lane = lane(&self.router, peer, number);
            tasks.spawn_on(connection.keep(), self.router.lanes().runtime(lane));
        }
        tasks
    }
}

/// The routers to dial: all that listen.
fn wanted(own: &RouterId, routers: &[ReplicaRouter]) -> HashMap<RouterId, Target> {
    let listening = routers.iter().any(|router| router.id == *own && router.address.is_some());
    let target = |router: &ReplicaRouter| {
        let address = router.address.clone()?;
        Some((router.id.clone(), Target { address, yields: listening && router.id < *own }))
    };
    routers.iter().filter(|router| router.id != *own).filter_map(target).collect()
}

/// One connection of a link.
struct Connection {
    router: Router,
    peer: RouterId,
    target: Target,
    number: usize,
}

impl Connection {
    async fn keep(self) {
        let mut backoff = Backoff::new();
        loop {
            if self.target.yields {
                self.wait_for_turn().await;
            }
            let outcome = self.dial(&mut backoff).await;
            if self.router.is_stopping() {
                return;
            }
            match outcome {
                Ok(()) | Err(LinkError::Duplicate) => {}
                Err(error) => {
                    self.tell(&error);
                    if let LinkError::Groups { .. } = error {
                        sleep(OTHER_GROUP_PAUSE).await;
                    }
                }
            }
            backoff.wait().await;
        }
    }

    /// One of the connections speaks for all of them.
    fn tell(&self, error: &LinkError) {
        let (peer, address, error) = (&self.peer, &self.target.address, chain(error));
        if self.number == 0 {
            warn!(%peer, %address, error, "link down; dialing again");
        } else {
            debug!(%peer, %address, error, "another connection of the link down; dialing again");
        }
    }

    /// Waits until the other router has had the time to dial, and has not.
    async fn wait_for_turn(&self) {
        let accepted = &self.router.accepted;
        loop {
            accepted.wait_for(&self.peer, false).await;
            tokio::select! {
                () = sleep(YIELD_TIME) => return,
                () = accepted.wait_for(&self.peer, true) => {}
            }
        }
    }

    async fn dial(&self, backoff: &mut Backoff) -> Result<(), LinkError> {
        let (router, peer) = (&self.router, &self.peer);
        let connecting = tokio::time::timeout(CONNECT_TIME, self.connect());
        let stream = connecting.await.map_err(|_late| LinkError::Late)??;
        let certificate = stream.peer_certificate();
        let fingerprint = fingerprint(certificate.ok_or(LinkError::Unauthorized)?);
        let known = known(router, &fingerprint).filter(|known| known.id == *peer);
        let peer = known.ok_or(LinkError::Unauthorized)?;
        backoff.reset();
        let socket = stream.tcp().as_fd().try_clone_to_owned()?;
        tokio::select! {
            ended = run(router, (Side::Dialer, socket), stream, &peer) => ended,
            () = router.accepted.wait_for(&peer.id, true), if self.target.yields => {
                Err(LinkError::Duplicate)
            }
        }
    }

    async fn connect(&self) -> Result<TlsStream, LinkError> {
        let address = &self.target.address;
        let wrong = || LinkError::Address { address: address.clone() };
        let (host, _) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_not_a_name| wrong())?;
        let tcp = TcpStream::connect(address).await?;
        prepare(&tcp)?;
        let connector = self.router.own().borrow().links.clone();
        Ok(connector.connect(name, tcp).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(id: &str, address: Option<&str>) -> ReplicaRouter {
        ReplicaRouter {
            id: RouterId::new(id),
            name: id.into(),
            fingerprint: String::new(),
            offered: None,
            origin: String::new(),
            address: address.map(Into::into),
            cost: 0,
            no_traversal: false,
        }
    }

    #[test]
    fn of_two_listening_routers_one_waits_for_the_other() {
        let routers = [router("a", Some("a:443")), router("b", Some("b:443")), router("c", None)];
        let dialed = |own: &str| {
            let wanted = wanted(&RouterId::new(own), &routers);
            let mut targets: Vec<_> =
                wanted.into_values().map(|target| (target.address, target.yields)).collect();
            targets.sort();
            targets
        };
        assert_eq!(dialed("a"), [("b:443".to_owned(), false)]);
        assert_eq!(dialed("b"), [("a:443".to_owned(), true)]);
        assert_eq!(dialed("c"), [("a:443".to_owned(), false), ("b:443".to_owned(), false)]);
    }
}
