//! Commands that look into a running router or gateway through its admin socket.

use std::path::PathBuf;

use anyhow::Context as _;
use nightgate_gateway::admin::{self, Topic};
use serde_json::Value;

use crate::output::{OutputArgs, Table, print_text};

/// Which process to ask, and how to print its answer.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ObserveArgs {
    /// Admin socket of the router or gateway: `admin_socket` in its configuration
    #[arg(
        long,
        value_name = "PATH",
        env = "NIGHTGATE_SOCKET",
        default_value = "/run/nightgate/gateway.sock"
    )]
    pub(crate) socket: PathBuf,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What to show of the mirror.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MirrorArgs {
    /// Show the sensors, their health and what they were sent, and not the sessions
    #[arg(long)]
    sensors: bool,
    #[command(flatten)]
    observe: ObserveArgs,
}

/// What a table shows of a list of objects.
pub(crate) struct Columns {
    rows: Rows,
    /// Title of each column, and the field that it shows.
    columns: &'static [(&'static str, &'static str)],
}

/// Which objects get a row.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Rows {
    All,
    /// Those whose packets are not 0: most reasons and outcomes never happen. The JSON has them all.
    Counted,
}

impl Columns {
    pub(crate) const fn all(columns: &'static [(&'static str, &'static str)]) -> Self {
        Self { rows: Rows::All, columns }
    }

    const fn counted(columns: &'static [(&'static str, &'static str)]) -> Self {
        Self { rows: Rows::Counted, columns }
    }
}

const CIRCUITS: Columns = Columns::all(&[
    ("id", "id"),
    ("role", "role"),
    ("service", "service_name"),
    ("dialer", "dialer_name"),
    ("host", "host_name"),
    ("path", "path_names"),
    ("sent", "sent"),
    ("received", "received"),
]);
const LINKS: Columns = Columns::all(&[
    ("router", "peer_name"),
    ("id", "peer"),
    ("cost", "cost"),
    ("round trip, us", "round_trip_us"),
    ("queued", "queued"),
    ("dropped", "dropped"),
    ("sent", "sent"),
    ("received", "received"),
    ("segments", "segments"),
    ("sent again", "repeated"),
]);
const COUNTERS: Columns = Columns::counted(&[
    ("reason", "reason"),
    ("kind", "kind"),
    ("packets", "packets"),
    ("bytes", "bytes"),
]);
const DROPS: Columns = Columns::all(&[
    ("reason", "reason"),
    ("interface", "interface"),
    ("side", "hook"),
    ("packets", "packets"),
    ("bytes", "bytes"),
]);
const RULES: Columns = Columns::all(&[
    ("rule", "rule"),
    ("action", "action"),
    ("becomes", "becomes"),
    ("packets", "packets"),
    ("bytes", "bytes"),
    ("last hit", "last_hit_age_ms"),
]);
pub(crate) const FLOWS: Columns = Columns::all(&[
    ("protocol", "protocol"),
    ("from", "origin"),
    ("to", "destination"),
    ("from, outside", "origin_appears_as"),
    ("to, outside", "destination_appears_as"),
    ("zones", "zones"),
    ("rule", "rule"),
    ("service", "service"),
    ("state", "state"),
    ("sent", "sent_bytes"),
    ("received", "received_bytes"),
    ("age", "age_ms"),
    ("idle", "idle_ms"),
]);
const MIRROR: Columns = Columns::counted(&[
    ("session", "session"),
    ("outcome", "outcome"),
    ("packets", "packets"),
    ("bytes", "bytes"),
]);
const SENSORS: Columns = Columns::all(&[
    ("sensor", "sensor"),
    ("interface", "interface"),
    ("address", "address"),
    ("encapsulation", "encapsulation"),
    ("state", "state"),
    ("trouble", "trouble"),
    ("changes", "changes"),
    ("packets", "packets"),
    ("bytes", "bytes"),
    ("queue drops", "queue_drops"),
]);
const VERDICTS: Columns = Columns::all(&[
    ("at", "judged_at"),
    ("signature", "signature"),
    ("severity", "severity"),
    ("service", "service"),
    ("identity", "identity"),
    ("client", "client"),
    ("server", "server"),
    ("decision", "decision"),
    ("rule", "rule"),
    ("done", "done"),
]);
pub(crate) const QUARANTINE: Columns = Columns::all(&[
    ("address", "address"),
    ("identity", "identity"),
    ("rate", "rate"),
    ("left", "left_ms"),
]);
const NAMES: Columns = Columns::all(&[("name", "name"), ("ipv4", "v4"), ("ipv6", "v6")]);

