//! Flows by their ends, those that have ended a moment ago among them: sensors and capture files ask late.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::ends::plain;

/// A flow that has ended is known for this long: sensors look at a stream when it is over.
pub(crate) const LINGER: Duration = Duration::from_secs(60);

/// Flows that have ended and are still known.
pub(crate) const ENDED: usize = 65_536;

/// IP protocol and both ends of a flow.
pub type Ends = (u8, [SocketAddr; 2]);

/// Flows and what is known of each.
#[derive(Debug)]
pub struct Lingering<T> {
    flows: HashMap<Key, Entry<T>>,
    /// Those that have ended, in that order.
    ended: VecDeque<(Instant, FlowNumber)>,
    last: u64,
}

/// A flow that was entered; another with the same ends has another one.
#[derive(Clone, Copy, Debug)]
pub struct FlowNumber {
    key: Key,
    number: u64,
}

#[derive(Debug)]
struct Entry<T> {
    what: T,
    /// Tells it from others that had the same ends.
    number: u64,
}

/// Protocol and both ends, the lower one first.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Key(u8, SocketAddr, SocketAddr);

impl Key {
    fn new((protocol, [a, b]): Ends) -> Self {
        let (a, b) = (plain(a), plain(b));
        if a <= b { Self(protocol, a, b) } else { Self(protocol, b, a) }
    }

    fn ends(self) -> Ends {
        (self.0, [self.1, self.2])
    }
}

impl FlowNumber {
    /// The flow's protocol and ends, the lower one first.
    pub fn ends(&self) -> Ends {
        self.key.ends()
    }
}

impl<T> Lingering<T> {
    /// Enters a flow that begins.
    pub fn enter(&mut self, ends: Ends, what: T) -> FlowNumber {
        self.forget(Instant::now());
        self.last += 1;
        let (key, number) = (Key::new(ends), self.last);
        self.flows.insert(key, Entry { what, number });
        FlowNumber { key, number }
    }

    /// The flow between two ends, in either order.
    pub fn find(&mut self, ends: Ends) -> Option<&T> {
        self.forget(Instant::now());
        self.flows.get(&Key::new(ends)).map(|entry| &entry.what)
    }

    /// A flow that was entered, unless another has its ends by now.
    pub fn get_mut(&mut self, FlowNumber { key, number }: &FlowNumber) -> Option<&mut T> {
        let entry = self.flows.get_mut(key)?;
        (entry.number == *number).then_some(&mut entry.what)
    }

    /// All that are known.
    pub fn iter(&self) -> impl Iterator<Item = (Ends, &T)> {
        self.flows.iter().map(|(key, entry)| (key.ends(), &entry.what))
    }

    /// A flow has ended.
    pub fn end(&mut self, flow: FlowNumber) {
        let now = Instant::now();
        self.ended.push_back((now, flow));
        self.forget(now);
    }

    pub(crate) fn forget(&mut self, now: Instant) {
        while let Some((ended, FlowNumber { key, number })) = self.ended.front().copied()
            && (now.duration_since(ended) >= LINGER || self.ended.len() > ENDED)
        {
            self.ended.pop_front();
            if self.flows.get(&key).is_some_and(|entry| entry.number == number) {
                self.flows.remove(&key);
            }
        }
    }
}

impl<T> Default for Lingering<T> {
    fn default() -> Self {
        Self { flows: HashMap::new(), ended: VecDeque::new(), last: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_flow_is_found_by_its_ends_in_any_order_also_a_moment_after_its_end() {
        let mut flows = Lingering::default();
        let ends = [end("10.1.0.2:4000"), end("[::ffff:10.77.0.1]:80")];
        let entered = flows.enter((6, ends), 1);
        let other_way = (6, [end("10.77.0.1:80"), end("10.1.0.2:4000")]);
        assert_eq!(flows.find(other_way), Some(&1));
        assert_eq!(flows.find((17, ends)), None, "another protocol");
        assert_eq!(flows.find((6, [ends[0], end("10.77.0.1:81")])), None);
        flows.end(entered);
        assert_eq!(flows.find((6, ends)), Some(&1));
        flows.forget(Instant::now() + LINGER);
        assert_eq!(flows.find((6, ends)), None);
    }

    #[test]
    fn the_end_of_a_flow_does_not_take_the_next_one_with_the_same_ends_away() {
        let mut flows = Lingering::default();
        let ends = (6, [end("10.1.0.2:4000"), end("10.77.0.1:80")]);
        let first = flows.enter(ends, 1);
        flows.end(first);
        flows.enter(ends, 2);
        assert_eq!(flows.get_mut(&first), None);
        flows.forget(Instant::now() + LINGER);
        assert_eq!(flows.find(ends), Some(&2));
    }

    #[test]
    fn those_that_have_ended_are_bounded() {
        let mut flows = Lingering::default();
        for port in 0..u16::MAX {
            for host in ["10.1.0.2", "10.1.0.3"] {
                let client = SocketAddr::new(host.parse().unwrap(), port);
                let entered = flows.enter((6, [client, end("10.77.0.1:80")]), ());
                flows.end(entered);
            }
        }
        assert_eq!(flows.iter().count(), ENDED);
    }
}
