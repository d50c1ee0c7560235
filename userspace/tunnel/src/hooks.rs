//! The hooks, one word on them for all parts of a tunneler.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nightgate_datapath::Tunnel;

/// The hooks at work. They are taken away with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Hooks(Arc<Mutex<Tunnel>>);

impl Hooks {
    /// Shares the hooks.
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        Self(Arc::new(Mutex::new(tunnel)))
    }

    /// Nobody else changes them meanwhile.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tunnel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
