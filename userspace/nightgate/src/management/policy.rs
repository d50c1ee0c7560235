//! `nightgate policy ...`

use std::path::PathBuf;

use nightgate_model::{
    api::CreateServicePolicy,
    entity::{Permission, Role, Semantic, ServicePolicy},
};
use serde::{Deserialize, Serialize};

use super::{
    ManagementArgs,
    client::{ManagementClient, Named},
    role,
};
use crate::output::{OutputArgs, Table, print_text};

const KIND: &str = "service-policies";

/// `nightgate policy ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PolicyCommand {
    /// Allow identities to dial or bind services
    Create(CreateArgs),
    /// List all policies
    List(ManagementArgs),
    /// Delete a policy; what only it allowed is refused at once
    Delete(NameArgs),
}

/// `nightgate policy create`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Roles: #all is everything, #attribute what carries the attribute, @name one by name or id.

Examples:
  nightgate policy create web-dial dial --identity '#staff' --service @web
  nightgate policy create web-bind bind --identity @gw-b --service @web")]
pub(crate) struct CreateArgs {
    /// Unique name
    name: String,
    /// What it allows
    #[arg(value_enum)]
    permission: PermissionArg,
    /// Role that selects identities; may be repeated
    #[arg(long = "identity", value_name = "ROLE", required = true, value_parser = role::parse)]
    identities: Vec<Role>,
    /// Role that selects services; may be repeated
    #[arg(long = "service", value_name = "ROLE", required = true, value_parser = role::parse)]
    services: Vec<Role>,
    /// An entity needs all of the attributes, not one of them
    #[arg(long)]
    all_of: bool,
    /// Identity file of an administrator (--identity is taken by the roles here)
    #[arg(long, value_name = "FILE", env = "NIGHTGATE_IDENTITY", hide_env_values = true)]
    identity_file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Names one policy.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// Name or id
    name: String,
    #[command(flatten)]
    management: ManagementArgs,
}

/// What a policy allows.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum PermissionArg {
    /// To connect to services
    Dial,
    /// To host services
    Bind,
}

/// A policy as the controller shows it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    policy: ServicePolicy,
    created_at: String,
}

impl From<PermissionArg> for Permission {
    fn from(permission: PermissionArg) -> Self {
        match permission {
            PermissionArg::Dial => Self::Dial,
            PermissionArg::Bind => Self::Bind,
        }
    }
}

impl PolicyCommand {
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
    let client = ManagementClient::connect(&args.identity_file).await?;
    let body = CreateServicePolicy {
        name: args.name,
        permission: args.permission.into(),
        semantic: if args.all_of { Semantic::AllOf } else { Semantic::AnyOf },
        identity_roles: role::resolve(&client, "identities", &args.identities).await?,
        service_roles: role::resolve(&client, "services", &args.services).await?,
    };
    let created = client.create(KIND, &body).await?;
    args.output
        .print(&created, |created| Table::new(&["name", "id"]).row([&body.name, &created.id]))
}

async fn list(args: &ManagementArgs) -> anyhow::Result<()> {
    let client = args.connect().await?;
    let policies: Vec<Shown> = client.list(KIND).await?;
    let identities: Vec<Named> = client.list("identities").await?;
    let services: Vec<Named> = client.list("services").await?;
    args.output.print(&policies, |policies| {
        let columns = ["name", "allows", "identities", "services", "semantic", "created", "id"];
        policies.iter().fold(Table::new(&columns), |table, Shown { policy, created_at }| {
            table.row([
                policy.name.clone(),
                policy.permission.as_str().to_lowercase(),
                role::shown(&policy.identity_roles, &identities),
                role::shown(&policy.service_roles, &services),
                semantic(policy.semantic).into(),
                created_at.clone(),
                policy.id.to_string(),
            ])
        })
    })
}

fn semantic(semantic: Semantic) -> &'static str {
    match semantic {
        Semantic::AllOf => "all of",
        Semantic::AnyOf => "any of",
    }
}
