//! What a context does while it lives: its session, its routers and its certificate stay good.

use std::{error::Error, sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::time::{sleep, sleep_until};

use super::{Inner, Kept};

/// Time between two looks at the list of edge routers.
const ROUTERS_INTERVAL: Duration = Duration::from_secs(60);

/// Time between two looks at the end of the certificate.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(3600);

/// Pause before a failed renewal of the API session is tried again.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);

/// Renews the API session before it expires and follows the list of edge routers.
pub(super) async fn keep_up(inner: Arc<Inner>) {
    tokio::join!(
        keep_session(&inner),
        keep_routers(&inner),
        keep_certificate(&inner),
        say_due(&inner)
    );
}

/// Renews the certificate in time, where the new one can be kept.
async fn keep_certificate(inner: &Inner) {
    loop {
        sleep(CERTIFICATE_INTERVAL).await;
        let due = {
            let Kept { identity, in_use } = &*inner.kept.lock().await;
            let now = OffsetDateTime::now_utc().unix_timestamp();
            !in_use || (identity.is_due(now) && identity.path().is_some())
        };
        if due && let Err(error) = inner.renew_certificate().await {
            tracing::warn!(error = &error as &dyn Error, "certificate not renewed");
        }
    }
}

async fn keep_session(inner: &Inner) {
    loop {
        sleep_until(inner.controller.renewal_due().into()).await;
        if let Err(error) = inner.controller.renew().await {
            tracing::warn!(error = &error as &dyn Error, "API session not renewed");
            sleep(RENEWAL_PAUSE).await;
        }
    }
}

/// Says once that a code is waited for.
async fn say_due(inner: &Inner) {
    loop {
        inner.controller.becomes_due(true).await;
        let identity = inner.controller.identity().name;
        tracing::warn!(
            identity,
            "the second factor is due: nothing is dialed or hosted until a code is shown"
        );
        inner.controller.becomes_due(false).await;
    }
}

async fn keep_routers(inner: &Inner) {
    loop {
        sleep(ROUTERS_INTERVAL).await;
        match inner.controller.edge_routers().await {
            Ok(routers) => inner.pool.replace(&routers),
            Err(error) => {
                tracing::info!(error = &error as &dyn Error, "edge routers not listed");
            }
        }
    }
}
