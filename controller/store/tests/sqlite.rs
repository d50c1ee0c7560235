//! What the store keeps, what it refuses, and that memory and disk agree.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::Path};

use nightgate_model::{
    entity::{
        EdgeRouter, Identity, IdentityKind, Permission, Role, Semantic, Service, ServicePolicy,
    },
    id::{ApiSessionId, IdentityId, PolicyId, RouterId, ServiceId},
};
use nightgate_store::{
    ApiSession, Change, Enrollment, EnrollmentTarget, EnrollmentToken, EntityKind, Model, Redeemed,
    SqliteStore, Store, StoreError, Timestamp,
};
use proptest::prelude::*;

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(&dir.join("nightgate.db")).unwrap()
}

fn identity(id: &str, name: &str) -> Identity {
    Identity {
        id: IdentityId::new(id),
        name: name.into(),
        kind: IdentityKind::Default,
        is_admin: false,
        disabled: false,
        role_attributes: ["a".into(), "b".into()].into(),
        fingerprint: None,
    }
}

fn enrollment(token: &str) -> Enrollment {
    Enrollment { token: EnrollmentToken::new(token), expires_at: Timestamp(1_000) }
}

fn create_identity(id: &str, name: &str) -> Change {
    Change::CreateIdentity { identity: identity(id, name), enrollment: Some(enrollment(id)) }
}

fn create_router(id: &str, name: &str, tunneler: bool) -> Change {
    let router = EdgeRouter {
        id: RouterId::new(id),
        name: name.into(),
        is_tunneler_enabled: tunneler,
        disabled: false,
        fingerprint: None,
        address: None,
    };
    let identity = tunneler.then(|| Identity { kind: IdentityKind::Router, ..identity(id, name) });
    Change::CreateRouter { router, identity, enrollment: enrollment(id) }
}

fn create_service(id: &str, name: &str) -> Change {
    Change::CreateService(Service {
        id: ServiceId::new(id),
        name: name.into(),
        role_attributes: ["web".into()].into(),
        encryption_required: true,
        config: BTreeMap::from([("host.v1".into(), serde_json::json!({"port": 80}))]),
    })
}

fn create_policy(id: &str, name: &str) -> Change {
    Change::CreatePolicy(ServicePolicy {
        id: PolicyId::new(id),
        name: name.into(),
        permission: Permission::Dial,
        semantic: Semantic::AllOf,
        identity_roles: vec![Role::All, Role::Id("x".into())],
        service_roles: vec![Role::Attribute("web".into())],
    })
}

fn redeem_identity(id: &str, token: &str, fingerprint: &str) -> Change {
    Change::Redeem {
        token: EnrollmentToken::new(token),
        redeemed: Redeemed::Identity { id: IdentityId::new(id), fingerprint: fingerprint.into() },
    }
}

fn redeem_router(id: &str, token: &str, fingerprint: &str) -> Change {
    Change::Redeem {
        token: EnrollmentToken::new(token),
        redeemed: Redeemed::Router {
            id: RouterId::new(id),
            fingerprint: fingerprint.into(),
            address: Some("router.example:443".into()),
        },
    }
}

#[test]
fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let changes = [
        create_identity("i", "alice"),
        create_router("r", "gw", true),
        create_service("s", "web"),
        create_policy("p", "web-dial"),
        redeem_identity("i", "i", "00"),
        redeem_router("r", "r", "11"),
    ];
    for (index, change) in (1..).zip(&changes) {
        assert_eq!(store.apply(change, Timestamp(7)).unwrap(), index);
    }
    let session = ApiSession {
        id: ApiSessionId::new("a"),
        identity: IdentityId::new("i"),
        fingerprint: "00".into(),
        config_types: vec!["all".into()],
        created_at: Timestamp(1),
        expires_at: Timestamp(900),
    };
    store.put_api_session(&session, Timestamp(1)).unwrap();
    let before = store.load().unwrap();
    drop(store);
    let after = open(dir.path()).load().unwrap();
    assert_eq!(before, after);
    assert_eq!(after.index, 6);
    assert_eq!(after.api_sessions, [session]);
    assert_eq!(after.model.identity_by_fingerprint("11").unwrap().name, "gw");
    assert_eq!(after.model.router_by_fingerprint("11").unwrap().name, "gw");
}

#[test]
fn the_file_is_readable_by_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(&create_service("s", "web"), Timestamp(1)).unwrap();
    for name in ["nightgate.db", "nightgate.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn names_are_unique_for_each_kind_and_a_refused_change_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(&create_identity("i1", "same"), Timestamp(1)).unwrap();
    store.apply(&create_service("s1", "same"), Timestamp(1)).unwrap();
    let before = store.load().unwrap();
    for (change, kind) in [
        (create_identity("i2", "same"), EntityKind::Identity),
        (create_service("s2", "same"), EntityKind::Service),
        // The router's own identity would have the name of another identity.
        (create_router("r", "same", true), EntityKind::Identity),
    ] {
        let refused = store.apply(&change, Timestamp(2)).unwrap_err();
        let StoreError::NameTaken { kind: found, name } = refused else { panic!("{refused}") };
        assert_eq!((found, name.as_str()), (kind, "same"));
    }
    assert_eq!(store.load().unwrap(), before);
}

