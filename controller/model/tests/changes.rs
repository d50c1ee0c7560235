//! Replicas that follow by change sets are what they would be whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nightgate_model::{
    authorization::{Authorizations, Rule, Terms},
    entity::{Permission, Precedence, Role, Semantic, Terminator},
    id::{ApiSessionId, IdentityId, RouterId, ServiceId, TerminatorId},
    replica::{ChangeSet, LinkReport, Misfit, Replica, ReplicaIdentity, ReplicaRouter},
};
use proptest::{collection, prelude::*};

/// Entities have one of so many ids.
const IDS: u8 = 6;

type Attributes = BTreeMap<u8, BTreeSet<u8>>;

fn attributes() -> impl Strategy<Value = Attributes> {
    collection::btree_map(0..IDS, collection::btree_set(0..3_u8, 0..3), 0..usize::from(IDS))
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let role = prop_oneof![
        Just(Role::All),
        (0..3_u8).prop_map(|attribute| Role::Attribute(attribute.to_string())),
        (0..IDS).prop_map(|id| Role::Id(id.to_string())),
    ];
    let roles = collection::vec(role, 1..3);
    let rule = (any::<bool>(), roles.clone(), roles).prop_map(|(all, from, to)| Rule {
        semantic: if all { Semantic::AllOf } else { Semantic::AnyOf },
        from,
        to,
    });
    collection::vec(rule, 0..4)
}

fn texts<K: Ord>(
    attributes: &Attributes,
    id: impl Fn(String) -> K,
) -> BTreeMap<K, BTreeSet<String>> {
    let entry = |(key, set): (&u8, &BTreeSet<u8>)| {
        (id(key.to_string()), set.iter().map(ToString::to_string).collect())
    };
    attributes.iter().map(entry).collect()
}

prop_compose! {
    fn replica()(
        (identities, services, routers) in (attributes(), attributes(), attributes()),
        (dial, bind) in (rules(), rules()),
        (identity_routers, service_routers) in (rules(), rules()),
        names in collection::btree_map(0..IDS, 0..3_u8, 0..usize::from(IDS)),
        keys in collection::vec("[ab]", 0..3),
        ended in collection::btree_set("[abc]", 0..3),
        hosted in collection::btree_map((0..3_u8, 0..3_u8), 0..4_u16, 0..6),
        links in collection::btree_map((0..3_u8, 0..3_u8), 0..4_u32, 0..6),
    ) -> Replica {
        let terms = Terms {
            identities: texts(&identities, IdentityId::new),
            services: texts(&services, ServiceId::new),
            routers: texts(&routers, RouterId::new),
            dial, bind, identity_routers, service_routers,
        };
        let identity = |name: &u8| ReplicaIdentity { name: name.to_string(), fingerprint: None, origin: None };
        let router = |(id, name): (&u8, &u8)| ReplicaRouter {
            id: RouterId::new(id.to_string()),
            name: name.to_string(),
            fingerprint: String::new(),
            offered: None,
            origin: String::new(),
            address: None,
            cost: 0,
            no_traversal: false,
        };
        let mut replica = Replica {
            index: 0,
            token_keys: keys.clone(),
            client_cas: keys,
            ended_sessions: ended.into_iter().map(ApiSessionId::new).collect(),
            routers: names.iter().map(router).collect(),
            identities: Arc::new(
                names.iter().map(|(id, n)| (IdentityId::new(id.to_string()), identity(n))).collect(),
            ),
            services: Arc::default(),
            authorizations: Authorizations::new(terms),
            terminators: Arc::new(hosted.iter().map(|((router, id), cost)| terminator(*router, *id, *cost)).collect()),
            links: Arc::new(links.iter().map(|((from, to), cost)| LinkReport {
                from: RouterId::new(from.to_string()),
                to: RouterId::new(to.to_string()),
                cost: *cost,
            }).collect()),
        };
        replica.sort();
        replica
    }
}

fn terminator(router: u8, id: u8, cost: u16) -> Terminator {
    Terminator {
        id: TerminatorId::new(id.to_string()),
        service: ServiceId::new("s"),
        router: RouterId::new(router.to_string()),
        host: IdentityId::new("h"),
        instance: String::new(),
        secret: String::new(),
        precedence: Precedence::default(),
        cost,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_change_sets_leads_to_the_whole(steps in collection::vec(replica(), 1..8)) {
        let (mut sent, mut digest) = (Replica::default(), Replica::default().digest());
        let (mut follower, mut followed) = (sent.clone(), digest);
        for (index, mut next) in (1..).zip(steps) {
            next.index = index;
            let changes = ChangeSet::between((&sent, digest), &next);
            let wire = serde_json::to_vec(&changes).unwrap();
            digest = changes.digest;
            let changes: ChangeSet = serde_json::from_slice(&wire).unwrap();
            prop_assert_eq!(changes.apply(&mut follower, &mut followed), Ok(()));
            prop_assert_eq!(&follower, &next);
            prop_assert_eq!(followed, next.digest());
            let fresh = Authorizations::new(Terms::from(next.authorizations.clone()));
            for identity in 0..IDS {
                let identity = IdentityId::new(identity.to_string());
                for other in 0..IDS {
                    let (service, router) =
                        (ServiceId::new(other.to_string()), RouterId::new(other.to_string()));
                    for permission in [Permission::Dial, Permission::Bind] {
                        prop_assert_eq!(
                            follower.authorizations.allows(&identity, permission, &service),
                            fresh.allows(&identity, permission, &service)
                        );
                    }
                    prop_assert_eq!(
                        follower.authorizations.reaches(&identity, &service, &router),
                        fresh.reaches(&identity, &service, &router)
                    );
                }
            }
            sent = next;
        }
    }

    #[test]
    fn changes_of_another_replica_are_refused_and_change_nothing(
        (old, new, other) in (replica(), replica(), replica()),
    ) {
        let new = Replica { index: 1, ..new };
        let changes = ChangeSet::between((&old, old.digest()), &new);
        let (mut follower, mut digest) = (other.clone(), other.digest());
        if old.digest() == other.digest() {
            return Ok(());
        }
        let refused = changes.clone().apply(&mut follower, &mut digest);
        prop_assert!(matches!(refused, Err(Misfit::Digest { .. })), "{:?}", refused);
        prop_assert_eq!(&follower, &other);
        let mut later = Replica { index: 7, ..old };
        let refused = changes.apply(&mut later, &mut digest);
        prop_assert_eq!(refused, Err(Misfit::Index { from: 0, index: 7 }));
    }
}
