//! `nightgate terminator ...`

use nightgate_model::entity::Precedence;
use serde::{Deserialize, Serialize};

use super::ManagementArgs;
use crate::output::Table;

/// `nightgate terminator ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TerminatorCommand {
    /// List where services are hosted right now
    List(ManagementArgs),
}

/// A terminator as the controller shows it.
#[derive(Debug, Deserialize, Serialize)]
struct Shown {
    id: String,
    service: Reference,
    router: Reference,
    host: Reference,
    #[serde(rename = "identity")]
    instance: String,
    precedence: Precedence,
    cost: u16,
}

#[derive(Debug, Deserialize, Serialize)]
struct Reference {
    id: String,
    name: String,
}

impl TerminatorCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(args) => list(&args).await,
        }
    }
}

async fn list(args: &ManagementArgs) -> anyhow::Result<()> {
    let terminators = args.connect().await?.list_at("terminators", "").await?;
    let terminators: Vec<Shown> = serde_json::from_value(terminators.into())?;
    args.output.print(&terminators, |terminators| {
        let columns = ["service", "host", "router", "instance", "precedence", "cost", "id"];
        terminators.iter().fold(Table::new(&columns), |table, shown| {
            let instance = if shown.instance.is_empty() { "-" } else { &shown.instance };
            table.row([
                shown.service.name.as_str(),
                &shown.host.name,
                &shown.router.name,
                instance,
                shown.precedence.as_str(),
                &shown.cost.to_string(),
                &shown.id,
            ])
        })
    })
}
