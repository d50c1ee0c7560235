//! Which circuit carries which connection: what an alert about packets has to do with an identity.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nightgate_mirror::flow::TlsClient;
use nightgate_model::id::{IdentityId, ServiceId};
use nightgate_router::CircuitId;
use tokio::sync::Notify;

pub use crate::lingering::Ends;
use crate::{
    lingering::{FlowNumber, Lingering},
    sight::Sight,
};

/// A connection of a client or to a server, and the circuit that carries it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Carried {
    /// The service.
    pub service: ServiceId,
    /// Who dialed.
    pub dialer: IdentityId,
    /// The circuit.
    pub circuit: CircuitId,
    /// Address of the client, where it is connected to this gateway.
    pub client: Option<IpAddr>,
}

/// The connections that are carried, and those that were until a moment ago. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct CarriedFlows(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    /// A connection of a dialer that is followed has begun.
    begun: Notify,
    /// Whether somebody wants to know what clients say first.
    is_looked_at: AtomicBool,
}

/// A connection in the list. It has ended when this is dropped.
#[derive(Debug)]
pub struct Listed {
    flows: CarriedFlows,
    number: FlowNumber,
}

#[derive(Debug, Default)]
struct Known {
    flows: Lingering<Entry>,
    /// Dialers whose new connections are told of.
    followed: BTreeSet<IdentityId>,
    /// Those connections, until somebody asks: as many as circuits begin meanwhile.
    begun: Vec<(IdentityId, Ends)>,
}

#[derive(Debug)]
struct Entry {
    carried: Carried,
    /// What its client has said of TLS.
    tls: Option<Box<TlsClient>>,
}

impl CarriedFlows {
    /// Notes a connection of an IP protocol between two ends.
    pub fn enter(&self, protocol: u8, ends: [SocketAddr; 2], carried: Carried) -> Listed {
        let mut known = self.lock();
        let is_followed = carried.client.is_none() && known.followed.contains(&carried.dialer);
        let dialer = is_followed.then(|| carried.dialer.clone());
        let number = known.flows.enter((protocol, ends), Entry { carried, tls: None });
        if let Some(dialer) = dialer {
            known.begun.push((dialer, number.ends()));
            self.0.begun.notify_one();
        }
        Listed { flows: self.clone(), number }
    }

    /// The connection between two ends, in either order.
    pub fn find(&self, protocol: u8, ends: [SocketAddr; 2]) -> Option<Carried> {
        self.lock().flows.find((protocol, ends)).map(|entry| entry.carried.clone())
    }

    /// What the client of the connection between two ends has said of TLS, if anybody has looked.
    pub fn tls(&self, protocol: u8, ends: [SocketAddr; 2]) -> Option<TlsClient> {
        self.lock().flows.find((protocol, ends))?.tls.as_deref().cloned()
    }

    /// Whether what clients say first is looked at in connections that begin from now on.
    pub fn look(&self, is_looked_at: bool) {
        self.0.is_looked_at.store(is_looked_at, Ordering::Relaxed);
    }

    /// The connections to servers here of an identity that dials from elsewhere; from now on, [`Self::begun`] tells of its
    /// new ones.
    pub fn follow(&self, dialer: &IdentityId) -> Vec<Ends> {
        let mut known = self.lock();
        known.followed.insert(dialer.clone());
        let is_of_dialer = |(_, Entry { carried, .. }): &(Ends, &Entry)| {
            carried.client.is_none() && carried.dialer == *dialer
        };
        known.flows.iter().filter(is_of_dialer).map(|(ends, _)| ends).collect()
    }

    /// Tells no more of an identity's new connections.
    pub fn unfollow(&self, dialer: &IdentityId) {
        self.lock().followed.remove(dialer);
    }

    /// The connections that have begun of those who are followed.
    pub async fn begun(&self) -> Vec<(IdentityId, Ends)> {
        loop {
            let begun = std::mem::take(&mut self.lock().begun);
            if !begun.is_empty() {
                return begun;
            }
            self.0.begun.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// Looks at what the client says first, if that is wanted, and notes it.
    pub fn sight(&self) -> Sight {
        let Self { flows, number } = self;
        if !flows.0.is_looked_at.load(Ordering::Relaxed) {
            return Sight::default();
        }
        let (flows, number) = (flows.clone(), *number);
        Sight::new(move |client| {
            if let Some(entry) = flows.lock().flows.get_mut(&number) {
                entry.tls = Some(Box::new(client));
            }
        })
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.flows.lock().flows.end(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn carried(circuit: u64) -> Carried {
        let (service, dialer) = (ServiceId::new("s"), IdentityId::new("i"));
        Carried { service, dialer, circuit: CircuitId(circuit), client: None }
    }

    #[tokio::test]
    async fn new_connections_of_who_is_followed_are_told_of() {
        let flows = CarriedFlows::default();
        let server = end("10.77.0.1:80");
        let [first, second, third] = ["10.1.0.2:1", "10.1.0.2:2", "10.1.0.2:3"].map(end);
        let _first = flows.enter(6, [first, server], carried(1));
        let dialer = IdentityId::new("i");
        assert_eq!(flows.follow(&dialer), [(6, [first, server])]);
        let of_a_client = Carried { client: Some(first.ip()), ..carried(9) };
        let _other = flows.enter(6, [third, server], of_a_client);
        let _second = flows.enter(6, [second, server], carried(2));
        assert_eq!(flows.begun().await, [(dialer.clone(), (6, [second, server]))]);
        flows.unfollow(&dialer);
        let _third = flows.enter(6, [third, server], carried(3));
        assert!(flows.lock().begun.is_empty());
    }
}
