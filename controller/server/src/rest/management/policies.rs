//! Service policies, edge-router policies and service-edge-router policies.

use nightgate_model::entity::{
    EdgeRouter, EdgeRouterPolicy, Identity, Service, ServiceEdgeRouterPolicy, ServicePolicy,
};
use nightgate_store::{Model, Stored};
use serde_json::Value;

use super::{
    resource::{Resource, View},
    validate,
};
use crate::rest::{Failure, shape};

impl Resource for ServicePolicy {
    const FIELDS: &'static [&'static str] = &["type", "semantic", "identityRoles", "serviceRoles"];
    const DEFAULTS: &'static [(&'static str, &'static [&'static str])] =
        &[("postureCheckRoles", &["[]", "null"])];

    fn shape(stored: &Stored<Self>, _view: &View<'_>) -> Value {
        shape::policy(stored)
    }

    /// Every `@id` must exist: a policy with a mistyped one would silently allow nothing.
    fn check(&self, model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        validate::roles::<Identity>(&self.identity_roles, model)?;
        validate::roles::<Service>(&self.service_roles, model)
    }
}

impl Resource for EdgeRouterPolicy {
    const FIELDS: &'static [&'static str] = &["semantic", "identityRoles", "edgeRouterRoles"];

    fn shape(stored: &Stored<Self>, _view: &View<'_>) -> Value {
        shape::edge_router_policy(stored)
    }

    fn check(&self, model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        validate::roles::<Identity>(&self.identity_roles, model)?;
        validate::roles::<EdgeRouter>(&self.edge_router_roles, model)
    }
}

impl Resource for ServiceEdgeRouterPolicy {
    const FIELDS: &'static [&'static str] = &["semantic", "serviceRoles", "edgeRouterRoles"];

    fn shape(stored: &Stored<Self>, _view: &View<'_>) -> Value {
        shape::service_edge_router_policy(stored)
    }

    fn check(&self, model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        validate::roles::<Service>(&self.service_roles, model)?;
        validate::roles::<EdgeRouter>(&self.edge_router_roles, model)
    }
}
