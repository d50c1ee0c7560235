//! Counts what hosts say of their servers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nightgate_model::{activity::MAX_OUTCOMES, id::ServiceId};

/// Health events by service, and by whether the host's check passed. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct HealthEvents(Arc<Mutex<Counts>>);

type Counts = BTreeMap<(ServiceId, bool), u64>;

impl HealthEvents {
    /// Counts one.
    pub(crate) fn count(&self, service: ServiceId, passed: bool) {
        let mut counts = self.counts();
        let key = (service, passed);
        if counts.len() < MAX_OUTCOMES || counts.contains_key(&key) {
            *counts.entry(key).or_default() += 1;
        }
    }

    /// What has been counted since the router started.
    pub(crate) fn totals(&self) -> Vec<((ServiceId, bool), u64)> {
        self.counts().iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
