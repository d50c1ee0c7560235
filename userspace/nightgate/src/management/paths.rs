//! `nightgate fabric paths`

use serde_json::Value;

use super::ManagementArgs;
use crate::output::Table;

/// `nightgate fabric paths`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A path costs what its links cost, and 10 for each router after the first; a host adds its own cost. Routers choose by their
own latest measurements: what they report is seconds old.

Examples:
  nightgate fabric paths hub edge        from one router to another, the cheapest path first
  nightgate fabric paths web             from every connected router to the hosts of a service
  nightgate fabric paths web --from hub  from one router only")]
pub(crate) struct PathArgs {
    /// Two routers, or one service
    #[arg(required = true, num_args = 1..=2, value_name = "ROUTER ROUTER | SERVICE")]
    what: Vec<String>,
    /// With a service: only from this router
    #[arg(long, value_name = "ROUTER")]
    from: Option<String>,
    #[command(flatten)]
    management: ManagementArgs,
}

impl PathArgs {
    /// Prints the paths.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let query: Vec<(&str, &str)> = match (&self.what[..], &self.from) {
            ([from, to], None) => vec![("from", from), ("to", to)],
            ([service], None) => vec![("service", service)],
            ([service], Some(from)) => vec![("service", service), ("from", from)],
            _ => anyhow::bail!("--from goes with a service, not with two routers"),
        };
        let paths: Vec<Value> =
            self.management.connect().await?.ask("fabric/paths", &query).await?;
        self.management.output.print(&paths, |paths| table(paths))
    }
}

fn table(paths: &[Value]) -> Table {
    let columns = ["chosen", "from", "to", "host", "cost", "path"];
    paths.iter().fold(Table::new(&columns), |table, path| {
        let text = |field: &str| path[field].as_str().unwrap_or("-").to_owned();
        let chosen = super::yes_or_no(path["chosen"] == true);
        let cost = path["cost"].to_string();
        table.row([chosen.to_owned(), text("from"), text("to"), text("host"), cost, legs(path)])
    })
}

/// The routers, with what the link between two of them costs.
fn legs(path: &Value) -> String {
    let first = path["path"][0].as_str().unwrap_or("-").to_owned();
    path["legs"].as_array().into_iter().flatten().fold(first, |text, leg| {
        format!("{text} -{}-> {}", leg["cost"], leg["to"].as_str().unwrap_or("-"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_shows_what_each_leg_costs() {
        let path = json!({
            "chosen": true, "from": "a", "to": "c", "host": null, "cost": 25,
            "path": ["a", "b", "c"],
            "legs": [{"from": "a", "to": "b", "cost": 2}, {"from": "b", "to": "c", "cost": 3}],
        });
        assert_eq!(legs(&path), "a -2-> b -3-> c");
        assert!(table(&[path]).to_string().contains("yes"), "a table");
    }
}