/// Prints the circuits.
pub(crate) async fn circuits(args: &ObserveArgs) -> anyhow::Result<()> {
    print_field(args, Topic::Router, Some("circuits"), &CIRCUITS).await
}

/// Prints the links.
pub(crate) async fn links(args: &ObserveArgs) -> anyhow::Result<()> {
    print_field(args, Topic::Router, Some("links"), &LINKS).await
}

/// Prints what became of packets.
pub(crate) async fn counters(args: &ObserveArgs) -> anyhow::Result<()> {
    print_field(args, Topic::Counters, None, &COUNTERS).await
}

/// Prints what was refused, by reason and interface.
pub(crate) async fn drops(args: &ObserveArgs) -> anyhow::Result<()> {
    print_field(args, Topic::Drops, None, &DROPS).await
}

/// Prints the rules with what they decided.
pub(crate) async fn rules(args: &ObserveArgs) -> anyhow::Result<()> {
    print_field(args, Topic::Rules, None, &RULES).await
}

/// Prints the copies made for sensors, or the sensors.
pub(crate) async fn mirror(args: &MirrorArgs) -> anyhow::Result<()> {
    if args.sensors {
        return print_field(&args.observe, Topic::Sensors, None, &SENSORS).await;
    }
    print_field(&args.observe, Topic::Mirror, None, &MIRROR).await
}

/// Prints alerts and what was done about them.
pub(crate) async fn verdicts(args: &ObserveArgs) -> anyhow::Result<()> {
    print_field(args, Topic::Verdicts, None, &VERDICTS).await
}

/// Prints the private names.
pub(crate) async fn names(args: &ObserveArgs) -> anyhow::Result<()> {
    print_field(args, Topic::Names, None, &NAMES).await
}

/// Prints the metrics as they are scraped.
pub(crate) async fn metrics(args: &ObserveArgs) -> anyhow::Result<()> {
    let answer = admin::ask(&args.socket, Topic::Metrics).await?;
    print_text(answer.as_str().context("metrics: expected text")?)
}

/// Asks for a list, which is the answer or one field of it, and prints it.
async fn print_field(
    args: &ObserveArgs,
    topic: Topic,
    field: Option<&str>,
    columns: &Columns,
) -> anyhow::Result<()> {
    let mut answer = admin::ask(&args.socket, topic).await?;
    if let Some(field) = field {
        answer = answer.get_mut(field).map(Value::take).unwrap_or_default();
    }
    args.output.print(&answer, |answer| columns.table(answer))
}

impl Columns {
    pub(crate) fn table(&self, answer: &Value) -> Table {
        let titles = self.columns.iter().map(|(title, _)| *title).collect::<Vec<_>>();
        let rows =
            answer.as_array().into_iter().flatten().filter(|row| {
                self.rows == Rows::All || row.get("packets") != Some(&Value::from(0))
            });
        rows.fold(Table::new(&titles), |table, row| {
            table.row(self.columns.iter().map(|(_, field)| match row.get(field) {
                Some(Value::Number(time)) if field.ends_with("_ms") => duration(time.as_u64()),
                value => cell(value),
            }))
        })
    }
}

/// Milliseconds for people: the two largest units that are not 0.
fn duration(milliseconds: Option<u64>) -> String {
    let Some(milliseconds) = milliseconds else { return "-".into() };
    let seconds = milliseconds / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m{}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{}m", minutes % 60),
        86_400.. => format!("{days}d{}h", hours % 24),
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) if text.is_empty() => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(" > ")
        }
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::Object(_))) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        for (milliseconds, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (61_999, "1m1s"),
            (3_660_000, "1h1m"),
            (90_000_000, "1d1h"),
        ] {
            assert_eq!(duration(Some(milliseconds)), text);
        }
        let row = serde_json::json!([{"rule": "a", "last_hit_age_ms": 61_000}, {"rule": "b"}]);
        let table = RULES.table(&row).to_string();
        assert!(table.contains("1m1s") && table.lines().nth(2).unwrap().ends_with('-'), "{table}");
    }

    #[test]
    fn lists_become_tables_with_a_dash_for_what_is_missing() {
        let answer = serde_json::json!([
            {"id": "0a", "role": "dialer", "service_name": "web", "path_names": ["a", "b"], "sent": 7},
        ]);

        let text = CIRCUITS.table(&answer).to_string();

        let row = text.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(row, ["0a", "dialer", "web", "-", "-", "a", ">", "b", "7", "-"]);
    }
}
