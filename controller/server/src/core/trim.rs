//! Keeps the audit log within its bounds.

use std::{sync::Arc, time::Duration};

use nightgate_store::AuditBounds;
use tokio_util::sync::CancellationToken;

use super::Core;
use crate::clock;

/// Time between two looks: by so much the log may pass its bounds.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Removes the entries beyond the bounds, at once and then from time to time, until cancelled.
pub(crate) async fn keep_audit_short(
    core: Arc<Core>,
    bounds: AuditBounds,
    stop: CancellationToken,
) {
    loop {
        let trimmed =
            core.blocking(move |core| core.store.trim_audit(bounds, clock::timestamp())).await;
        match trimmed {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "audit log shortened"),
            Err(error) => tracing::error!(%error, "cannot shorten the audit log"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
