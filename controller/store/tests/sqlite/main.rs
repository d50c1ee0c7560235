//! What the store keeps, what it refuses, and that memory and disk agree.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod property;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt as _,
};

use nightgate_model::{
    entity::{Config, ConfigType, Service},
    id::{ApiSessionId, ConfigId, ConfigTypeId, IdentityId, ServiceId},
    kind::EntityKind,
};
use nightgate_store::{
    Action, ApiSession, AuditRecord, Author, Change, EnrollmentTarget, EnrollmentToken, Mfa,
    PasswordLogin, SecondFactor, SqliteStore, Step, Store as _, StoreError, TOKEN_RESERVE,
    Timestamp, Whose,
};

use crate::support::*;

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
        fingerprint: Some("00".into()),
        config_types: vec!["all".into()],
        created_at: Timestamp(1),
        expires_at: Timestamp(900),
        native: true,
        second_factor: SecondFactor::NotNeeded,
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
    let model = store.load().unwrap().model;
    let pending = &model.enrollments[&EnrollmentToken::new("i1").id()];
    assert_eq!(pending.target, EnrollmentTarget::Identity(IdentityId::new("i1")));
    assert_eq!(pending.expires_at, Timestamp(1_000));
}

#[test]
fn tokens_are_not_stored_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let target = EnrollmentTarget::Identity(IdentityId::new("i"));
    let enroll = Step::Enroll(target, enrollment("a-token-to-look-for"));
    let change = Change::from(vec![Step::Create(identity("i", "alice").into()), enroll]);
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
    let empty = store.load().unwrap();
    store.apply(&create_identity("i", "alice"), Timestamp(1)).unwrap();
    store.apply(&create_router("r", "gw", true), Timestamp(1)).unwrap();
    store.apply(&delete(EntityKind::Identity, "i"), Timestamp(2)).unwrap();
    store.apply(&delete(EntityKind::EdgeRouter, "r"), Timestamp(2)).unwrap();
    assert_eq!(store.load().unwrap().model, empty.model);
    let again = store.apply(&delete(EntityKind::EdgeRouter, "r"), Timestamp(3)).unwrap_err();
    assert!(matches!(again, StoreError::NotFound { kind: EntityKind::EdgeRouter, .. }), "{again}");
}

#[test]
fn a_session_of_nobody_is_refused_and_ended_ones_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let session = |id: &str, expires_at| ApiSession {
        id: ApiSessionId::new(id),
        identity: IdentityId::new("i"),
        fingerprint: Some("00".into()),
        config_types: Vec::new(),
        created_at: Timestamp(1),
        expires_at: Timestamp(expires_at),
        native: true,
        second_factor: SecondFactor::NotNeeded,
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
    assert!(store.load().unwrap().ended_sessions.is_empty(), "they ended by themselves");
    let index = store.load().unwrap().index;
    assert_eq!(store.remove_api_session(&ApiSessionId::new("b")).unwrap(), index + 1);
    let loaded = store.load().unwrap();
    assert_eq!(loaded.api_sessions, []);
    let until = Timestamp(40 + TOKEN_RESERVE);
    assert_eq!(loaded.ended_sessions, BTreeMap::from([(ApiSessionId::new("b"), until)]));
    store.put_api_session(&session("c", until.0 + 9), until).unwrap();
    assert!(store.load().unwrap().ended_sessions.is_empty());
}

#[test]
fn an_identity_that_is_disabled_loses_its_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(&create_identity("i", "alice"), Timestamp(1)).unwrap();
    let session = ApiSession {
        id: ApiSessionId::new("a"),
        identity: IdentityId::new("i"),
        fingerprint: Some("00".into()),
        config_types: Vec::new(),
        created_at: Timestamp(1),
        expires_at: Timestamp(10),
        native: true,
        second_factor: SecondFactor::NotNeeded,
    };
    store.put_api_session(&session, Timestamp(1)).unwrap();
    store.apply(&update_identity("i", "bob", false), Timestamp(2)).unwrap();
    assert_eq!(store.load().unwrap().api_sessions.len(), 1);
    store.apply(&update_identity("i", "bob", true), Timestamp(3)).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.api_sessions, []);
    let stored = &loaded.model.identities[&IdentityId::new("i")];
    assert_eq!((stored.created_at, stored.updated_at), (Timestamp(1), Timestamp(3)));
    assert_eq!((stored.entity.name.as_str(), stored.entity.disabled_until), ("bob", Some(5)));
}

