//! Evaluates all policies.

use nightgate_model::{
    entity::{Identity, Role, Semantic, Service, ServicePolicy},
    replica::Authorizations,
};

use crate::select::{Candidate, Selection, select};

/// Evaluates every policy for every identity and service. Disabled identities are granted nothing.
pub fn authorize<'a, I, S, P>(identities: I, services: S, policies: P) -> Authorizations
where
    I: Iterator<Item = &'a Identity> + Clone,
    S: Iterator<Item = &'a Service> + Clone,
    P: Iterator<Item = &'a ServicePolicy>,
{
    let mut authorizations = Authorizations::default();
    let identities = identities.filter(|identity| !identity.disabled);
    for policy in policies {
        let services: Vec<_> = services
            .clone()
            .filter(|&service| selects(&policy.service_roles, policy.semantic, &service.into()))
            .collect();
        if services.is_empty() {
            continue;
        }
        for identity in identities
            .clone()
            .filter(|&identity| selects(&policy.identity_roles, policy.semantic, &identity.into()))
        {
            for service in &services {
                authorizations.grant(identity.id.clone(), policy.permission, service.id.clone());
            }
        }
    }
    authorizations
}

fn selects(roles: &[Role], semantic: Semantic, candidate: &Candidate<'_>) -> bool {
    select(roles, semantic, candidate) == Selection::Selected
}
