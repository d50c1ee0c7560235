//! Policies one by one, as an oracle for what is evaluated, and arbitrary entities.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_model::{
    authorization::Authorizations,
    entity::{
        EdgeRouter, EdgeRouterPolicy, Identity, Permission, Role, Semantic, Service,
        ServiceEdgeRouterPolicy, ServicePolicy,
    },
    id::{EdgeRouterPolicyId, IdentityId, RouterId, ServiceEdgeRouterPolicyId, ServiceId},
};
use nightgate_policy::{Entities, explain, explain_routers};
use proptest::prelude::*;

use crate::{identity, policy, service};

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
    pub(crate) fn any_policy()(
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
    pub(crate) fn any_identities()(
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
    pub(crate) fn any_services()(each in proptest::collection::vec(attributes(), 0..4)) -> Vec<Service> {
        each.into_iter().enumerate().map(|(index, role_attributes)| Service {
            role_attributes,
            ..service(&format!("s{index}"), &[])
        }).collect()
    }
}

prop_compose! {
    pub(crate) fn any_routers()(
        each in proptest::collection::vec((attributes(), any::<bool>()), 0..4),
    ) -> Vec<EdgeRouter> {
        each.into_iter().enumerate().map(|(index, (role_attributes, disabled))| EdgeRouter {
            id: RouterId::new(format!("r{index}")),
            name: format!("r{index}"),
            is_tunneler_enabled: false,
            disabled,
            role_attributes,
            fingerprint: None,
            address: None,
            cost: 0,
            no_traversal: false,
        }).collect()
    }
}

prop_compose! {
    pub(crate) fn any_router_policy()(
        all_of in any::<bool>(),
        identity_roles in roles(&["i0", "i1", "gone"]),
        edge_router_roles in roles(&["r0", "r1", "gone"]),
    ) -> EdgeRouterPolicy {
        EdgeRouterPolicy {
            id: EdgeRouterPolicyId::new("p"),
            name: "p".into(),
            semantic: if all_of { Semantic::AllOf } else { Semantic::AnyOf },
            identity_roles,
            edge_router_roles,
        }
    }
}

prop_compose! {
    pub(crate) fn any_service_router_policy()(
        all_of in any::<bool>(),
        service_roles in roles(&["s0", "s1", "gone"]),
        edge_router_roles in roles(&["r0", "r1", "gone"]),
    ) -> ServiceEdgeRouterPolicy {
        ServiceEdgeRouterPolicy {
            id: ServiceEdgeRouterPolicyId::new("p"),
            name: "p".into(),
            semantic: if all_of { Semantic::AllOf } else { Semantic::AnyOf },
            service_roles,
            edge_router_roles,
        }
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

/// What an oracle selects by.
trait Subject {
    fn is_selected(&self, roles: &[Role], semantic: Semantic) -> bool;
}

impl Subject for Identity {
    fn is_selected(&self, roles: &[Role], semantic: Semantic) -> bool {
        oracle_selects(roles, semantic, self.id.as_str(), &self.role_attributes)
    }
}

impl Subject for Service {
    fn is_selected(&self, roles: &[Role], semantic: Semantic) -> bool {
        oracle_selects(roles, semantic, self.id.as_str(), &self.role_attributes)
    }
}

impl Subject for EdgeRouter {
    fn is_selected(&self, roles: &[Role], semantic: Semantic) -> bool {
        oracle_selects(roles, semantic, self.id.as_str(), &self.role_attributes)
    }
}

/// Everything that policies are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) identities: BTreeMap<IdentityId, Identity>,
    pub(crate) services: BTreeMap<ServiceId, Service>,
    pub(crate) routers: BTreeMap<RouterId, EdgeRouter>,
    pub(crate) policies: BTreeMap<u8, ServicePolicy>,
    pub(crate) router_policies: BTreeMap<u8, EdgeRouterPolicy>,
    pub(crate) service_router_policies: BTreeMap<u8, ServiceEdgeRouterPolicy>,
}

impl World {
    pub(crate) fn entities(&self) -> Entities<'_> {
        Entities {
            identities: self.identities.values().collect(),
            services: self.services.values().collect(),
            routers: self.routers.values().collect(),
            policies: self.policies.values().collect(),
            router_policies: self.router_policies.values().collect(),
            service_router_policies: self.service_router_policies.values().collect(),
        }
    }

    fn allows(&self, identity: &Identity, service: &Service, permission: Permission) -> bool {
        !identity.disabled
            && self.policies.values().any(|p| {
                p.permission == permission
                    && identity.is_selected(&p.identity_roles, p.semantic)
                    && service.is_selected(&p.service_roles, p.semantic)
            })
    }

    /// Compares every answer with the policies one by one.
    pub(crate) fn agrees_with(&self, allowed: &Authorizations) -> Result<(), TestCaseError> {
        for identity in self.identities.values() {
            for service in self.services.values() {
                for permission in [Permission::Dial, Permission::Bind] {
                    let expected = self.allows(identity, service, permission);
                    prop_assert_eq!(
                        allowed.allows(&identity.id, permission, &service.id),
                        expected
                    );
                    let listed =
                        allowed.services(&identity.id, permission).any(|id| *id == service.id);
                    prop_assert_eq!(listed, expected);
                    let steps = explain(identity, service, permission, self.policies.values());
                    prop_assert_eq!(steps.iter().all(|step| step.ok), expected, "{:?}", steps);
                }
                for router in self.routers.values().filter(|router| !router.disabled) {
                    let uses = self.router_policies.values().any(|p| {
                        identity.is_selected(&p.identity_roles, p.semantic)
                            && router.is_selected(&p.edge_router_roles, p.semantic)
                    });
                    let carries = self.service_router_policies.values().any(|p| {
                        service.is_selected(&p.service_roles, p.semantic)
                            && router.is_selected(&p.edge_router_roles, p.semantic)
                    });
                    let enabled = !identity.disabled;
                    prop_assert_eq!(allowed.may_use(&identity.id, &router.id), enabled && uses);
                    prop_assert_eq!(allowed.carries(&router.id, &service.id), carries);
                    let reaches = allowed.reaches(&identity.id, &service.id, &router.id);
                    prop_assert_eq!(reaches, enabled && uses && carries);
                    let [by_identity, by_service] = explain_routers(
                        identity,
                        service,
                        router,
                        self.router_policies.values(),
                        self.service_router_policies.values(),
                    );
                    prop_assert_eq!((by_identity.ok, by_service.ok), (uses, carries));
                }
            }
        }
        Ok(())
    }
}
