//! `nightgate policy ...`

use nightgate_model::{
    entity::{Permission, Role, Semantic, ServicePolicy},
    kind::EntityKind,
    spec::ServicePolicySpec,
};
use serde::Serialize;

use super::{
    entity::{Managed, Names, Shown},
    role,
};

/// `nightgate policy create`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Roles: #all is everything, #attribute what carries the attribute, @name one by name or id.

Examples:
  nightgate policy create web-dial dial --identity '#staff' --service @web
  nightgate policy create web-bind bind --identity @gw-b --service @web")]
pub(crate) struct CreatePolicy {
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
}

/// `nightgate policy update`
#[derive(Debug, Serialize, clap::Args)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdatePolicy {
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// All roles that select identities from now on; may be repeated
    #[arg(long = "identity", value_name = "ROLE", value_parser = role::parse)]
    #[serde(rename = "identityRoles")]
    identities: Option<Vec<Role>>,
    /// All roles that select services from now on; may be repeated
    #[arg(long = "service", value_name = "ROLE", value_parser = role::parse)]
    #[serde(rename = "serviceRoles")]
    services: Option<Vec<Role>>,
    /// Whether an entity needs all of the attributes or any
    #[arg(long, value_enum)]
    semantic: Option<SemanticArg>,
}

/// What a policy allows.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum PermissionArg {
    /// To connect to services
    Dial,
    /// To host services
    Bind,
}

/// How attributes combine.
#[derive(Clone, Copy, Debug, Serialize, clap::ValueEnum)]
pub(super) enum SemanticArg {
    /// Every attribute
    AllOf,
    /// At least one of them
    AnyOf,
}

impl From<PermissionArg> for Permission {
    fn from(permission: PermissionArg) -> Self {
        match permission {
            PermissionArg::Dial => Self::Dial,
            PermissionArg::Bind => Self::Bind,
        }
    }
}

impl Managed for ServicePolicy {
    type Create = CreatePolicy;
    type Update = UpdatePolicy;
    const COLUMNS: &'static [&'static str] = &["allows", "identities", "services", "semantic"];
    const NAMES: &'static [EntityKind] = &[EntityKind::Identity, EntityKind::Service];

    fn wanted(args: CreatePolicy) -> anyhow::Result<ServicePolicySpec> {
        Ok(ServicePolicySpec {
            name: args.name,
            permission: args.permission.into(),
            semantic: if args.all_of { Semantic::AllOf } else { Semantic::AnyOf },
            identity_roles: args.identities,
            service_roles: args.services,
        })
    }

    fn cells(shown: &Shown<Self>, names: &Names) -> Vec<String> {
        let policy = &shown.entity;
        vec![
            policy.permission.as_str().to_lowercase(),
            names.roles(EntityKind::Identity, &policy.identity_roles),
            names.roles(EntityKind::Service, &policy.service_roles),
            role::semantic(policy.semantic).into(),
        ]
    }
}
