//! Counts what becomes of dials, and collects what the controller is told of this router's work.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nightgate_fabric::{CircuitInfo, FailureCause};
use nightgate_model::{
    activity::{Activity, CircuitReport, DialOutcomes, MAX_CIRCUITS, MAX_OUTCOMES, REPORT_EVERY},
    id::ServiceId,
};
use tokio::sync::watch;

use crate::Router;

/// Counts dials by service and outcome. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct DialCounts(Arc<Mutex<Counts>>);

/// By service, and by cause for those that failed.
type Counts = BTreeMap<(ServiceId, Option<FailureCause>), Dials>;

#[derive(Clone, Copy, Debug, Default)]
struct Dials {
    count: u64,
    time: Duration,
}

impl DialCounts {
    /// Counts one dial: the cause for which it failed, if it did, and how long the answer took.
    pub(crate) fn count(&self, service: ServiceId, failed: Option<FailureCause>, took: Duration) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (service, failed);
        if counts.len() >= MAX_OUTCOMES && !counts.contains_key(&key) {
            return;
        }
        let dials = counts.entry(key).or_default();
        dials.count += 1;
        dials.time += took;
    }

    /// What became of them.
    pub(crate) fn outcomes(&self) -> Vec<DialOutcomes> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = |((service, cause), dials): (&(ServiceId, Option<FailureCause>), &Dials)| {
            DialOutcomes {
                service: service.clone(),
                cause: cause.map(|cause| cause.as_str().to_owned()),
                count: dials.count,
                milliseconds: u64::try_from(dials.time.as_millis()).unwrap_or(u64::MAX),
            }
        };
        counts.iter().map(outcome).collect()
    }
}

/// Looks at the router now and then, for the control channel to tell of it.
pub(crate) async fn watch_activity(router: Router, activity: watch::Sender<Arc<Activity>>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(REPORT_EVERY));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let circuits = router.status().await.circuits;
        router.meter.look(&circuits);
        let now = Activity {
            circuit_count: circuits.len() as u64,
            circuits: circuits.into_iter().take(MAX_CIRCUITS).map(report).collect(),
            dials: router.dials.outcomes(),
        };
        activity.send_if_modified(|before| {
            let is_new = **before != now;
            if is_new {
                *before = Arc::new(now);
            }
            is_new
        });
    }
}

fn report(circuit: CircuitInfo) -> CircuitReport {
    CircuitReport {
        id: circuit.id,
        role: circuit.role,
        service: circuit.service,
        dialer: circuit.dialer,
        host: circuit.host,
        path: circuit.path,
        sent: circuit.sent,
        received: circuit.received,
    }
}
