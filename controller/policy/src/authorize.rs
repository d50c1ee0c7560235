//! Evaluates policies: all of them, or what a change touches.

use std::collections::BTreeSet;

use nightgate_model::{
    authorization::{Authorizations, Changes, Rule, Terms},
    entity::{
        EdgeRouter, EdgeRouterPolicy, Identity, Permission, Role, Semantic, Service,
        ServiceEdgeRouterPolicy, ServicePolicy,
    },
    id::{IdentityId, RouterId, ServiceId},
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

/// Entities that may have changed since an evaluation; none for one that is gone. Policies are all of their kind, if one
/// of them may have changed.
#[derive(Clone, Debug, Default)]
pub struct Touched<'a> {
    /// Identities.
    pub identities: Vec<(IdentityId, Option<&'a Identity>)>,
    /// Services.
    pub services: Vec<(ServiceId, Option<&'a Service>)>,
    /// Edge routers.
    pub routers: Vec<(RouterId, Option<&'a EdgeRouter>)>,
    /// Service policies.
    pub policies: Option<Vec<&'a ServicePolicy>>,
    /// Edge-router policies.
    pub router_policies: Option<Vec<&'a EdgeRouterPolicy>>,
    /// Service-edge-router policies.
    pub service_router_policies: Option<Vec<&'a ServiceEdgeRouterPolicy>>,
}

/// Evaluates every policy for every identity, service and router. Disabled identities are granted
/// nothing.
pub fn authorize(entities: &Entities<'_>) -> Authorizations {
    let identities = entities.identities.iter();
    let routers = entities.routers.iter();
    Authorizations::new(Terms {
        identities: identities.filter_map(|i| Some((i.id.clone(), of_identity(i)?))).collect(),
        services: entities
            .services
            .iter()
            .map(|service| (service.id.clone(), service.role_attributes.clone()))
            .collect(),
        routers: routers.filter_map(|r| Some((r.id.clone(), of_router(r)?))).collect(),
        dial: permitting(&entities.policies, Permission::Dial),
        bind: permitting(&entities.policies, Permission::Bind),
        identity_routers: of_identities(&entities.router_policies),
        service_routers: of_services(&entities.service_router_policies),
    })
}

/// What [`authorize`] would make of all entities, from what it made of them before some were touched, at the cost of what
/// has changed: an entity with other attributes is asked of all policies, a policy that is new or gone of all entities.
pub fn reauthorize(before: &Authorizations, touched: Touched<'_>) -> Authorizations {
    let mut after = before.clone();
    let identities = touched.identities.into_iter();
    let services = touched.services.into_iter();
    let routers = touched.routers.into_iter();
    let permitting = |permission| Some(permitting(touched.policies.as_ref()?, permission));
    after.change(Changes {
        identities: identities.map(|(id, it)| (id, it.and_then(of_identity))).collect(),
        services: services.map(|(id, it)| (id, it.map(|it| it.role_attributes.clone()))).collect(),
        routers: routers.map(|(id, it)| (id, it.and_then(of_router))).collect(),
        dial: permitting(Permission::Dial),
        bind: permitting(Permission::Bind),
        identity_routers: touched.router_policies.as_deref().map(of_identities),
        service_routers: touched.service_router_policies.as_deref().map(of_services),
    });
    after
}

fn of_identity(identity: &Identity) -> Option<BTreeSet<String>> {
    (!identity.disabled).then(|| identity.role_attributes.clone())
}

fn of_router(router: &EdgeRouter) -> Option<BTreeSet<String>> {
    (!router.disabled).then(|| router.role_attributes.clone())
}

fn permitting(policies: &[&ServicePolicy], permission: Permission) -> Vec<Rule> {
    let policies = policies.iter().filter(|policy| policy.permission == permission);
    policies.map(|p| rule(p.semantic, &p.identity_roles, &p.service_roles)).collect()
}

fn of_identities(policies: &[&EdgeRouterPolicy]) -> Vec<Rule> {
    policies.iter().map(|p| rule(p.semantic, &p.identity_roles, &p.edge_router_roles)).collect()
}

fn of_services(policies: &[&ServiceEdgeRouterPolicy]) -> Vec<Rule> {
    policies.iter().map(|p| rule(p.semantic, &p.service_roles, &p.edge_router_roles)).collect()
}

fn rule(semantic: Semantic, from: &[Role], to: &[Role]) -> Rule {
    Rule { semantic, from: from.to_vec(), to: to.to_vec() }
}
