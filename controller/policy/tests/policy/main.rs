//! Authorizations and explanations, against an oracle that is written differently.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_model::{
    auth::default_policy,
    authorization::Authorizations,
    entity::{
        EdgeRouter, EdgeRouterPolicy, Identity, IdentityKind, Permission, Role, Semantic, Service,
        ServicePolicy,
    },
    id::{EdgeRouterPolicyId, IdentityId, PolicyId, RouterId, ServiceId},
};
use nightgate_policy::{Entities, authorize, explain, explain_routers};
use proptest::prelude::*;

mod incremental;
mod oracle;

use oracle::{
    World, any_identities, any_policy, any_router_policy, any_routers, any_service_router_policy,
    any_services,
};

fn identity(id: &str, attributes: &[&str]) -> Identity {
    Identity {
        id: IdentityId::new(id),
        name: id.into(),
        kind: IdentityKind::Default,
        is_admin: false,
        disabled: false,
        disabled_until: None,
        role_attributes: attributes.iter().map(|a| (*a).into()).collect(),
        fingerprint: Some("00".into()),
        auth_policy_id: default_policy(),
    }
}

fn service(id: &str, attributes: &[&str]) -> Service {
    Service {
        id: ServiceId::new(id),
        name: id.into(),
        role_attributes: attributes.iter().map(|a| (*a).into()).collect(),
        encryption_required: true,
        terminator_strategy: Default::default(),
        terminators: [].into(),
        config: BTreeMap::new(),
        configs: BTreeSet::new(),
    }
}

fn policy(
    permission: Permission,
    semantic: Semantic,
    identities: &[&str],
    services: &[&str],
) -> ServicePolicy {
    let roles = |roles: &[&str]| {
        roles.iter().map(|role| Role::try_from((*role).to_owned()).expect("a role")).collect()
    };
    ServicePolicy {
        id: PolicyId::new("p"),
        name: "p".into(),
        permission,
        semantic,
        identity_roles: roles(identities),
        service_roles: roles(services),
    }
}

fn evaluate(identity: &Identity, service: &Service, policies: &[&ServicePolicy]) -> Authorizations {
    authorize(&Entities {
        identities: vec![identity],
        services: vec![service],
        policies: policies.to_vec(),
        ..Entities::default()
    })
}

fn may_dial(identity: &Identity, service: &Service, policy: &ServicePolicy) -> bool {
    let allowed = evaluate(identity, service, &[policy]);
    allowed.allows(&identity.id, Permission::Dial, &service.id)
}

#[test]
fn nothing_is_allowed_without_a_policy() {
    let (identity, service) = (identity("i", &["a"]), service("s", &["a"]));
    let allowed = evaluate(&identity, &service, &[]);
    assert!(!allowed.allows(&identity.id, Permission::Dial, &service.id));
    assert!(!allowed.allows(&identity.id, Permission::Bind, &service.id));
}

#[test]
fn a_dial_policy_does_not_allow_to_bind() {
    let (identity, service) = (identity("i", &[]), service("s", &[]));
    let policy = policy(Permission::Dial, Semantic::AnyOf, &["#all"], &["#all"]);
    let allowed = evaluate(&identity, &service, &[&policy]);
    assert!(allowed.allows(&identity.id, Permission::Dial, &service.id));
    assert!(!allowed.allows(&identity.id, Permission::Bind, &service.id));
}

#[test]
fn all_of_needs_every_attribute_and_any_of_needs_one() {
    let (identity, service) = (identity("i", &["a"]), service("s", &[]));
    let dial = |semantic, roles: &[&str]| policy(Permission::Dial, semantic, roles, &["@s"]);
    assert!(may_dial(&identity, &service, &dial(Semantic::AnyOf, &["#a", "#b"])));
    assert!(!may_dial(&identity, &service, &dial(Semantic::AllOf, &["#a", "#b"])));
    assert!(may_dial(&identity, &service, &dial(Semantic::AllOf, &["#a"])));
}

#[test]
fn all_of_without_attributes_selects_nobody_but_the_named() {
    let service = service("s", &[]);
    let policy = policy(Permission::Dial, Semantic::AllOf, &["@i"], &["#all"]);
    assert!(may_dial(&identity("i", &[]), &service, &policy));
    assert!(!may_dial(&identity("other", &["a"]), &service, &policy));
}

#[test]
fn a_disabled_identity_is_allowed_nothing() {
    let mut identity = identity("i", &[]);
    identity.disabled = true;
    let policy = policy(Permission::Dial, Semantic::AnyOf, &["#all"], &["#all"]);
    assert!(!may_dial(&identity, &service("s", &[]), &policy));
}

