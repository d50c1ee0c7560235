//! `nightgate router create | list | delete`

use nightgate_model::{api::CreateEdgeRouter, entity::EdgeRouter};
use serde::{Deserialize, Serialize};

use super::{ManagementArgs, token::TokenArgs, yes_or_no};
use crate::output::{Table, print_text};

const KIND: &str = "edge-routers";

/// The commands of `nightgate router` that the controller answers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ManageRouterCommand {
    /// Create a router or gateway at the controller and print its enrollment token
    Create(CreateArgs),
    /// List all routers and gateways of the controller
    List(ManagementArgs),
    /// Delete a router or gateway; it is cut off at once
    Delete(NameArgs),
}

/// `nightgate router create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Unique name
    name: String,
    /// Gets an identity of its own, so that it may dial and host: for gateways
    #[arg(long)]
    tunneler: bool,
    /// Attribute of that identity, selected in policies by #attribute; may be repeated
    #[arg(long = "attribute", value_name = "ATTRIBUTE", requires = "tunneler")]
    attributes: Vec<String>,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    management: ManagementArgs,
}

/// Names one router.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// Name or id
    name: String,
    #[command(flatten)]
    management: ManagementArgs,
}

/// A router as the controller shows it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    router: EdgeRouter,
    is_online: bool,
    created_at: String,
}

impl ManageRouterCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(args) => create(args).await,
            Self::List(args) => list(&args).await,
            Self::Delete(args) => {
                let deleted = args.management.connect().await?.delete(KIND, &args.name).await?;
                print_text(&format!("{} deleted", deleted.name))
            }
        }
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    args.token.check()?;
    let client = args.management.connect().await?;
    let body = CreateEdgeRouter {
        name: args.name,
        is_tunneler_enabled: args.tunneler,
        role_attributes: args.attributes.into_iter().collect(),
    };
    let created = client.create(KIND, &body).await?;
    args.token.deliver(&args.management, &body.name, &created, "nightgate router enroll")
}

async fn list(args: &ManagementArgs) -> anyhow::Result<()> {
    let routers: Vec<Shown> = args.connect().await?.list(KIND).await?;
    args.output.print(&routers, |routers| table(routers))
}

fn table(routers: &[Shown]) -> Table {
    let columns = ["name", "state", "address", "tunneler", "created", "id"];
    routers.iter().fold(Table::new(&columns), |table, shown| {
        let router = &shown.router;
        table.row([
            router.name.clone(),
            state(shown).into(),
            router.address.clone().unwrap_or_else(|| "-".into()),
            yes_or_no(router.is_tunneler_enabled).into(),
            shown.created_at.clone(),
            router.id.to_string(),
        ])
    })
}

fn state(shown: &Shown) -> &'static str {
    match (shown.router.disabled, &shown.router.fingerprint, shown.is_online) {
        (true, _, _) => "disabled",
        (false, None, _) => "not enrolled",
        (false, Some(_), false) => "offline",
        (false, Some(_), true) => "online",
    }
}
