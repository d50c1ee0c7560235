//! Reads what sensors say: from files, sockets and calls.

mod follow;
mod socket;
mod webhook;

use std::path::PathBuf;

use nightgate_config::{AlertSource, Verdict};
use nightgate_mirror::verdict::Alert;
use tokio::{sync::mpsc, task::JoinSet};
use tracing::{debug, warn};

/// Alerts that wait to be judged; more wait at their source.
const WAITING: usize = 1_024;

/// Longest line or body, bytes; Suricata's alerts with payloads are shorter.
const LONGEST: usize = 1 << 20;

/// Bytes of events read at a time.
const CHUNK: usize = 64 * 1024;

/// A source of alerts that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AlertsError {
    /// The socket.
    #[error("verdict.alerts: open the socket {}: {source}; expected a path in a folder of the gateway's own", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The port.
    #[error(
        "verdict.alerts: open {address}: {source}; expected a free port of an address of this host"
    )]
    Webhook {
        /// Where it was to listen.
        address: std::net::SocketAddr,
        /// Cause.
        source: std::io::Error,
    },
    /// The token.
    #[error("verdict.alerts: read the token {}: {reason}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The sources of alerts that are open. Dropping it closes them.
#[derive(Debug)]
pub struct Alerts {
    alerts: mpsc::Receiver<Alert>,
    _sources: JoinSet<()>,
}

impl Alerts {
    /// Opens the sources of a configuration.
    ///
    /// # Errors
    /// A socket or port cannot be opened. A file need not be there yet.
    pub async fn open(verdict: &Verdict) -> Result<Self, AlertsError> {
        let (found, alerts) = mpsc::channel(WAITING);
        let mut sources = JoinSet::new();
        for source in &verdict.alerts {
            let found = found.clone();
            match source {
                AlertSource::Eve(path) => {
                    let follower = follow::Follower::open(path.clone()).await;
                    sources.spawn(follower.run(found));
                }
                AlertSource::Socket(path) => {
                    let listener = socket::open(path)?;
                    sources.spawn(socket::serve(listener, found));
                }
                AlertSource::Webhook { listen, token_file } => {
                    let webhook = webhook::Webhook::open(*listen, token_file, found).await?;
                    sources.spawn(webhook.serve());
                }
            }
        }
        Ok(Self { alerts, _sources: sources })
    }

    /// The next alert; never, when all sources are gone.
    pub async fn next(&mut self) -> Alert {
        match self.alerts.recv().await {
            Some(alert) => alert,
            None => std::future::pending().await,
        }
    }
}

/// Passes on the alert that a line of EVE holds, if it holds one.
async fn pass_on(line: &[u8], found: &mpsc::Sender<Alert>) {
    let Ok(text) = std::str::from_utf8(line) else {
        return warn!("a line of events is no UTF-8; it is passed over");
    };
    // Most events are no alerts, and need not be read to know it.
    if !text.contains("alert") {
        return;
    }
    match Alert::from_eve(text) {
        Ok(Some(alert)) => {
            // The gateway is about to end if nobody takes it.
            drop(found.send(alert).await);
        }
        Ok(None) => debug!("an event that is no alert about a flow"),
        Err(error) => warn!(%error, "a line of events cannot be read; it is passed over"),
    }
}
