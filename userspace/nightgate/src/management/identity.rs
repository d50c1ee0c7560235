//! `nightgate identity ...`

use nightgate_model::{api::CreateIdentity, entity::Identity};
use serde::{Deserialize, Serialize};

use super::{ManagementArgs, joined, token::TokenArgs, yes_or_no};
use crate::output::{Table, print_text};

const KIND: &str = "identities";

/// `nightgate identity ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum IdentityCommand {
    /// Create an identity and print its enrollment token
    Create(CreateArgs),
    /// List all identities
    List(ManagementArgs),
    /// Show one identity
    Show(NameArgs),
    /// Delete an identity; it is cut off at once
    Delete(NameArgs),
}

/// `nightgate identity create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Unique name
    name: String,
    /// Attribute that policies select by #attribute; may be repeated
    #[arg(long = "attribute", value_name = "ATTRIBUTE")]
    attributes: Vec<String>,
    /// May use the management commands
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    management: ManagementArgs,
}

/// Names one identity.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// Name or id
    name: String,
    #[command(flatten)]
    management: ManagementArgs,
}

/// An identity as the controller shows it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    identity: Identity,
    has_api_session: bool,
    created_at: String,
}

impl IdentityCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(args) => create(args).await,
            Self::List(args) => list(&args).await,
            Self::Show(args) => show(&args).await,
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
    let body = CreateIdentity {
        name: args.name,
        is_admin: args.admin,
        role_attributes: args.attributes.into_iter().collect(),
    };
    let created = client.create(KIND, &body).await?;
    args.token.deliver(&args.management, &body.name, &created, "nightgate enroll")
}

async fn list(args: &ManagementArgs) -> anyhow::Result<()> {
    let identities: Vec<Shown> = args.connect().await?.list(KIND).await?;
    args.output.print(&identities, |identities| table(identities))
}

async fn show(args: &NameArgs) -> anyhow::Result<()> {
    let shown: Shown = args.management.connect().await?.find(KIND, &args.name).await?;
    args.management.output.print(&shown, |shown| table(std::slice::from_ref(shown)))
}

fn table(identities: &[Shown]) -> Table {
    let columns = ["name", "attributes", "admin", "state", "session", "created", "id"];
    identities.iter().fold(Table::new(&columns), |table, shown| {
        let identity = &shown.identity;
        table.row([
            identity.name.clone(),
            joined(&identity.role_attributes),
            yes_or_no(identity.is_admin).into(),
            state(identity).into(),
            yes_or_no(shown.has_api_session).into(),
            shown.created_at.clone(),
            identity.id.to_string(),
        ])
    })
}

fn state(identity: &Identity) -> &'static str {
    match (identity.disabled, &identity.fingerprint) {
        (true, _) => "disabled",
        (false, None) => "not enrolled",
        (false, Some(_)) => "enrolled",
    }
}
