//! Pushes the replica to routers: once for a burst of changes, encoded once for all routers.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use nightgate_model::control::ControllerMessage;
use nightgate_pki::Authority;
use nightgate_store::StoreError;
use tokio_util::sync::CancellationToken;

use super::{Core, Memory, memory::Snapshot, replica::replica};

/// How long changes are collected before routers are told.
const COALESCE: Duration = Duration::from_millis(20);

/// How long to wait before another try when the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// What routers are told: every subscriber sees the latest, a slow one skips the ones between.
#[derive(Clone)]
pub(crate) struct Published {
    /// Position in the history of changes.
    pub(crate) index: u64,
    /// JSON of the [`ControllerMessage`].
    pub(crate) body: Bytes,
}

impl Published {
    pub(super) fn new(snapshot: &Snapshot, authority: &Authority) -> Self {
        let message = ControllerMessage::Replica(Box::new(replica(snapshot, authority)));
        let body = serde_json::to_vec(&message).expect("maps of the replica have text keys");
        Self { index: snapshot.index, body: body.into() }
    }
}

/// Publishes after changes, until cancelled.
///
/// The pause between publications is at least as long as the last one took, so that a flood of
/// changes of a large model leaves half of the time for requests.
pub(crate) async fn publish_changes(core: Arc<Core>, stop: CancellationToken) {
    let mut pause = COALESCE;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = core.changed.notified() => tokio::time::sleep(pause).await,
        }
        let started = Instant::now();
        if let Err(error) = core.blocking(Core::publish).await {
            tracing::error!(%error, "cannot publish the model to routers");
            tokio::time::sleep(RETRY).await;
            core.changed.notify_one();
        }
        pause = started.elapsed().max(COALESCE);
    }
}

impl Core {
    /// Publishes the state as it is. What routers report has no place in the stored history, so it
    /// takes the next index before it is told.
    fn publish(&self) -> Result<(), StoreError> {
        if self.read(|memory| memory.live_changed) {
            let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            let index = self.store.advance_index()?;
            self.write(|memory| {
                memory.index = index;
                memory.live_changed = false;
            });
        }
        let snapshot = self.read(Memory::snapshot);
        let next = Published::new(&snapshot, &self.authority);
        self.published.send_if_modified(|current| {
            let is_newer = next.index > current.index;
            if is_newer {
                *current = next;
            }
            is_newer
        });
        Ok(())
    }
}
