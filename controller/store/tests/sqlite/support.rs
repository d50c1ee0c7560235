//! Changes to try.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use nightgate_model::{
    auth::default_policy,
    entity::{
        EdgeRouter, Identity, IdentityKind, Permission, Role, Semantic, Service, ServicePolicy,
    },
    id::{IdentityId, PolicyId, RouterId, ServiceId},
    kind::EntityKind,
    token::EnrollmentMethod,
};
use nightgate_store::{
    Certificate, Change, Enrollment, EnrollmentTarget, EnrollmentToken, PasswordLogin, Redeemed,
    SqliteStore, Step, Timestamp,
};

pub(crate) fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(&dir.join("nightgate.db")).unwrap()
}

pub(crate) fn identity(id: &str, name: &str) -> Identity {
    Identity {
        id: IdentityId::new(id),
        name: name.into(),
        kind: IdentityKind::Default,
        is_admin: false,
        disabled: false,
        disabled_until: None,
        role_attributes: ["a".into(), "b".into()].into(),
        fingerprint: None,
        auth_policy_id: default_policy(),
    }
}

pub(crate) fn enrollment(token: &str) -> Enrollment {
    Enrollment {
        token: EnrollmentToken::new(token),
        method: EnrollmentMethod::Ott,
        ca: None,
        username: None,
        expires_at: Timestamp(1_000),
    }
}

pub(crate) fn certificate(fingerprint: &str) -> Certificate {
    Certificate::first(fingerprint.into(), "PEM".into(), None)
}

pub(crate) fn create_identity(id: &str, name: &str) -> Change {
    let enroll = Step::Enroll(EnrollmentTarget::Identity(IdentityId::new(id)), enrollment(id));
    vec![Step::Create(identity(id, name).into()), enroll].into()
}

pub(crate) fn delete(kind: EntityKind, id: &str) -> Change {
    vec![Step::Delete(kind, id.into())].into()
}

pub(crate) fn update_identity(id: &str, name: &str, disabled: bool) -> Change {
    let disabled_until = disabled.then_some(5);
    vec![Step::Update(Identity { disabled, disabled_until, ..identity(id, name) }.into())].into()
}

pub(crate) fn create_router(id: &str, name: &str, tunneler: bool) -> Change {
    let router = EdgeRouter {
        id: RouterId::new(id),
        name: name.into(),
        is_tunneler_enabled: tunneler,
        disabled: false,
        role_attributes: ["edge".into()].into(),
        fingerprint: None,
        address: None,
        cost: 0,
        no_traversal: false,
    };
    let mut steps = vec![Step::Create(router.into())];
    if tunneler {
        let identity = Identity { kind: IdentityKind::Router, ..identity(id, name) };
        steps.push(Step::Create(identity.into()));
    }
    steps.push(Step::Enroll(EnrollmentTarget::Router(RouterId::new(id)), enrollment(id)));
    steps.into()
}

pub(crate) fn create_service(id: &str, name: &str) -> Change {
    let service = Service {
        id: ServiceId::new(id),
        name: name.into(),
        role_attributes: ["web".into()].into(),
        encryption_required: true,
        terminator_strategy: Default::default(),
        terminators: [].into(),
        config: BTreeMap::from([("host.v1".into(), serde_json::json!({"port": 80}))]),
        configs: BTreeSet::new(),
    };
    vec![Step::Create(service.into())].into()
}

pub(crate) fn create_policy(id: &str, name: &str) -> Change {
    let policy = ServicePolicy {
        id: PolicyId::new(id),
        name: name.into(),
        permission: Permission::Dial,
        semantic: Semantic::AllOf,
        identity_roles: vec![Role::All, Role::Id("x".into())],
        service_roles: vec![Role::Attribute("web".into())],
    };
    vec![Step::Create(policy.into())].into()
}

pub(crate) fn redeem_identity(id: &str, token: &str, fingerprint: &str) -> Change {
    let redeemed =
        Redeemed::Identity { id: IdentityId::new(id), certificate: certificate(fingerprint) };
    vec![Step::Redeem { token: EnrollmentToken::new(token), redeemed }].into()
}

pub(crate) fn login(id: &str, username: &str) -> PasswordLogin {
    PasswordLogin { identity: IdentityId::new(id), username: username.into(), hash: "hash".into() }
}

pub(crate) fn redeem_router(id: &str, token: &str, fingerprint: &str) -> Change {
    let redeemed = Redeemed::Router {
        id: RouterId::new(id),
        certificate: certificate(fingerprint),
        address: Some("router.example:443".into()),
    };
    vec![Step::Redeem { token: EnrollmentToken::new(token), redeemed }].into()
}
