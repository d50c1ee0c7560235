//! Says why an identity may, or may not, use a service.

use nightgate_model::{
    api::ExplanationStep,
    entity::{
        EdgeRouter, EdgeRouterPolicy, Identity, Permission, Role, Semantic, Service,
        ServiceEdgeRouterPolicy, ServicePolicy,
    },
};

use crate::select::{Candidate, Selection, select};

/// The checks that decide whether `identity` may dial or bind `service`, in order.
///
/// It may if and only if the `identity` step and at least one `policy` step are `ok`. When a policy
/// grants the permission, only granting policies are listed; otherwise all of the permission, each
/// with what is missing.
pub fn explain<'a>(
    identity: &Identity,
    service: &Service,
    permission: Permission,
    policies: impl Iterator<Item = &'a ServicePolicy>,
) -> Vec<ExplanationStep> {
    let mut steps = vec![explain_identity(identity)];
    let mut of_policies: Vec<_> = policies
        .filter(|policy| policy.permission == permission)
        .map(|policy| explain_policy(policy, identity, service))
        .collect();
    if of_policies.is_empty() {
        let detail = format!("there is no {} policy", permission.as_str());
        of_policies.push(step("policy", false, detail));
    }
    if of_policies.iter().any(|step| step.ok) {
        of_policies.retain(|step| step.ok);
    }
    steps.append(&mut of_policies);
    steps
}

/// The checks that decide whether `identity` may use `service` through `router`: one for the identity,
/// one for the service.
///
/// It may if and only if both are `ok`. A policy that allows it is named; else, all with what is missing.
pub fn explain_routers<'a>(
    identity: &Identity,
    service: &Service,
    router: &EdgeRouter,
    router_policies: impl Iterator<Item = &'a EdgeRouterPolicy>,
    service_router_policies: impl Iterator<Item = &'a ServiceEdgeRouterPolicy>,
) -> [ExplanationStep; 2] {
    let of_identity = router_policies.map(|policy| {
        let (identity_roles, router_roles) = (&policy.identity_roles, &policy.edge_router_roles);
        let lacks = [
            lack(identity_roles, policy.semantic, &identity.into(), &identity.name),
            lack(router_roles, policy.semantic, &router.into(), &router.name),
        ];
        (policy.name.as_str(), lacks.into_iter().flatten().collect())
    });
    let of_service = service_router_policies.map(|policy| {
        let (service_roles, router_roles) = (&policy.service_roles, &policy.edge_router_roles);
        let lacks = [
            lack(service_roles, policy.semantic, &service.into(), &service.name),
            lack(router_roles, policy.semantic, &router.into(), &router.name),
        ];
        (policy.name.as_str(), lacks.into_iter().flatten().collect())
    });
    let own = format!("{} is the router's own identity", identity.name);
    let is_own = identity.id == router.id.as_identity();
    let use_it = format!("{} may use router {}", identity.name, router.name);
    let carry_it = format!("router {} may carry {}", router.name, service.name);
    [
        if is_own {
            step("router", true, own)
        } else {
            decide("edge-router", &use_it, of_identity)
        },
        decide("service-edge-router", &carry_it, of_service),
    ]
}

/// The first policy without anything that lacks, or all with what does.
fn decide<'a>(
    kind: &str,
    what: &str,
    policies: impl Iterator<Item = (&'a str, Vec<String>)>,
) -> ExplanationStep {
    let mut missing = Vec::new();
    for (name, lacks) in policies {
        if lacks.is_empty() {
            return step("router", true, format!("{what} by {kind} policy {name}"));
        }
        missing.push(format!("{name}: {}", lacks.join("; ")));
    }
    if missing.is_empty() {
        missing.push("there is none".to_owned());
    }
    let detail = format!("no {kind} policy says that {what} ({})", missing.join(", "));
    step("router", false, detail)
}

fn explain_identity(identity: &Identity) -> ExplanationStep {
    let (ok, state) = match (identity.disabled, &identity.fingerprint) {
        (true, _) => (false, "is disabled"),
        (false, None) => (true, "is not enrolled yet"),
        (false, Some(_)) => (true, "is enrolled and enabled"),
    };
    step("identity", ok, format!("{} {state}", identity.name))
}

fn explain_policy(
    policy: &ServicePolicy,
    identity: &Identity,
    service: &Service,
) -> ExplanationStep {
    let sides = [
        lack(&policy.identity_roles, policy.semantic, &identity.into(), &identity.name),
        lack(&policy.service_roles, policy.semantic, &service.into(), &service.name),
    ];
    let lacks: Vec<_> = sides.into_iter().flatten().collect();
    if lacks.is_empty() {
        let detail = format!("{} selects {} and {}", policy.name, identity.name, service.name);
        return step("policy", true, detail);
    }
    step("policy", false, format!("{}: {}", policy.name, lacks.join("; ")))
}

/// What an entity lacks to be selected; `None` if it is.
fn lack(
    roles: &[Role],
    semantic: Semantic,
    candidate: &Candidate<'_>,
    name: &str,
) -> Option<String> {
    match select(roles, semantic, candidate) {
        Selection::Selected => None,
        Selection::LacksEach(attributes) => {
            Some(format!("{name} lacks {}", hashed(&attributes, " and ")))
        }
        Selection::LacksAny(attributes) => {
            Some(format!("{name} lacks {}", hashed(&attributes, " or ")))
        }
        Selection::NotNamed => Some(format!("{name} is not among its roles")),
    }
}

fn hashed(attributes: &[&str], separator: &str) -> String {
    let attributes: Vec<_> = attributes.iter().map(|attribute| format!("#{attribute}")).collect();
    attributes.join(separator)
}

fn step(check: &str, ok: bool, detail: String) -> ExplanationStep {
    ExplanationStep { check: check.into(), ok, detail }
}