#[test]
fn second_factors_are_kept_and_a_session_that_ends_without_its_own_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(&create_identity("i", "alice"), Timestamp(1)).unwrap();
    let mfa = Mfa {
        identity: IdentityId::new("i"),
        id: "m".into(),
        is_verified: true,
        sealed: vec![0, 255, 7],
        last_step: 59_000_000,
        created_at: Timestamp(2),
    };
    store.apply(&vec![Step::SetMfa(mfa.clone())].into(), Timestamp(2)).unwrap();
    let session = |id: &str, second_factor| ApiSession {
        id: ApiSessionId::new(id),
        identity: IdentityId::new("i"),
        fingerprint: Some("00".into()),
        config_types: Vec::new(),
        created_at: Timestamp(1),
        expires_at: Timestamp(10),
        native: false,
        second_factor,
    };
    for id in ["a", "b"] {
        store.put_api_session(&session(id, SecondFactor::Due), Timestamp(3)).unwrap();
    }
    let passed = SecondFactor::Passed(Timestamp(4));
    let step = Step::SetSecondFactor(Whose::Session(ApiSessionId::new("b")), passed);
    store.apply(&vec![step].into(), Timestamp(4)).unwrap();

    drop(store);
    let store = open(dir.path());
    let loaded = store.load().unwrap();
    assert_eq!(loaded.model.verified_mfa(&IdentityId::new("i")), Some(&mfa));
    let sessions = [session("a", SecondFactor::Due), session("b", passed)];
    assert_eq!(loaded.api_sessions, sessions);
    let later = ApiSession { expires_at: Timestamp(90), ..session("c", SecondFactor::NotNeeded) };
    store.put_api_session(&later, Timestamp(20)).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.api_sessions, [later]);
    let until = Timestamp(10 + TOKEN_RESERVE);
    assert_eq!(loaded.ended_sessions, BTreeMap::from([(ApiSessionId::new("a"), until)]));

    let all = Step::SetSecondFactor(Whose::Identity(IdentityId::new("i")), SecondFactor::Due);
    let removed = Step::RemoveMfa(IdentityId::new("i"));
    store.apply(&vec![all, removed].into(), Timestamp(30)).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.api_sessions[0].second_factor, SecondFactor::Due);
    assert!(loaded.model.mfas.is_empty());
}

#[test]
fn a_change_is_logged_if_and_only_if_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let record = |name: &str| AuditRecord {
        author: Author { id: "a".into(), name: "admin".into() },
        action: Action::Create,
        kind: EntityKind::Identity,
        id: name.into(),
        name: name.into(),
        before: None,
        after: Some(serde_json::json!({ "name": name })),
    };
    for (at, name) in [(1, "alice"), (2, "bob")] {
        let change = Change { audit: vec![record(name)], ..create_identity(name, name) };
        store.apply(&change, Timestamp(at)).unwrap();
    }
    let refused = Change { audit: vec![record("carol")], ..create_identity("carol", "bob") };
    store.apply(&refused, Timestamp(3)).unwrap_err();
    let mut entries = Vec::new();
    let collect = &mut |entry| {
        entries.push(entry);
        std::ops::ControlFlow::Continue(())
    };
    open(dir.path()).audit(collect).unwrap();
    let found: Vec<_> = entries.iter().map(|e| (e.number, e.at, e.record.name.as_str())).collect();
    assert_eq!(found, [(2, Timestamp(2), "bob"), (1, Timestamp(1), "alice")]);
    assert_eq!(entries[0].record, record("bob"));
}

