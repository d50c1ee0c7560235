//! How long to wait before trying again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);

/// Soon enough that a peer that comes back is found within the five seconds an operator waits.
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from 100 ms to 5 s.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }

    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }
}
