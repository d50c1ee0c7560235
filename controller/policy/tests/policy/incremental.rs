//! What is evaluated change by change is what the policies say.

use nightgate_model::{
    entity::{
        EdgeRouter, EdgeRouterPolicy, Identity, Service, ServiceEdgeRouterPolicy, ServicePolicy,
    },
    id::{IdentityId, RouterId, ServiceId},
};
use nightgate_policy::{Touched, authorize, reauthorize};
use proptest::{option, prelude::*};

use crate::oracle::{
    World, any_identities, any_policy, any_router_policy, any_routers, any_service_router_policy,
    any_services,
};

/// Puts entities in the place of others, and takes one away. Of policies, the one of a number.
#[derive(Clone, Debug)]
enum Change {
    Identities(Vec<Identity>, String),
    Services(Vec<Service>, String),
    Routers(Vec<EdgeRouter>, String),
    Policy(u8, Option<ServicePolicy>),
    RouterPolicy(u8, Option<EdgeRouterPolicy>),
    ServiceRouterPolicy(u8, Option<ServiceEdgeRouterPolicy>),
}

fn gone(letter: char) -> impl Strategy<Value = String> {
    (0..4_u8).prop_map(move |number| format!("{letter}{number}"))
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any_identities(), gone('i')).prop_map(|(put, gone)| Change::Identities(put, gone)),
        (any_services(), gone('s')).prop_map(|(put, gone)| Change::Services(put, gone)),
        (any_routers(), gone('r')).prop_map(|(put, gone)| Change::Routers(put, gone)),
        (0..4_u8, option::of(any_policy())).prop_map(|(at, it)| Change::Policy(at, it)),
        (0..3_u8, option::of(any_router_policy()))
            .prop_map(|(at, it)| Change::RouterPolicy(at, it)),
        (0..3_u8, option::of(any_service_router_policy()))
            .prop_map(|(at, it)| Change::ServiceRouterPolicy(at, it)),
    ]
}

/// Makes a change, and says what it has touched.
fn make(world: &mut World, change: Change) -> Touched<'_> {
    let mut touched = Touched::default();
    match change {
        Change::Identities(put, gone) => {
            world.identities.remove(&IdentityId::new(gone));
            world.identities.extend(put.into_iter().map(|it| (it.id.clone(), it)));
            let ids = (0..4).map(|number| IdentityId::new(format!("i{number}")));
            touched.identities = ids.map(|id| (id.clone(), world.identities.get(&id))).collect();
        }
        Change::Services(put, gone) => {
            world.services.remove(&ServiceId::new(gone));
            world.services.extend(put.into_iter().map(|it| (it.id.clone(), it)));
            let ids = (0..4).map(|number| ServiceId::new(format!("s{number}")));
            touched.services = ids.map(|id| (id.clone(), world.services.get(&id))).collect();
        }
        Change::Routers(put, gone) => {
            world.routers.remove(&RouterId::new(gone));
            world.routers.extend(put.into_iter().map(|it| (it.id.clone(), it)));
            let ids = (0..4).map(|number| RouterId::new(format!("r{number}")));
            touched.routers = ids.map(|id| (id.clone(), world.routers.get(&id))).collect();
        }
        Change::Policy(at, policy) => {
            world.policies.remove(&at);
            world.policies.extend(policy.map(|policy| (at, policy)));
            touched.policies = Some(world.policies.values().collect());
        }
        Change::RouterPolicy(at, policy) => {
            world.router_policies.remove(&at);
            world.router_policies.extend(policy.map(|policy| (at, policy)));
            touched.router_policies = Some(world.router_policies.values().collect());
        }
        Change::ServiceRouterPolicy(at, policy) => {
            world.service_router_policies.remove(&at);
            world.service_router_policies.extend(policy.map(|policy| (at, policy)));
            touched.service_router_policies =
                Some(world.service_router_policies.values().collect());
        }
    }
    touched
}

proptest! {
    #[test]
    fn every_change_leaves_what_the_oracle_says(
        changes in proptest::collection::vec(any_change(), 1..12),
    ) {
        let mut world = World::default();
        let mut allowed = authorize(&world.entities());
        for change in changes {
            let before = allowed.clone();
            let said = serde_json::to_string(&before).unwrap();
            allowed = reauthorize(&before, make(&mut world, change));
            world.agrees_with(&allowed)?;
            prop_assert_eq!(&allowed, &authorize(&world.entities()));
            // What was evaluated before stays as it was: others may look at it.
            prop_assert_eq!(serde_json::to_string(&before).unwrap(), said);
        }
    }
}
