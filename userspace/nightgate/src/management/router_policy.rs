//! `nightgate edge-router-policy ...` and `nightgate service-edge-router-policy ...`

use nightgate_model::{
    entity::{EdgeRouterPolicy, Role, Semantic, ServiceEdgeRouterPolicy},
    kind::EntityKind,
    spec::{EdgeRouterPolicySpec, ServiceEdgeRouterPolicySpec},
};
use serde::Serialize;

use super::{
    entity::{Managed, Names, Shown},
    policy::SemanticArg,
    role,
};

/// `nightgate edge-router-policy create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateRouterPolicy {
    /// Unique name
    name: String,
    /// Role that selects identities; may be repeated
    #[arg(long = "identity", value_name = "ROLE", required = true, value_parser = role::parse)]
    identities: Vec<Role>,
    #[command(flatten)]
    routers: RouterRoles,
}

/// `nightgate service-edge-router-policy create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateServiceRouterPolicy {
    /// Unique name
    name: String,
    /// Role that selects services; may be repeated
    #[arg(long = "service", value_name = "ROLE", required = true, value_parser = role::parse)]
    services: Vec<Role>,
    #[command(flatten)]
    routers: RouterRoles,
}

/// The routers' side of a new policy.
#[derive(Debug, clap::Args)]
pub(crate) struct RouterRoles {
    /// Role that selects routers; may be repeated
    #[arg(long = "router", value_name = "ROLE", required = true, value_parser = role::parse)]
    routers: Vec<Role>,
    /// An entity needs all of the attributes, not one of them
    #[arg(long)]
    all_of: bool,
}

/// `nightgate edge-router-policy update`
#[derive(Debug, Serialize, clap::Args)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateRouterPolicy {
    /// All roles that select identities from now on; may be repeated
    #[arg(long = "identity", value_name = "ROLE", value_parser = role::parse)]
    #[serde(rename = "identityRoles")]
    identities: Option<Vec<Role>>,
    #[command(flatten)]
    #[serde(flatten)]
    common: UpdateRouterRoles,
}

/// `nightgate service-edge-router-policy update`
#[derive(Debug, Serialize, clap::Args)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateServiceRouterPolicy {
    /// All roles that select services from now on; may be repeated
    #[arg(long = "service", value_name = "ROLE", value_parser = role::parse)]
    #[serde(rename = "serviceRoles")]
    services: Option<Vec<Role>>,
    #[command(flatten)]
    #[serde(flatten)]
    common: UpdateRouterRoles,
}

/// What both policies have.
#[derive(Debug, Serialize, clap::Args)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateRouterRoles {
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// All roles that select routers from now on; may be repeated
    #[arg(long = "router", value_name = "ROLE", value_parser = role::parse)]
    #[serde(rename = "edgeRouterRoles")]
    routers: Option<Vec<Role>>,
    /// Whether an entity needs all of the attributes or any
    #[arg(long, value_enum)]
    semantic: Option<SemanticArg>,
}

impl RouterRoles {
    fn semantic(&self) -> Semantic {
        if self.all_of { Semantic::AllOf } else { Semantic::AnyOf }
    }
}

impl Managed for EdgeRouterPolicy {
    type Create = CreateRouterPolicy;
    type Update = UpdateRouterPolicy;
    const COLUMNS: &'static [&'static str] = &["identities", "routers", "semantic"];
    const NAMES: &'static [EntityKind] = &[EntityKind::Identity, EntityKind::EdgeRouter];

    fn wanted(args: CreateRouterPolicy) -> anyhow::Result<EdgeRouterPolicySpec> {
        Ok(EdgeRouterPolicySpec {
            name: args.name,
            semantic: args.routers.semantic(),
            identity_roles: args.identities,
            edge_router_roles: args.routers.routers,
        })
    }

    fn cells(shown: &Shown<Self>, names: &Names) -> Vec<String> {
        let policy = &shown.entity;
        vec![
            names.roles(EntityKind::Identity, &policy.identity_roles),
            names.roles(EntityKind::EdgeRouter, &policy.edge_router_roles),
            role::semantic(policy.semantic).into(),
        ]
    }
}

impl Managed for ServiceEdgeRouterPolicy {
    type Create = CreateServiceRouterPolicy;
    type Update = UpdateServiceRouterPolicy;
    const COLUMNS: &'static [&'static str] = &["services", "routers", "semantic"];
    const NAMES: &'static [EntityKind] = &[EntityKind::Service, EntityKind::EdgeRouter];

    fn wanted(args: CreateServiceRouterPolicy) -> anyhow::Result<ServiceEdgeRouterPolicySpec> {
        Ok(ServiceEdgeRouterPolicySpec {
            name: args.name,
            semantic: args.routers.semantic(),
            service_roles: args.services,
            edge_router_roles: args.routers.routers,
        })
    }

    fn cells(shown: &Shown<Self>, names: &Names) -> Vec<String> {
        let policy = &shown.entity;
        vec![
            names.roles(EntityKind::Service, &policy.service_roles),
            names.roles(EntityKind::EdgeRouter, &policy.edge_router_roles),
            role::semantic(policy.semantic).into(),
        ]
    }
}