#[test]
fn an_explanation_names_the_policy_and_the_missing_attributes() {
    let (identity, service) = (identity("alice", &["staff"]), service("web", &["internal"]));
    let mut policy =
        policy(Permission::Dial, Semantic::AllOf, &["#staff", "#sales"], &["#internal"]);
    policy.name = "sales-web".into();
    let steps = explain(&identity, &service, Permission::Dial, [&policy].into_iter());
    assert_eq!(steps[1].detail, "sales-web: alice lacks #sales");
    assert!(!steps[1].ok);
    let steps = explain(&identity, &service, Permission::Bind, [&policy].into_iter());
    assert_eq!(steps[1].detail, "there is no Bind policy");
}

proptest! {
    #[test]
    fn authorizations_and_explanations_agree_with_the_oracle(
        identities in any_identities(),
        services in any_services(),
        routers in any_routers(),
        policies in proptest::collection::vec(any_policy(), 0..5),
        router_policies in proptest::collection::vec(any_router_policy(), 0..4),
        service_router_policies in proptest::collection::vec(any_service_router_policy(), 0..4),
    ) {
        let world = World {
            identities: identities.into_iter().map(|it| (it.id.clone(), it)).collect(),
            services: services.into_iter().map(|it| (it.id.clone(), it)).collect(),
            routers: routers.into_iter().map(|it| (it.id.clone(), it)).collect(),
            policies: (0..).zip(policies).collect(),
            router_policies: (0..).zip(router_policies).collect(),
            service_router_policies: (0..).zip(service_router_policies).collect(),
        };
        let allowed = authorize(&world.entities());
        // Routers get them as JSON.
        let json = serde_json::to_string(&allowed).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Authorizations>(&json).unwrap(), &allowed);
        world.agrees_with(&allowed)?;
    }
}

#[test]
fn a_router_explanation_names_the_policy_and_what_is_missing() {
    let (identity, service) = (identity("alice", &["staff"]), service("web", &["internal"]));
    let router = EdgeRouter {
        id: RouterId::new("hub"),
        name: "hub".into(),
        is_tunneler_enabled: false,
        disabled: false,
        role_attributes: BTreeSet::new(),
        fingerprint: None,
        address: None,
        cost: 0,
        no_traversal: false,
    };
    let policy = EdgeRouterPolicy {
        id: EdgeRouterPolicyId::new("p"),
        name: "staff-eu".into(),
        semantic: Semantic::AnyOf,
        identity_roles: vec![Role::Attribute("staff".into())],
        edge_router_roles: vec![Role::Attribute("eu".into())],
    };
    let [use_it, carry_it] =
        explain_routers(&identity, &service, &router, [&policy].into_iter(), [].into_iter());
    let expected =
        "no edge-router policy says that alice may use router hub (staff-eu: hub lacks #eu)";
    assert_eq!(use_it.detail, expected);
    assert!(carry_it.detail.ends_with("(there is none)"), "{}", carry_it.detail);
}

#[test]
fn a_gateway_may_use_its_own_router_without_a_policy() {
    let allowed = evaluate(&identity("gw", &[]), &service("web", &[]), &[]);
    assert!(allowed.may_use(&IdentityId::new("gw"), &RouterId::new("gw")));
    assert!(!allowed.may_use(&IdentityId::new("gw"), &RouterId::new("other")));
}

#[test]
fn a_thousand_wide_policies_over_ten_thousand_identities_stay_small() {
    let identities: Vec<_> =
        (0..10_000).map(|i| identity(&format!("i{i}"), &["all-staff"])).collect();
    let services: Vec<_> = (0..1_000).map(|s| service(&format!("s{s}"), &["internal"])).collect();
    let wide = policy(Permission::Dial, Semantic::AnyOf, &["#all-staff"], &["#internal"]);
    let policies = vec![&wide; 1_000];
    let allowed = authorize(&Entities {
        identities: identities.iter().collect(),
        services: services.iter().collect(),
        policies,
        ..Entities::default()
    });
    let bytes = serde_json::to_vec(&allowed).unwrap().len();
    assert!(bytes < 1_000_000, "{bytes} bytes for ten million pairs");
    let (last, first) = (IdentityId::new("i9999"), ServiceId::new("s0"));
    assert!(allowed.allows(&last, Permission::Dial, &first));
    assert_eq!(allowed.services(&last, Permission::Dial).count(), 1_000);
}
