//! What identities use: collected in memory, written to the store every few seconds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nightgate_model::activity::UsageDelta;
use nightgate_store::{StoreError, Timestamp, Usage, UsageKey};
use tokio_util::sync::CancellationToken;

use super::Core;
use crate::clock;

/// Time between two writes: what a crash may cost.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// Writes between two looks at what is too old.
const TRIM_EVERY: u32 = 360;

/// Days that usage is kept, and most lines: each is one hour of one dialer, host and service.
const MAX_DAYS: i64 = 400;
const MAX_LINES: u32 = 2_000_000;

/// Combinations of dialer, host and service that wait to be written, at most; others are not counted.
const MAX_WAITING: usize = 200_000;

/// Milliseconds of a day.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct UsageCounts(BTreeMap<UsageKey, Usage>);

impl UsageCounts {
    /// Counts what a router tells.
    pub(crate) fn add(&mut self, delta: UsageDelta) {
        let UsageDelta { service, dialer, host, circuits, sent, received } = delta;
        self.add_usage(UsageKey { service, dialer, host }, Usage { circuits, sent, received });
    }

    fn add_usage(&mut self, key: UsageKey, usage: Usage) {
        if self.0.len() < MAX_WAITING || self.0.contains_key(&key) {
            *self.0.entry(key).or_default() += usage;
        }
    }
}

/// Writes usage until cancelled, and once more then.
pub(crate) async fn keep_usage(core: Arc<Core>, stop: CancellationToken) {
    let mut writes = 0;
    loop {
        let is_last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(WRITE_EVERY) => false,
        };
        if let Err(error) = core.write_usage().await {
            tracing::error!(%error, "cannot write usage; it waits for the next time");
        }
        if is_last {
            return;
        }
        if writes % TRIM_EVERY == 0 {
            let oldest = Timestamp(clock::timestamp().0 - MAX_DAYS * DAY);
            let trim = core.blocking(move |core| core.store.trim_usage(oldest, MAX_LINES)).await;
            if let Err(error) = trim {
                tracing::error!(%error, "cannot shorten usage");
            }
        }
        writes += 1;
    }
}

impl Core {
    /// What was used since the beginning of an hour, up to now.
    pub(crate) async fn usage(
        self: &Arc<Self>,
        since: Timestamp,
    ) -> Result<Vec<(UsageKey, Usage)>, StoreError> {
        self.write_usage().await?;
        self.blocking(move |core| core.store.usage(since)).await
    }

    async fn write_usage(self: &Arc<Self>) -> Result<(), StoreError> {
        self.blocking(|core| {
            let counts = core.write(|memory| std::mem::take(&mut memory.usage));
            let lines: Vec<_> = counts.0.into_iter().collect();
            if lines.is_empty() {
                return Ok(());
            }
            core.store.add_usage(&lines, clock::timestamp()).inspect_err(|_| {
                core.write(|memory| {
                    lines
                        .iter()
                        .for_each(|(key, usage)| memory.usage.add_usage(key.clone(), *usage));
                });
            })
        })
        .await
    }
}
