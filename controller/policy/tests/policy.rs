//! Authorizations and explanations, against an oracle that is written differently.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_model::{
    entity::{Identity, IdentityKind, Permission, Role, Semantic, Service, ServicePolicy},
    id::{IdentityId, PolicyId, ServiceId},
};
use nightgate_policy::{authorize, explain};
use proptest::prelude::*;

fn identity(id: &str, attributes: &[&str]) -> Identity {
    Identity {
        id: IdentityId::new(id),
        name: id.into(),
        kind: IdentityKind::Default,
        is_admin: false,
        disabled: false,
        role_attributes: attributes.iter().map(|a| (*a).into()).collect(),
        fingerprint: Some("00".into()),
    }
}

fn service(id: &str, attributes: &[&str]) -> Service {
    Service {
        id: ServiceId::new(id),
        name: id.into(),
        role_attributes: attributes.iter().map(|a| (*a).into()).collect(),
        encryption_required: true,
        config: BTreeMap::new(),
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

fn may_dial(identity: &Identity, service: &Service, policy: &ServicePolicy) -> bool {
    let allowed = authorize([identity].into_iter(), [service].into_iter(), [policy].into_iter());
    allowed.allows(&identity.id, Permission::Dial, &service.id)
}

#[test]
fn nothing_is_allowed_without_a_policy() {
    let (identity, service) = (identity("i", &["a"]), service("s", &["a"]));
    let allowed = authorize([&identity].into_iter(), [&service].into_iter(), [].into_iter());
    assert!(!allowed.allows(&identity.id, Permission::Dial, &service.id));
    assert!(!allowed.allows(&identity.id, Permission::Bind, &service.id));
}

#[test]
fn a_dial_policy_does_not_allow_to_bind() {
    let (identity, service) = (identity("i", &[]), service("s", &[]));
    let policy = policy(Permission::Dial, Semantic::AnyOf, &["#all"], &["#all"]);
    let allowed = authorize([&identity].into_iter(), [&service].into_iter(), [&policy].into_iter());
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

const WORDS: [&str; 3] = ["a", "b", "c"];

fn attributes() -> impl Strategy<Value = BTreeSet<String>> {
    proptest::collection::btree_set(
        proptest::sample::select(WORDS.map(String::from).to_vec()),
        0..3,
    )
}

fn roles(ids: &'static [&'static str]) -> impl Strategy<Value = Vec<Role>> {
    let role = prop_oneof![
        1 => Just(Role::All),
        4 => proptest::sample::select(WORDS.to_vec()).prop_map(|word| Role::Attribute(word.into())),
        3 => proptest::sample::select(ids.to_vec()).prop_map(|id| Role::Id(id.into())),
    ];
    proptest::collection::vec(role, 0..4)
}

prop_compose! {
    fn any_policy()(
        bind in any::<bool>(),
        all_of in any::<bool>(),
        identity_roles in roles(&["i0", "i1", "gone"]),
        service_roles in roles(&["s0", "s1", "gone"]),
    ) -> ServicePolicy {
        ServicePolicy {
            identity_roles,
            service_roles,
            ..policy(
                if bind { Permission::Bind } else { Permission::Dial },
                if all_of { Semantic::AllOf } else { Semantic::AnyOf },
                &[],
                &[],
            )
        }
    }
}

prop_compose! {
    fn any_identities()(
        each in proptest::collection::vec((attributes(), any::<bool>()), 0..4),
    ) -> Vec<Identity> {
        each.into_iter().enumerate().map(|(index, (role_attributes, disabled))| Identity {
            role_attributes,
            disabled,
            ..identity(&format!("i{index}"), &[])
        }).collect()
    }
}

prop_compose! {
    fn any_services()(each in proptest::collection::vec(attributes(), 0..4)) -> Vec<Service> {
        each.into_iter().enumerate().map(|(index, role_attributes)| Service {
            role_attributes,
            ..service(&format!("s{index}"), &[])
        }).collect()
    }
}

/// The oracle works on role texts and set algebra.
fn oracle_selects(roles: &[Role], semantic: Semantic, id: &str, has: &BTreeSet<String>) -> bool {
    let texts: BTreeSet<String> = roles.iter().map(ToString::to_string).collect();
    let own: BTreeSet<String> = has.iter().map(|attribute| format!("#{attribute}")).collect();
    let wanted: BTreeSet<String> =
        texts.iter().filter(|text| text.starts_with('#') && *text != "#all").cloned().collect();
    let by_attribute = match semantic {
        Semantic::AllOf => !wanted.is_empty() && wanted.is_subset(&own),
        Semantic::AnyOf => !wanted.is_disjoint(&own),
    };
    texts.contains("#all") || texts.contains(&format!("@{id}")) || by_attribute
}

fn oracle_allows(
    identity: &Identity,
    service: &Service,
    permission: Permission,
    policies: &[ServicePolicy],
) -> bool {
    !identity.disabled
        && policies.iter().any(|p| {
            p.permission == permission
                && oracle_selects(
                    &p.identity_roles,
                    p.semantic,
                    identity.id.as_str(),
                    &identity.role_attributes,
                )
                && oracle_selects(
                    &p.service_roles,
                    p.semantic,
                    service.id.as_str(),
                    &service.role_attributes,
                )
        })
}

proptest! {
    #[test]
    fn authorizations_and_explanations_agree_with_the_oracle(
        identities in any_identities(),
        services in any_services(),
        policies in proptest::collection::vec(any_policy(), 0..5),
    ) {
        let allowed = authorize(identities.iter(), services.iter(), policies.iter());
        for identity in &identities {
            for service in &services {
                for permission in [Permission::Dial, Permission::Bind] {
                    let expected = oracle_allows(identity, service, permission, &policies);
                    prop_assert_eq!(allowed.allows(&identity.id, permission, &service.id), expected);
                    let steps = explain(identity, service, permission, policies.iter());
                    prop_assert_eq!(steps.iter().all(|step| step.ok), expected, "{:?}", steps);
                }
            }
        }
    }
}
