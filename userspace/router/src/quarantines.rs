//! Wishes for quarantines that the controller has not answered yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use nightgate_model::id::IdentityId;
use tokio::sync::oneshot;

/// Who waits for the answer about which identity. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantines(Arc<Mutex<BTreeMap<IdentityId, oneshot::Sender<u64>>>>);

impl Quarantines {
    /// Somebody asks, in place of whoever has asked about the same identity before.
    pub(crate) fn asked(&self, identity: IdentityId) -> oneshot::Receiver<u64> {
        let (told, answer) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, told| !told.is_closed());
        waiting.insert(identity, told);
        answer
    }

    /// The controller has done it, at this index of the model.
    pub(crate) fn begun(&self, identity: &IdentityId, index: u64) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = waiting.remove(identity) {
            // Nobody may be waiting any more.
            let _unheard = told.send(index);
        }
    }
}
