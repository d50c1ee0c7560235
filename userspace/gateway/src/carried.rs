//! Which circuit carries which connection: what an alert about packets has to do with an identity.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nightgate_mirror::flow::TlsClient;
use nightgate_model::id::{IdentityId, ServiceId};
use nightgate_router::CircuitId;
use tokio::sync::Notify;

use crate::{ends::plain, sight::Sight};

/// A connection that has ended is known for this long: sensors look at a stream when it is over.
const LINGER: Duration = Duration::from_secs(60);

/// Connections that have ended and are still known.
const ENDED: usize = 65_536;

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

/// IP protocol and both ends of a connection.
pub type Ends = (u8, [SocketAddr; 2]);

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
    key: Key,
    number: u64,
}

#[derive(Debug, Default)]
struct Known {
    flows: HashMap<Key, Entry>,
    /// Those that have ended, in that order.
    ended: VecDeque<(Instant, Key, u64)>,
    last: u64,
    /// Dialers whose new connections are told of.
    followed: BTreeSet<IdentityId>,
    /// Those connections, until somebody asks: as many as circuits begin meanwhile.
    begun: Vec<(IdentityId, Ends)>,
}

#[derive(Debug)]
struct Entry {
    carried: Carried,
    /// Tells it from others that had the same addresses.
    number: u64,
    /// What its client has said of TLS.
    tls: Option<Box<TlsClient>>,
}

/// Protocol and both ends, the lower one first.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Key(u8, SocketAddr, SocketAddr);

impl Key {
    fn new(protocol: u8, [a, b]: [SocketAddr; 2]) -> Self {
        let (a, b) = (plain(a), plain(b));
        if a <= b { Self(protocol, a, b) } else { Self(protocol, b, a) }
    }

    fn ends(self) -> Ends {
        (self.0, [self.1, self.2])
    }
}

impl CarriedFlows {
    /// Notes a connection of an IP protocol between two ends.
    pub fn enter(&self, protocol: u8, ends: [SocketAddr; 2], carried: Carried) -> Listed {
        let key = Key::new(protocol, ends);
        let mut known = self.lock();
        known.forget(Instant::now());
        known.last += 1;
        let number = known.last;
        if carried.client.is_none() && known.followed.contains(&carried.dialer) {
            known.begun.push((carried.dialer.clone(), key.ends()));
            self.0.begun.notify_one();
        }
        known.flows.insert(key, Entry { carried, number, tls: None });
        Listed { flows: self.clone(), key, number }
    }

    /// The connection between two ends, in either order.
    pub fn find(&self, protocol: u8, ends: [SocketAddr; 2]) -> Option<Carried> {
        let mut known = self.lock();
        known.forget(Instant::now());
        known.flows.get(&Key::new(protocol, ends)).map(|entry| entry.carried.clone())
    }

    /// What the client of the connection between two ends has said of TLS, if anybody has looked.
    pub fn tls(&self, protocol: u8, ends: [SocketAddr; 2]) -> Option<TlsClient> {
        let known = self.lock();
        known.flows.get(&Key::new(protocol, ends))?.tls.as_deref().cloned()
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
        let is_of_dialer = |(_, Entry { carried, .. }): &(&Key, &Entry)| {
            carried.client.is_none() && carried.dialer == *dialer
        };
        known.flows.iter().filter(is_of_dialer).map(|(key, _)| key.ends()).collect()
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
        let Self { flows, key, number } = self;
        if !flows.0.is_looked_at.load(Ordering::Relaxed) {
            return Sight::default();
        }
        let (flows, key, number) = (flows.clone(), *key, *number);
        Sight::new(move |client| {
            if let Some(entry) = flows.lock().flows.get_mut(&key)
                && entry.number == number
            {
                entry.tls = Some(Box::new(client));
            }
        })
    }
}

impl Known {
    fn forget(&mut self, now: Instant) {
        while let Some((ended, key, number)) = self.ended.front().copied()
            && (now.duration_since(ended) >= LINGER || self.ended.len() > ENDED)
        {
            self.ended.pop_front();
            if self.flows.get(&key).is_some_and(|entry| entry.number == number) {
                self.flows.remove(&key);
            }
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut known = self.flows.lock();
        let now = Instant::now();
        known.ended.push_back((now, self.key, self.number));
        known.forget(now);
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

    #[test]
    fn a_connection_is_found_by_its_ends_in_any_order_also_a_moment_after_its_end() {
        let flows = CarriedFlows::default();
        let ends = [end("10.1.0.2:4000"), end("[::ffff:10.77.0.1]:80")];
        let listed = flows.enter(6, ends, carried(1));
        let other_way = [end("10.77.0.1:80"), end("10.1.0.2:4000")];
        assert_eq!(flows.find(6, other_way), Some(carried(1)));
        assert_eq!(flows.find(17, ends), None, "another protocol");
        assert_eq!(flows.find(6, [ends[0], end("10.77.0.1:81")]), None);
        drop(listed);
        assert_eq!(flows.find(6, ends), Some(carried(1)));
        flows.lock().forget(Instant::now() + LINGER);
        assert_eq!(flows.find(6, ends), None);
    }

    #[test]
    fn the_end_of_a_connection_does_not_take_the_next_one_with_the_same_ends_away() {
        let flows = CarriedFlows::default();
        let ends = [end("10.1.0.2:4000"), end("10.77.0.1:80")];
        drop(flows.enter(6, ends, carried(1)));
        let _second = flows.enter(6, ends, carried(2));
        flows.lock().forget(Instant::now() + LINGER);
        assert_eq!(flows.find(6, ends), Some(carried(2)));
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

    #[test]
    fn those_that_have_ended_are_bounded() {
        let flows = CarriedFlows::default();
        for port in 0..u16::MAX {
            for host in ["10.1.0.2", "10.1.0.3"] {
                let client = SocketAddr::new(host.parse().unwrap(), port);
                drop(flows.enter(6, [client, end("10.77.0.1:80")], carried(1)));
            }
        }
        assert_eq!(flows.lock().flows.len(), ENDED);
    }
}
