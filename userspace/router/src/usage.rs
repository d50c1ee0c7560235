//! What the circuits of dialers at this router have carried, until the controller knows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nightgate_fabric::{CircuitInfo, Role};
use nightgate_model::{
    activity::{MAX_USAGE, UsageDelta},
    control::RouterMessage,
    id::{IdentityId, ServiceId},
};

/// Combinations of service, dialer and host that are counted while the controller is away; others are not.
const MAX_LINES: usize = 65_536;

/// Counts. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// What of each circuit that stands has been counted: sent and received.
    counted: HashMap<String, (u64, u64)>,
    /// To be told.
    lines: BTreeMap<Key, Carried>,
    /// Sent, but perhaps not arrived.
    under_way: Vec<(Key, Carried)>,
}

type Key = (ServiceId, IdentityId, IdentityId);

#[derive(Clone, Copy, Debug, Default)]
struct Carried {
    circuits: u64,
    sent: u64,
    received: u64,
}

impl Meter {
    /// Counts a circuit that begins.
    pub(crate) fn opened(&self, circuit: &CircuitInfo) {
        let mut counts = self.lock();
        counts.counted.insert(circuit.id.clone(), (0, 0));
        counts.add(circuit, Carried { circuits: 1, ..Carried::default() });
        counts.look(circuit);
    }

    /// Counts what circuits have carried since they were last looked at. Of one that is over by now, everything has
    /// been counted.
    pub(crate) fn look<'a>(&self, circuits: impl IntoIterator<Item = &'a CircuitInfo>) {
        let mut counts = self.lock();
        circuits.into_iter().for_each(|circuit| counts.look(circuit));
    }

    /// Counts the rest of a circuit that is over.
    pub(crate) fn ended(&self, circuit: &CircuitInfo) {
        let mut counts = self.lock();
        counts.look(circuit);
        counts.counted.remove(&circuit.id);
    }

    /// A connection begins: what may not have arrived is told again.
    pub(crate) fn begin(&self) {
        let mut counts = self.lock();
        for (key, carried) in std::mem::take(&mut counts.under_way) {
            counts.add_to(key, carried);
        }
    }

    /// The next lines to tell, if there are any.
    pub(crate) fn take(&self) -> Option<RouterMessage> {
        let mut counts = self.lock();
        let mut deltas = Vec::new();
        while deltas.len() < MAX_USAGE
            && let Some((key, carried)) = counts.lines.pop_first()
        {
            counts.under_way.push((key.clone(), carried));
            let (service, dialer, host) = key;
            let Carried { circuits, sent, received } = carried;
            deltas.push(UsageDelta { service, dialer, host, circuits, sent, received });
        }
        (!deltas.is_empty()).then_some(RouterMessage::Usage { deltas })
    }

    /// What was taken is on its way, as far as this router can know.
    pub(crate) fn sent(&self) {
        self.lock().under_way.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn look(&mut self, circuit: &CircuitInfo) {
        if circuit.role != Role::Dialer {
            return;
        }
        let Some(counted) = self.counted.get_mut(&circuit.id) else { return };
        // What was seen a moment ago may come later than what was seen since.
        let sent = circuit.sent.saturating_sub(counted.0);
        let received = circuit.received.saturating_sub(counted.1);
        *counted = (counted.0 + sent, counted.1 + received);
        if sent + received > 0 {
            self.add(circuit, Carried { circuits: 0, sent, received });
        }
    }

    fn add(&mut self, circuit: &CircuitInfo, carried: Carried) {
        // Ends know all three.
        let known = (circuit.service.clone(), circuit.dialer.clone(), circuit.host.clone());
        if let (Some(service), Some(dialer), Some(host)) = known {
            self.add_to((service, dialer, host), carried);
        }
    }

    fn add_to(&mut self, key: Key, carried: Carried) {
        if self.lines.len() >= MAX_LINES && !self.lines.contains_key(&key) {
            return;
        }
        let line = self.lines.entry(key).or_default();
        line.circuits += carried.circuits;
        line.sent += carried.sent;
        line.received += carried.received;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(id: &str, sent: u64, received: u64) -> CircuitInfo {
        CircuitInfo {
            id: id.into(),
            role: Role::Dialer,
            service: Some(ServiceId::new("web")),
            dialer: Some(IdentityId::new("alice")),
            host: Some(IdentityId::new("bob")),
            path: vec![],
            sent,
            received,
            window: 0,
            moves: 0,
        }
    }

    fn told(meter: &Meter) -> Vec<(u64, u64, u64)> {
        let Some(RouterMessage::Usage { deltas }) = meter.take() else { return Vec::new() };
        deltas.iter().map(|line| (line.circuits, line.sent, line.received)).collect()
    }

    #[test]
    fn every_byte_is_counted_once() {
        let meter = Meter::default();
        meter.opened(&circuit("1", 0, 0));
        meter.look(&[circuit("1", 5, 7), CircuitInfo { role: Role::Host, ..circuit("2", 9, 9) }]);
        assert_eq!(told(&meter), [(1, 5, 7)]);
        meter.sent();
        meter.look(&[circuit("1", 6, 7)]);
        meter.ended(&circuit("1", 10, 8));
        meter.begin();
        assert_eq!(told(&meter), [(0, 5, 1)]);
        meter.sent();
        meter.look(&[circuit("1", 9, 8)]);
        assert!(told(&meter).is_empty(), "seen before it was over, told after");
    }

    #[test]
    fn what_did_not_leave_is_told_again() {
        let meter = Meter::default();
        meter.opened(&circuit("1", 3, 0));
        assert_eq!(told(&meter), [(1, 3, 0)]);
        meter.look(&[circuit("1", 4, 0)]);
        meter.begin();
        assert_eq!(told(&meter), [(1, 4, 0)]);
    }
}
