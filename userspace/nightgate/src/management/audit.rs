//! `nightgate audit`

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ManagementArgs;
use crate::output::Table;

/// `nightgate audit`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every change of the controller's model is in the log; --json shows the whole entity before and after.

Examples:
  nightgate audit 'name = \"alice\"'
  nightgate audit 'author.name = \"admin\" and action = \"delete\"' --limit 500")]
pub(crate) struct AuditArgs {
    /// Which entries, by at, author.name, action, kind, name, entityId, before.FIELD, after.FIELD
    filter: Option<String>,
    /// Most entries, the latest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    #[command(flatten)]
    management: ManagementArgs,
}

/// An entry as the controller shows it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    at: String,
    author: Author,
    action: String,
    kind: String,
    entity_id: String,
    name: String,
    before: Option<Map<String, Value>>,
    after: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Author {
    id: String,
    name: String,
}

impl AuditArgs {
    /// Prints who changed what.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let client = self.management.connect().await?;
        let limit = self.limit.to_string();
        let filter = self.filter.unwrap_or_default();
        let query = [("filter", filter.as_str()), ("limit", limit.as_str())];
        let entries: Vec<Entry> = client.ask("audit", &query).await?;
        self.management.output.print(&entries, |entries| table(entries))
    }
}

fn table(entries: &[Entry]) -> Table {
    let columns = ["at", "who", "did", "kind", "name", "what"];
    entries.iter().fold(Table::new(&columns), |table, entry| {
        table.row([
            entry.at.as_str(),
            &entry.author.name,
            &entry.action,
            &entry.kind,
            &entry.name,
            &difference(entry),
        ])
    })
}

/// The fields that a change changed, as they are now; `-` if the entity came or went as a whole.
fn difference(entry: &Entry) -> String {
    let (Some(before), Some(after)) = (&entry.before, &entry.after) else { return "-".into() };
    let changed = after.iter().filter(|(field, value)| before.get(*field) != Some(value));
    super::joined(changed.map(|(field, value)| format!("{field}={value}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_says_what_changed() {
        let mut entry: Entry = serde_json::from_value(json!({
            "id": "1", "at": "", "author": { "id": "", "name": "admin" }, "action": "update",
            "kind": "identity", "entityId": "i", "name": "alice",
            "before": { "name": "alice", "disabled": false },
            "after": { "name": "alice", "disabled": true },
        }))
        .unwrap();
        assert_eq!(difference(&entry), "disabled=true");
        entry.after = None;
        assert_eq!(difference(&entry), "-");
    }
}
