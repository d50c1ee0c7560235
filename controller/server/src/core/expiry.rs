//! Enables identities again that were disabled for a while.

use std::{sync::Arc, time::Duration};

use nightgate_model::entity::Identity;
use nightgate_store::{Author, Step, StoreError, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{Core, Memory};
use crate::clock;

/// How long to wait before another try when the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// Longest sleep: the system's clock may be set while nothing changes.
const LONGEST: Duration = Duration::from_secs(60);

/// Enables each identity whose time has come, until cancelled.
pub(crate) async fn enable_when_due(core: Arc<Core>, stop: CancellationToken) {
    let mut published = core.subscribe();
    loop {
        let wait = match core.read(next_due) {
            None => LONGEST,
            Some(due) => {
                let left = u64::try_from(due.0 - clock::timestamp().0).unwrap_or(0);
                Duration::from_millis(left).min(LONGEST)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = published.changed() => continue,
            () = tokio::time::sleep(wait) => {}
        }
        if let Err(error) = enable_due(&core).await {
            tracing::error!(%error, "cannot enable identities again");
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn next_due(memory: &Memory) -> Option<Timestamp> {
    let identities = memory.model.identities.values();
    let disabled = identities.filter_map(|stored| stored.entity.disabled_until);
    let quarantines = memory.model.quarantines.values().map(|quarantine| quarantine.until);
    disabled.chain(quarantines).min().map(Timestamp)
}

async fn enable_due(core: &Arc<Core>) -> Result<(), StoreError> {
    let now = clock::timestamp();
    if core.read(next_due).is_none_or(|due| due > now) {
        return Ok(());
    }
    core.edit(Author::controller(), move |memory| {
        let due =
            memory.model.identities.values().map(|stored| &stored.entity).filter(|identity| {
                identity.disabled_until.is_some_and(|until| Timestamp(until) <= now)
            });
        let enabled = due.map(|identity| {
            let identity = identity.clone();
            Step::Update(Identity { disabled: false, disabled_until: None, ..identity }.into())
        });
        // Also of those that a person has enabled or disabled since.
        let over = memory.model.quarantines.values();
        let over = over.filter(|quarantine| Timestamp(quarantine.until) <= now);
        let released = over.map(|quarantine| Step::Release(quarantine.identity.clone()));
        Ok((enabled.chain(released).collect(), ()))
    })
    .await
}
