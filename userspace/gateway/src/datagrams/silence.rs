//! How long a flow has been silent, which is how it ends.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// When a flow has last said something, and how long it may be silent then.
#[derive(Debug)]
pub(crate) struct Silence(Mutex<(Instant, Duration)>);

impl Silence {
    /// Begins now.
    pub(crate) fn new(limit: Duration) -> Self {
        Self(Mutex::new((Instant::now(), limit)))
    }

    /// Something is said.
    pub(crate) fn spoken(&self) {
        self.lock().0 = Instant::now();
    }

    /// From now on it may be silent for so long.
    pub(crate) fn allow(&self, limit: Duration) {
        self.lock().1 = limit;
    }

    /// Waits until it has been silent for too long.
    pub(crate) async fn over(&self) {
        loop {
            let (last, limit) = *self.lock();
            if last.elapsed() >= limit {
                return;
            }
            sleep_until(last + limit).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Instant, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_over_when_nothing_was_said_for_as_long_as_is_allowed() {
        let silence = Silence::new(Duration::from_secs(3_600));
        silence.spoken();
        let waited = tokio::time::timeout(Duration::from_millis(10), silence.over()).await;
        assert!(waited.is_err());
        silence.allow(Duration::from_millis(1));
        silence.over().await;
    }
}
