//! The flows of intercepted datagrams that are open, and how many may be.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
};

use super::socket::Ends;

/// Open flows, each with what belongs to it.
#[derive(Debug)]
pub(super) struct Flows<T> {
    open: HashMap<Ends, T>,
    by_client: HashMap<IpAddr, usize>,
    limits: Limits,
}

/// How many flows may be open at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// In all.
    pub(super) all: usize,
    /// Of one client.
    pub(super) client: usize,
}

/// Why no flow can begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    /// Too many of all clients.
    All,
    /// Too many of this client.
    Client,
}

impl<T> Flows<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { open: HashMap::new(), by_client: HashMap::new(), limits }
    }

    /// What belongs to a flow that is open.
    pub(super) fn get(&self, ends: &Ends) -> Option<&T> {
        self.open.get(ends)
    }

    /// Opens a flow.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn open(&mut self, ends: Ends, make: impl FnOnce() -> T) -> Result<&T, Full> {
        if self.open.len() >= self.limits.all {
            return Err(Full::All);
        }
        let of_client = self.by_client.entry(ends.client.ip()).or_default();
        if *of_client >= self.limits.client {
            return Err(Full::Client);
        }
        match self.open.entry(ends) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(free) => {
                *of_client += 1;
                Ok(free.insert(make()))
            }
        }
    }

    /// Forgets a flow.
    pub(super) fn close(&mut self, ends: &Ends) {
        if self.open.remove(ends).is_none() {
            return;
        }
        if let Entry::Occupied(mut of_client) = self.by_client.entry(ends.client.ip()) {
            *of_client.get_mut() -= 1;
            if *of_client.get() == 0 {
                of_client.remove();
            }
        }
        // A flood that is over leaves no memory behind.
        if self.open.capacity() > 4 * self.open.len().max(1_024) {
            self.open.shrink_to_fit();
            self.by_client.shrink_to_fit();
        }
    }

    /// Forgets a flow if what belongs to it is so.
    pub(super) fn close_if(&mut self, ends: &Ends, is_over: impl FnOnce(&T) -> bool) {
        if self.get(ends).is_some_and(is_over) {
            self.close(ends);
        }
    }

    #[cfg(test)]
    fn sizes(&self) -> [usize; 4] {
        [self.open.len(), self.open.capacity(), self.by_client.len(), self.by_client.capacity()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_bounded_in_all_and_for_each_client() {
        let mut flows = Flows::new(Limits { all: 3, client: 2 });
        assert!(flows.open(ends(1, 1), || ()).is_ok());
        assert!(flows.open(ends(1, 2), || ()).is_ok());
        assert_eq!(flows.open(ends(1, 3), || ()), Err(Full::Client));
        assert!(flows.open(ends(2, 1), || ()).is_ok());
        assert_eq!(flows.open(ends(3, 1), || ()), Err(Full::All));
        flows.close(&ends(1, 1));
        flows.close(&ends(1, 1));
        assert!(flows.open(ends(1, 3), || ()).is_ok());
        assert!(flows.get(&ends(1, 3)).is_some() && flows.get(&ends(1, 1)).is_none());
    }

    #[test]
    fn a_flow_that_began_anew_outlives_the_end_of_the_one_before() {
        let mut flows = Flows::new(Limits { all: 3, client: 2 });
        let has_ended = |ended: &bool| *ended;
        assert!(flows.open(ends(1, 1), || true).is_ok());
        flows.close(&ends(1, 1));
        assert!(flows.open(ends(1, 1), || false).is_ok());
        flows.close_if(&ends(1, 1), has_ended);
        assert_eq!(flows.get(&ends(1, 1)), Some(&false));
        assert!(flows.open(ends(1, 2), || true).is_ok());
        flows.close_if(&ends(1, 2), has_ended);
        assert!(flows.get(&ends(1, 2)).is_none());
    }

    #[test]
    fn a_million_abandoned_flows_leave_nothing_behind() {
        let mut flows = Flows::new(Limits { all: 32_768, client: 32_768 });
        for number in 0..1_000_000_u32 {
            assert!(flows.open(numbered(number), || ()).is_ok());
            if number >= 30_000 {
                flows.close(&numbered(number - 30_000));
            }
        }
        for number in 970_000..1_000_000_u32 {
            flows.close(&numbered(number));
        }
        let [open, capacity, clients, client_capacity] = flows.sizes();
        assert_eq!((open, clients), (0, 0));
        assert!(capacity <= 4_096 && client_capacity <= 4_096, "{capacity} {client_capacity}");
    }

    fn numbered(number: u32) -> Ends {
        let [_, client, high, low] = number.to_be_bytes();
        ends(client, u16::from_be_bytes([high, low]))
    }

    fn ends(client: u8, port: u16) -> Ends {
        Ends {
            client: ([10, 1, 0, client], port).into(),
            destination: ([100, 64, 0, 1], 53).into(),
        }
    }
}
