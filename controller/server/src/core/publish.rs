//! Tells routers what changed of the replica: once for a burst of changes, encoded once for all routers.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use nightgate_model::{
    control::{ControllerMessage, Holding},
    replica::{ChangeSet, Digest, Replica},
};
use nightgate_pki::Authority;
use nightgate_store::StoreError;
use tokio_util::sync::CancellationToken;

use super::{Core, Memory, memory::Snapshot, replica::replica};

/// How long changes are collected before routers are told.
const COALESCE: Duration = Duration::from_millis(20);

/// How long to wait before another try when the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// Bytes of changes that are remembered for routers that come back or are slow. Whoever is further behind gets the
/// whole replica.
const HISTORY_BYTES: usize = 4 * 1024 * 1024;

/// Changes that are remembered, however small.
const HISTORY_LENGTH: usize = 1_024;

/// What routers are told: every subscriber sees the latest, and catches up on what it has missed.
#[derive(Clone)]
pub(crate) struct Published {
    /// Position in the history of changes.
    pub(crate) index: u64,
    /// Version of the entities that `replica` was made of.
    model_version: u64,
    digest: Digest,
    replica: Arc<Replica>,
    /// JSON of a message with the replica, once somebody needs it.
    whole: Arc<OnceLock<Bytes>>,
    history: Arc<VecDeque<Arc<Step>>>,
}

/// What led from one publication to the next.
struct Step {
    from: Holding,
    to: Holding,
    /// JSON of a message with the changes.
    body: Bytes,
}

impl Published {
    pub(super) fn new(snapshot: &Snapshot, authority: &Authority) -> Self {
        let replica = replica(snapshot, authority, None);
        Self {
            index: replica.index,
            model_version: snapshot.model_version,
            digest: replica.digest(),
            replica: Arc::new(replica),
            whole: Arc::default(),
            history: Arc::default(),
        }
    }

    /// The publication after this one.
    fn next(&self, snapshot: &Snapshot, authority: &Authority) -> Self {
        let has_same_model = snapshot.model_version == self.model_version;
        let next = replica(snapshot, authority, has_same_model.then_some(&self.replica));
        let changes = ChangeSet::between((&self.replica, self.digest), &next);
        let (index, digest) = (changes.index, changes.digest);
        let step = Step {
            from: self.holding(),
            to: Holding { index, digest },
            body: encode(&ControllerMessage::Changes(Box::new(changes))),
        };
        Self {
            index,
            model_version: snapshot.model_version,
            digest,
            replica: Arc::new(next),
            whole: Arc::default(),
            history: Arc::new(remember(&self.history, step)),
        }
    }

    /// What whoever holds this replica is told to come to this one: changes one after the other, or the whole.
    pub(crate) fn after(&self, holds: Option<Holding>) -> Vec<Bytes> {
        if holds == Some(self.holding()) {
            return Vec::new();
        }
        let known = self.history.iter().position(|step| Some(step.from) == holds);
        match known {
            Some(first) => self.history.range(first..).map(|step| step.body.clone()).collect(),
            None => vec![self.whole()],
        }
    }

    /// What a router holds that was told of this.
    pub(crate) fn holding(&self) -> Holding {
        Holding { index: self.index, digest: self.digest }
    }

    fn whole(&self) -> Bytes {
        let make = || encode(&ControllerMessage::Replica(Box::new(Replica::clone(&self.replica))));
        self.whole.get_or_init(make).clone()
    }
}

/// The history with one more step, and without the oldest ones that are too much.
fn remember(history: &VecDeque<Arc<Step>>, step: Step) -> VecDeque<Arc<Step>> {
    let mut history = history.clone();
    // A step that does not follow the one before cannot be reached by it.
    if history.back().is_some_and(|last| last.to != step.from) {
        history.clear();
    }
    history.push_back(Arc::new(step));
    let mut bytes: usize = history.iter().map(|step| step.body.len()).sum();
    while bytes > HISTORY_BYTES || history.len() > HISTORY_LENGTH {
        let Some(oldest) = history.pop_front() else { break };
        bytes -= oldest.body.len();
    }
    history
}

fn encode(message: &ControllerMessage) -> Bytes {
    serde_json::to_vec(message).expect("maps of the replica have text keys").into()
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
        let current = self.published.borrow().clone();
        if snapshot.index > current.index {
            self.published.send_replace(current.next(&snapshot, &self.authority));
        }
        Ok(())
    }
}
