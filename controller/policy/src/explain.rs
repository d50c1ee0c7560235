//! Says why an identity may, or may not, use a service.

use nightgate_model::{
    api::ExplanationStep,
    entity::{Identity, Permission, Role, Semantic, Service, ServicePolicy},
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