#[test]
fn services_share_configs_and_what_is_in_use_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let kind =
        ConfigType { id: ConfigTypeId::new("t"), name: "t".into(), schema: serde_json::json!({}) };
    let config = |id: &str| Config {
        id: ConfigId::new(id),
        name: id.into(),
        config_type_id: ConfigTypeId::new("t"),
        data: serde_json::json!({ "x": 1 }),
    };
    let service = |configs: &[&str]| Service {
        id: ServiceId::new("s"),
        name: "s".into(),
        role_attributes: BTreeSet::new(),
        encryption_required: true,
        terminator_strategy: Default::default(),
        terminators: [].into(),
        config: BTreeMap::new(),
        configs: configs.iter().map(|id| ConfigId::new(*id)).collect(),
    };
    let steps = vec![
        Step::Create(kind.into()),
        Step::Create(config("c1").into()),
        Step::Create(config("c2").into()),
        Step::Create(service(&["c1"]).into()),
    ];
    store.apply(&steps.into(), Timestamp(1)).unwrap();
    let update = vec![Step::Update(service(&["c2"]).into())];
    store.apply(&update.into(), Timestamp(2)).unwrap();
    let before = open(dir.path()).load().unwrap();
    let stored = &before.model.services[&ServiceId::new("s")].entity;
    assert_eq!(*stored, service(&["c2"]));
    assert!(store.apply(&delete(EntityKind::Config, "c2"), Timestamp(3)).is_err());
    assert!(store.apply(&delete(EntityKind::ConfigType, "t"), Timestamp(3)).is_err());
    assert_eq!(store.load().unwrap(), before);
    store.apply(&delete(EntityKind::Config, "c1"), Timestamp(3)).unwrap();
    store.apply(&delete(EntityKind::Service, "s"), Timestamp(4)).unwrap();
    store.apply(&delete(EntityKind::Config, "c2"), Timestamp(5)).unwrap();
}

#[test]
fn a_new_password_ends_the_sessions_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(&create_identity("i", "alice"), Timestamp(1)).unwrap();
    store.apply(&create_identity("j", "bob"), Timestamp(1)).unwrap();
    let login = |identity: &str, hash: &str| PasswordLogin {
        identity: IdentityId::new(identity),
        username: "alice".into(),
        hash: hash.into(),
    };
    let set = |login| Change::from(vec![Step::SetPassword(login)]);
    store.apply(&set(login("i", "h1")), Timestamp(2)).unwrap();
    let taken = store.apply(&set(login("j", "h2")), Timestamp(3)).unwrap_err();
    assert!(matches!(taken, StoreError::UsernameTaken { .. }), "{taken}");
    let session = |id: &str, fingerprint: Option<&str>| ApiSession {
        id: ApiSessionId::new(id),
        identity: IdentityId::new("i"),
        fingerprint: fingerprint.map(String::from),
        config_types: Vec::new(),
        created_at: Timestamp(1),
        expires_at: Timestamp(10),
        native: true,
        second_factor: SecondFactor::NotNeeded,
    };
    store.put_api_session(&session("a", None), Timestamp(3)).unwrap();
    store.put_api_session(&session("b", Some("00")), Timestamp(3)).unwrap();
    assert_eq!(store.load().unwrap().api_sessions.len(), 2);
    store.apply(&set(login("i", "h3")), Timestamp(4)).unwrap();
    assert_eq!(store.load().unwrap().api_sessions, [session("b", Some("00"))]);
    assert_eq!(open(dir.path()).password("alice").unwrap(), Some(login("i", "h3")));
    let remove = Change::from(vec![Step::RemovePassword(IdentityId::new("i"))]);
    store.apply(&remove, Timestamp(5)).unwrap();
    assert_eq!(store.password("alice").unwrap(), None);
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
