//! `nightgate terminator ...`

use anyhow::ensure;
use nightgate_model::{
    entity::{Precedence, Service, TerminatorSetting},
    id::IdentityId,
    kind::EntityKind,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::{ManagementArgs, client::Named};
use crate::output::{Table, print_text};

/// `nightgate terminator ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TerminatorCommand {
    /// List where services are hosted right now
    List(ManagementArgs),
    /// Decide what dialers choose a host by, whatever it says itself
    Set(SetArgs),
    /// Leave it to the host again
    Reset(WhichArgs),
}

/// Names the terminators of one host.
#[derive(Debug, clap::Args)]
pub(crate) struct WhichArgs {
    /// Service, by name or id
    service: String,
    /// Identity that hosts it, by name or id
    host: String,
    /// Instance name under which it hosts
    #[arg(long, value_name = "NAME", default_value = "")]
    instance: String,
    #[command(flatten)]
    management: ManagementArgs,
}

/// `nightgate terminator set`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is not mentioned stays as it is. It holds for all routers at which the host is, and stays when the host
goes and comes back:
  nightgate terminator set web server-1 --precedence failed     take others, if there are any
  nightgate terminator set web server-2 --cost 100
  nightgate terminator reset web server-1")]
pub(crate) struct SetArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// required (before all others), default, or failed (after all others)
    #[arg(long)]
    precedence: Option<Precedence>,
    /// Cost, 0 to 65535; the lower is preferred
    #[arg(long)]
    cost: Option<u16>,
}

/// A terminator as the controller shows it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    service: Reference,
    router: Reference,
    host: Reference,
    #[serde(rename = "identity")]
    instance: String,
    precedence: Precedence,
    cost: u16,
    host_precedence: Precedence,
    host_cost: u16,
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
            Self::Set(SetArgs { which, precedence, cost }) => {
                ensure!(
                    precedence.is_some() || cost.is_some(),
                    "decide --precedence, --cost or both"
                );
                let decide = |setting: TerminatorSetting| TerminatorSetting {
                    precedence: precedence.or(setting.precedence),
                    cost: cost.or(setting.cost),
                    ..setting
                };
                which.decide(decide).await
            }
            Self::Reset(which) => {
                let decide =
                    |it: TerminatorSetting| TerminatorSetting::none(it.identity, &it.instance);
                which.decide(decide).await
            }
        }
    }
}

impl WhichArgs {
    async fn decide(
        self,
        decide: impl FnOnce(TerminatorSetting) -> TerminatorSetting,
    ) -> anyhow::Result<()> {
        let client = self.management.connect().await?;
        let service: Named = client.find(EntityKind::Service, &self.service).await?;
        let host: Named = client.find(EntityKind::Identity, &self.host).await?;
        let change = |mut service: Service| {
            let setting = service.setting(&IdentityId::new(host.id), &self.instance);
            service.decide(decide(setting));
            Map::from_iter([("terminators".to_owned(), json!(service.terminators))])
        };
        client.update_from(&service.id, change).await?;
        print_text(&format!("{} updated", service.name))
    }
}

async fn list(args: &ManagementArgs) -> anyhow::Result<()> {
    let terminators = args.connect().await?.list_at("terminators", "").await?;
    let terminators: Vec<Shown> = serde_json::from_value(terminators.into())?;
    args.output.print(&terminators, |terminators| {
        let columns =
            ["service", "host", "router", "instance", "precedence", "cost", "host says", "id"];
        terminators.iter().fold(Table::new(&columns), |table, shown| {
            let instance = if shown.instance.is_empty() { "-" } else { &shown.instance };
            table.row([
                shown.service.name.as_str(),
                &shown.host.name,
                &shown.router.name,
                instance,
                shown.precedence.as_str(),
                &shown.cost.to_string(),
                &format!("{} {}", shown.host_precedence.as_str(), shown.host_cost),
                &shown.id,
            ])
        })
    })
}
