//! Evaluates all policies.

use nightgate_model::{
    authorization::{Authorizations, Rule, Terms},
    entity::{
        EdgeRouter, EdgeRouterPolicy, Identity, Permission, Role, Semantic, Service,
        ServiceEdgeRouterPolicy, ServicePolicy,
    },
};

/// Everything that policies are about.
#[derive(Clone, Debug, Default)]
pub struct Entities<'a> {
    /// All identities.
    pub identities: Vec<&'a Identity>,
    /// All services.
    pub services: Vec<&'a Service>,
    /// All edge routers.
    pub routers: Vec<&'a EdgeRouter>,
    /// All service policies.
    pub policies: Vec<&'a ServicePolicy>,
    /// All edge-router policies.
    pub router_policies: Vec<&'a EdgeRouterPolicy>,
    /// All service-edge-router policies.
    pub service_router_policies: Vec<&'a ServiceEdgeRouterPolicy>,
}

/// Evaluates every policy for every identity, service and router. Disabled identities are granted
/// nothing.
pub fn authorize(entities: &Entities<'_>) -> Authorizations {
    let permitting = |permission| {
        let policies = entities.policies.iter().filter(move |p| p.permission == permission);
        policies.map(|p| rule(p.semantic, &p.identity_roles, &p.service_roles)).collect()
    };
    let identities = entities.identities.iter().filter(|identity| !identity.disabled);
    let routers = entities.routers.iter().filter(|router| !router.disabled);
    Authorizations::new(Terms {
        identities: identities.map(|i| (i.id.clone(), i.role_attributes.clone())).collect(),
        services: entities
            .services
            .iter()
            .map(|service| (service.id.clone(), service.role_attributes.clone()))
            .collect(),
        routers: routers.map(|r| (r.id.clone(), r.role_attributes.clone())).collect(),
        dial: permitting(Permission::Dial),
        bind: permitting(Permission::Bind),
        identity_routers: entities
            .router_policies
            .iter()
            .map(|p| rule(p.semantic, &p.identity_roles, &p.edge_router_roles))
            .collect(),
        service_routers: entities
            .service_router_policies
            .iter()
            .map(|p| rule(p.semantic, &p.service_roles, &p.edge_router_roles))
            .collect(),
    })
}

fn rule(semantic: Semantic, from: &[Role], to: &[Role]) -> Rule {
    Rule { semantic, from: from.to_vec(), to: to.to_vec() }
}