#[test]
fn a_token_is_redeemed_once_whichever_connection_asks() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).apply(&create_identity("i", "alice"), Timestamp(1)).unwrap();
    let stores: Vec<_> = (0..4).map(|_| open(dir.path())).collect();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = stores
            .iter()
            .enumerate()
            .map(|(index, store)| {
                let change = redeem_identity("i", "i", &index.to_string());
                scope.spawn(move || store.apply(&change, Timestamp(2)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let winners: Vec<_> = (0..).zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    assert!(
        outcomes
            .iter()
            .filter_map(|o| o.as_ref().err())
            .all(|e| matches!(e, StoreError::TokenInvalid))
    );
    let loaded = stores[0].load().unwrap();
    let fingerprint = &loaded.model.identities[&IdentityId::new("i")].entity.fingerprint;
    assert_eq!(fingerprint.as_deref(), Some(winners[0].0.to_string().as_str()));
}

#[test]
fn a_token_is_good_for_its_own_entity_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(&create_identity("i1", "alice"), Timestamp(1)).unwrap();
    store.apply(&create_identity("i2", "bob"), Timestamp(1)).unwrap();
    let refused = store.apply(&redeem_identity("i2", "i1", "00"), Timestamp(2)).unwrap_err();
    assert!(matches!(refused, StoreError::TokenInvalid), "{refused}");
    let pending = store.enrollment(&EnrollmentToken::new("i1")).unwrap();
    let target = EnrollmentTarget::Identity(IdentityId::new("i1"));
    assert_eq!(pending, Some((target, Timestamp(1_000))));
}

#[test]
fn tokens_are_not_stored_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let change = Change::CreateIdentity {
        identity: identity("i", "alice"),
        enrollment: Some(enrollment("a-token-to-look-for")),
    };
    store.apply(&change, Timestamp(1)).unwrap();
    for name in ["nightgate.db", "nightgate.db-wal"] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        let marker = b"a-token-to-look-for";
        assert!(!bytes.windows(marker.len()).any(|window| window == marker), "{name}");
    }
}

#[test]
fn deleting_takes_what_depends_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(&create_identity("i", "alice"), Timestamp(1)).unwrap();
    store.apply(&create_router("r", "gw", true), Timestamp(1)).unwrap();
    store.apply(&Change::DeleteIdentity(IdentityId::new("i")), Timestamp(2)).unwrap();
    store.apply(&Change::DeleteRouter(RouterId::new("r")), Timestamp(2)).unwrap();
    assert_eq!(store.load().unwrap().model, Model::default());
    assert_eq!(store.enrollment(&EnrollmentToken::new("i")).unwrap(), None);
    assert_eq!(store.enrollment(&EnrollmentToken::new("r")).unwrap(), None);
    let again = store.apply(&Change::DeleteRouter(RouterId::new("r")), Timestamp(3)).unwrap_err();
    assert!(matches!(again, StoreError::NotFound { kind: EntityKind::EdgeRouter, .. }), "{again}");
}

#[test]
fn a_session_of_nobody_is_refused_and_ended_ones_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let session = |id: &str, expires_at| ApiSession {
        id: ApiSessionId::new(id),
        identity: IdentityId::new("i"),
        fingerprint: "00".into(),
        config_types: Vec::new(),
        created_at: Timestamp(1),
        expires_at: Timestamp(expires_at),
    };
    assert!(matches!(
        store.put_api_session(&session("a", 10), Timestamp(1)),
        Err(StoreError::NotFound { kind: EntityKind::Identity, .. })
    ));
    store.apply(&create_identity("i", "alice"), Timestamp(1)).unwrap();
    store.put_api_session(&session("a", 10), Timestamp(1)).unwrap();
    store.put_api_session(&session("a", 20), Timestamp(2)).unwrap();
    store.put_api_session(&session("b", 40), Timestamp(20)).unwrap();
    assert_eq!(store.load().unwrap().api_sessions, [session("b", 40)]);
    store.remove_api_session(&ApiSessionId::new("b")).unwrap();
    assert_eq!(store.load().unwrap().api_sessions, []);
}

#[test]
fn a_file_of_a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join("nightgate.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let refused = SqliteStore::open(&path).err().unwrap();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
}

#[test]
fn a_file_that_is_not_a_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nightgate.db");
    std::fs::write(&path, "not a database, and long enough to be looked at as one".repeat(20))
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(SqliteStore::open(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

fn any_change() -> impl Strategy<Value = Change> {
    let id = proptest::sample::select(vec!["1", "2"]);
    (id, 0..12_u8).prop_map(|(id, which)| {
        let (i, r, s, p) = (format!("i{id}"), format!("r{id}"), format!("s{id}"), format!("p{id}"));
        match which {
            0 => create_identity(&i, &i),
            1 => Change::DeleteIdentity(IdentityId::new(i)),
            2 => create_router(&r, &r, true),
            3 => create_router(&r, &r, false),
            4 => Change::DeleteRouter(RouterId::new(r)),
            5 => create_service(&s, &s),
            6 => Change::DeleteService(ServiceId::new(s)),
            7 => create_policy(&p, &p),
            8 => Change::DeletePolicy(PolicyId::new(p)),
            9 => redeem_identity(&i, &i, &i),
            _ => redeem_router(&r, &r, &r),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn memory_and_disk_hold_the_same_model(changes in proptest::collection::vec(any_change(), 0..24)) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut model = Model::default();
        for (at, change) in (1..).map(Timestamp).zip(&changes) {
            if store.apply(change, at).is_ok() {
                model.apply(change, at);
            }
        }
        prop_assert_eq!(store.load().unwrap().model, model);
    }
}
