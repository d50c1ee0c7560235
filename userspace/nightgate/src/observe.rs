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

/// `nightgate fw flows`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FlowArgs {
    /// Show only flows with this text in an address, zone, rule, service or protocol; all of several
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    #[command(flatten)]
    observe: ObserveArgs,
}

/// What a table shows of a list of objects.
struct Columns {
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
    const fn all(columns: &'static [(&'static str, &'static str)]) -> Self {
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
const LINKS: Columns = Columns::all(&[("router", "peer_name"), ("id", "peer"), ("cost", "cost")]);
const COUNTERS: Columns = Columns::counted(&[
    ("reason", "reason"),
    ("kind", "kind"),
    ("packets", "packets"),
    ("bytes", "bytes"),
]);
const RULES: Columns = Columns::all(&[
    ("rule", "rule"),
    ("action", "action"),
    ("packets", "packets"),
    ("bytes", "bytes"),
]);
const FLOWS: Columns = Columns::all(&[
    ("protocol", "protocol"),
    ("from", "origin"),
    ("to", "destination"),
    ("zones", "zones"),
    ("rule", "rule"),
    ("service", "service"),
    ("sent", "sent_bytes"),
    ("received", "received_bytes"),
    ("idle ms", "idle_ms"),
]);
const MIRROR: Columns = Columns::counted(&[
    ("session", "session"),
    ("outcome", "outcome"),
    ("packets", "packets"),
    ("bytes", "bytes"),
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

/// Prints what was refused, by reason.
pub(crate) async fn drops(args: &ObserveArgs) -> anyhow::Result<()> {
    let mut answer = admin::ask(&args.socket, Topic::Counters).await?;
    if let Some(rows) = answer.as_array_mut() {
        rows.retain(|row| row["kind"] == "drop");
    }
    args.output.print(&answer, |answer| COUNTERS.table(answer))
}

/// Prints the rules with what they decided.
pub(crate) async fn rules(args: &ObserveArgs) -> anyhow::Result<()> {
    print_field(args, Topic::Rules, None, &RULES).await
}

/// Prints the tracked flows.
pub(crate) async fn flows(args: &FlowArgs) -> anyhow::Result<()> {
    let mut answer = admin::ask(&args.observe.socket, Topic::Flows).await?;
    if let Some(rows) = answer.as_array_mut() {
        rows.retain(|row| args.filter.iter().all(|text| mentions(row, text)));
    }
    args.observe.output.print(&answer, |answer| FLOWS.table(answer))
}

/// Whether a text occurs in one of a row's words: addresses, zones, rule, service, protocol.
fn mentions(row: &Value, text: &str) -> bool {
    match row {
        Value::String(word) => word.contains(text),
        Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Prints the copies made for sensors.
pub(crate) async fn mirror(args: &ObserveArgs) -> anyhow::Result<()> {
    print_field(args, Topic::Mirror, None, &MIRROR).await
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
    fn table(&self, answer: &Value) -> Table {
        let titles = self.columns.iter().map(|(title, _)| *title).collect::<Vec<_>>();
        let rows =
            answer.as_array().into_iter().flatten().filter(|row| {
                self.rows == Rows::All || row.get("packets") != Some(&Value::from(0))
            });
        rows.fold(Table::new(&titles), |table, row| {
            table.row(self.columns.iter().map(|(_, field)| cell(row.get(field))))
        })
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
    fn a_filter_looks_into_every_word_of_a_flow() {
        let flow =
            serde_json::json!({"origin": "10.1.0.9:4000", "zones": ["lan", null], "idle_ms": 7});
        assert!(mentions(&flow, "10.1.0.9") && mentions(&flow, "lan"));
        assert!(!mentions(&flow, "wan") && !mentions(&flow, "7"));
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
