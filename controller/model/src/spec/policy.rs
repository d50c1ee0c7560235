//! What operators decide about policies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Entity;
use crate::{
    entity::{
        EdgeRouterPolicy, Permission, Role, Semantic, ServiceEdgeRouterPolicy, ServicePolicy,
    },
    id::{EdgeRouterPolicyId, PolicyId, ServiceEdgeRouterPolicyId},
    kind::EntityKind,
};

/// What operators decide about a [`ServicePolicy`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePolicySpec {
    /// Unique name.
    pub name: String,
    /// What it allows.
    #[serde(rename = "type")]
    pub permission: Permission,
    /// How attributes combine.
    pub semantic: Semantic,
    /// Selects identities.
    #[serde(default)]
    pub identity_roles: Vec<Role>,
    /// Selects services.
    #[serde(default)]
    pub service_roles: Vec<Role>,
}

/// What operators decide about an [`EdgeRouterPolicy`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EdgeRouterPolicySpec {
    /// Unique name.
    pub name: String,
    /// How attributes combine.
    pub semantic: Semantic,
    /// Selects identities.
    #[serde(default)]
    pub identity_roles: Vec<Role>,
    /// Selects edge routers.
    #[serde(default)]
    pub edge_router_roles: Vec<Role>,
}

/// What operators decide about a [`ServiceEdgeRouterPolicy`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceEdgeRouterPolicySpec {
    /// Unique name.
    pub name: String,
    /// How attributes combine.
    pub semantic: Semantic,
    /// Selects services.
    #[serde(default)]
    pub service_roles: Vec<Role>,
    /// Selects edge routers.
    #[serde(default)]
    pub edge_router_roles: Vec<Role>,
}

impl Entity for ServicePolicy {
    type Id = PolicyId;
    type Spec = ServicePolicySpec;
    const KIND: EntityKind = EntityKind::ServicePolicy;

    fn id(&self) -> &PolicyId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: PolicyId, spec: ServicePolicySpec) -> Self {
        let ServicePolicySpec { name, permission, semantic, identity_roles, service_roles } = spec;
        Self { id, name, permission, semantic, identity_roles, service_roles }
    }

    fn spec(&self) -> ServicePolicySpec {
        let Self { id: _, name, permission, semantic, identity_roles, service_roles } =
            self.clone();
        ServicePolicySpec { name, permission, semantic, identity_roles, service_roles }
    }

    fn set(&mut self, spec: ServicePolicySpec) {
        *self = Self::new(self.id.clone(), spec);
    }
}

impl Entity for EdgeRouterPolicy {
    type Id = EdgeRouterPolicyId;
    type Spec = EdgeRouterPolicySpec;
    const KIND: EntityKind = EntityKind::EdgeRouterPolicy;

    fn id(&self) -> &EdgeRouterPolicyId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: EdgeRouterPolicyId, spec: EdgeRouterPolicySpec) -> Self {
        let EdgeRouterPolicySpec { name, semantic, identity_roles, edge_router_roles } = spec;
        Self { id, name, semantic, identity_roles, edge_router_roles }
    }

    fn spec(&self) -> EdgeRouterPolicySpec {
        let Self { id: _, name, semantic, identity_roles, edge_router_roles } = self.clone();
        EdgeRouterPolicySpec { name, semantic, identity_roles, edge_router_roles }
    }

    fn set(&mut self, spec: EdgeRouterPolicySpec) {
        *self = Self::new(self.id.clone(), spec);
    }
}

impl Entity for ServiceEdgeRouterPolicy {
    type Id = ServiceEdgeRouterPolicyId;
    type Spec = ServiceEdgeRouterPolicySpec;
    const KIND: EntityKind = EntityKind::ServiceEdgeRouterPolicy;

    fn id(&self) -> &ServiceEdgeRouterPolicyId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: ServiceEdgeRouterPolicyId, spec: ServiceEdgeRouterPolicySpec) -> Self {
        let ServiceEdgeRouterPolicySpec { name, semantic, service_roles, edge_router_roles } = spec;
        Self { id, name, semantic, service_roles, edge_router_roles }
    }

    fn spec(&self) -> ServiceEdgeRouterPolicySpec {
        let Self { id: _, name, semantic, service_roles, edge_router_roles } = self.clone();
        ServiceEdgeRouterPolicySpec { name, semantic, service_roles, edge_router_roles }
    }

    fn set(&mut self, spec: ServiceEdgeRouterPolicySpec) {
        *self = Self::new(self.id.clone(), spec);
    }
}
