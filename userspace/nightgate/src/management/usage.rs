//! `nightgate usage`

use serde_json::Value;

use super::ManagementArgs;
use crate::{cut_off::duration, observe::Columns};

/// `nightgate usage`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Bytes are those of circuits, encryption included: SENT from the dialer to the host, RECEIVED the other way. Routers tell every
5 s, the controller writes every 10 s, by the hour: a crash costs no more than that.

Examples:
  nightgate usage --since 24h
  nightgate usage --identity alice --since 2026-11-01T00:00:00Z --json")]
pub(crate) struct UsageArgs {
    /// Only of this identity, as dialer or as host
    #[arg(long, value_name = "IDENTITY")]
    identity: Option<String>,
    /// Only of this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Since when: so long ago (90m, 24h, 30d), or a time as in RFC 3339; the whole of that hour [default: always]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    management: ManagementArgs,
}

const USAGE: Columns = Columns::all(&[
    ("dialer", "dialer"),
    ("service", "service"),
    ("host", "host"),
    ("circuits", "circuits"),
    ("sent", "sent"),
    ("received", "received"),
]);

impl UsageArgs {
    /// Prints what was used.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        // A time has a T; what has none is an age.
        let ago = self.since.as_deref().filter(|text| !text.contains('T'));
        let ago = ago.map(|text| {
            duration(text).map_err(|expected| {
                anyhow::anyhow!("--since {expected}, or a time as 2026-11-01T00:00:00Z")
            })
        });
        let ago = ago.transpose()?;
        let ago = ago.map(|ago| ago.as_secs().to_string());
        let since = self.since.filter(|_| ago.is_none());
        let parameters = [
            ("identity", &self.identity),
            ("service", &self.service),
            ("since", &since),
            ("ago", &ago),
        ];
        let query: Vec<_> = parameters
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
            .collect();
        let lines: Value = self.management.connect().await?.ask("usage", &query).await?;
        self.management.output.print(&lines, |lines| USAGE.table(lines))
    }
}
