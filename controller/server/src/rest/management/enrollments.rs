//! Enrollments that nobody has redeemed yet. Their tokens are handed over when they are made, and never
//! shown again: the controller keeps their digests only.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{
    api::{CreateEnrollment, Created, IdentityEnrollment},
    entity::{Ca, Identity},
    id::{CaId, IdentityId, RouterId},
    token::{EnrollmentClaims, EnrollmentMethod, JwtAlgorithm},
};
use nightgate_pki::TokenError;
use nightgate_store::{
    Enrollment, EnrollmentId, EnrollmentTarget, EnrollmentToken, Model, PendingEnrollment, Step,
    Timestamp,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    entities::find,
    listed::{Listed, answer_some, found, list, one},
    signing::Signing,
    validate,
};
use crate::{
    clock,
    core::{Core, Memory},
    rest::{
        Failure, answer,
        api::{Access, Api},
        body::Body,
        caller::Admin,
        query::{ListQuery, Names},
        shape,
    },
};

/// How long an enrollment token is good, in milliseconds.
const LIFETIME: i64 = 24 * 60 * 60 * 1000;

/// How long the token of a CA is good, in milliseconds: it is no secret and lets nobody in by itself.
const CA_TOKEN_LIFETIME: i64 = 365 * LIFETIME;

/// Pending enrollments.
struct Enrollments;

impl Listed for Enrollments {
    const NAME: &'static str = "the enrollment";
    const FIELDS: &'static [&'static str] =
        &["method", "identityId", "edgeRouterId", "caId", "username", "expiresAt"];
    type Entry<'a> = (&'a EnrollmentId, &'a PendingEnrollment);

    fn all(memory: &Memory) -> impl Iterator<Item = Self::Entry<'_>> {
        memory.model.enrollments.iter()
    }

    fn names((id, _): &Self::Entry<'_>, _memory: &Memory) -> Names {
        Names { id: (*id).clone(), name: (*id).clone() }
    }

    fn shape((id, pending): &Self::Entry<'_>, memory: &Memory) -> Value {
        shape(id, pending, memory)
    }

    fn find<'a>(memory: &'a Memory, id: &str) -> Option<Self::Entry<'a>> {
        memory.model.enrollments.get_key_value(id)
    }
}

/// How something is to enroll.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) method: EnrollmentMethod,
    pub(super) ca: Option<CaId>,
    pub(super) username: Option<String>,
    pub(super) expires_at: Timestamp,
}

/// Body of `POST /enrollments/{id}/refresh`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    expires_at: String,
}

/// The routes of enrollments.
pub(super) fn api() -> Api {
    Api::new(Access::Administrator)
        .get("/enrollments", "Enrollments that nobody has redeemed yet", list::<Enrollments>)
        .post("/enrollments", "Let an identity enroll (again)", create)
        .get("/enrollments/{id}", "One of them", one::<Enrollments>)
        .delete("/enrollments/{id}", "Take it back", delete)
        .post("/enrollments/{id}/refresh", "Another token in its place", refresh)
        .get("/identities/{id}/enrollments", "Those of one identity", list_of_identity)
}

impl Wanted {
    /// By this method, for the usual time.
    pub(super) fn new(method: EnrollmentMethod) -> Self {
        let expires_at = Timestamp(clock::timestamp().0 + LIFETIME);
        Self { method, ca: None, username: None, expires_at }
    }

    /// What the body of a new identity asks for; none if it shall not enroll.
    pub(super) fn for_identity(body: IdentityEnrollment) -> Result<Option<Self>, Failure> {
        match body {
            IdentityEnrollment { ott: false, ottca: None, updb: None } => Ok(None),
            IdentityEnrollment { ott: true, ottca: None, updb: None } => {
                Ok(Some(Self::new(EnrollmentMethod::Ott)))
            }
            IdentityEnrollment { ott: false, ottca, updb: None } => {
                Ok(Some(Self { ca: ottca, ..Self::new(EnrollmentMethod::Ottca) }))
            }
            IdentityEnrollment { ott: false, ottca: None, updb } => {
                Ok(Some(Self { username: updb, ..Self::new(EnrollmentMethod::Updb) }))
            }
            IdentityEnrollment { .. } => {
                Err(Failure::invalid("enrollment: one of ott, ottca and updb, not several"))
            }
        }
    }

    /// Refuses an enrollment that could not be redeemed.
    pub(super) fn check(&self, model: &Model) -> Result<(), Failure> {
        if self.expires_at <= clock::timestamp() {
            return Err(Failure::invalid("expiresAt: expected a time to come"));
        }
        let unused = match self.method {
            EnrollmentMethod::Ott | EnrollmentMethod::Erott => {
                self.ca.is_some() || self.username.is_some()
            }
            EnrollmentMethod::Ottca => {
                let ca = self.ca.as_ref().and_then(|id| model.cas.get(id)).map(|ca| &ca.entity);
                if !ca.is_some_and(|ca| ca.is_verified && ca.is_ott_ca_enrollment_enabled) {
                    let message = "caId: expected a verified CA with isOttCaEnrollmentEnabled";
                    return Err(Failure::invalid(message));
                }
                self.username.is_some()
            }
            EnrollmentMethod::Updb => {
                let username = self.username.as_deref().unwrap_or_default();
                validate::name(username)?;
                if model.usernames.values().any(|taken| taken == username) {
                    return Err(Failure::conflict("username: another identity logs in with it"));
                }
                self.ca.is_some()
            }
            EnrollmentMethod::Ca => true,
        };
        if unused {
            let message = "method: ott, ottca with caId, or updb with username; nothing else";
            return Err(Failure::invalid(message));
        }
        Ok(())
    }

    /// Makes the enrollment and signs what the operator hands over.
    pub(super) fn issue(
        self,
        core: &Core,
        target: EnrollmentTarget,
        algorithm: JwtAlgorithm,
    ) -> Result<(Step, String), TokenError> {
        let token = uuid::Uuid::new_v4().to_string();
        let (_, subject) = target.subject();
        let claims = claims(core, subject, token.clone(), self.method, self.expires_at);
        let jwt = core.authority.sign_enrollment(&claims, algorithm)?;
        let enrollment = Enrollment {
            token: EnrollmentToken::new(token),
            method: self.method,
            ca: self.ca,
            username: self.username,
            expires_at: self.expires_at,
        };
        Ok((Step::Enroll(target, enrollment), jwt))
    }
}

/// What a new entity enrolls as.
pub(super) fn target(method: EnrollmentMethod, id: &str) -> EnrollmentTarget {
    match method {
        EnrollmentMethod::Erott => EnrollmentTarget::Router(RouterId::new(id)),
        EnrollmentMethod::Ott
        | EnrollmentMethod::Ottca
        | EnrollmentMethod::Ca
        | EnrollmentMethod::Updb => EnrollmentTarget::Identity(IdentityId::new(id)),
    }
}

/// The token by which anybody with a certificate of this CA enrolls.
pub(super) fn ca_token(
    core: &Core,
    ca: &Ca,
    algorithm: JwtAlgorithm,
) -> Result<String, TokenError> {
    let expires_at = Timestamp(clock::timestamp().0 + CA_TOKEN_LIFETIME);
    let claims = claims(core, ca.id.as_str(), ca.id.to_string(), EnrollmentMethod::Ca, expires_at);
    core.authority.sign_enrollment(&claims, algorithm)
}

fn claims(
    core: &Core,
    subject: &str,
    token: String,
    method: EnrollmentMethod,
    expires_at: Timestamp,
) -> EnrollmentClaims {
    EnrollmentClaims {
        iss: format!("https://{}", core.address),
        sub: subject.into(),
        aud: vec![String::new()],
        exp: expires_at.0 / 1000,
        jti: token,
        em: method,
    }
}

/// An enrollment in OpenZiti's shape.
pub(in crate::rest) fn shape(id: &str, pending: &PendingEnrollment, memory: &Memory) -> Value {
    let (kind, subject) = pending.target.subject();
    let name = memory.model.describe(kind, subject).map(|(name, _)| name).unwrap_or_default();
    let (field, other) = match pending.target {
        EnrollmentTarget::Identity(_) => ("identity", "edgeRouter"),
        EnrollmentTarget::Router(_) => ("edgeRouter", "identity"),
    };
    let mut own = json!({
        "method": pending.method,
        "token": "",
        "jwt": "",
        "caId": pending.ca,
        "username": pending.username,
        "expiresAt": clock::rfc3339(pending.expires_at),
        "details": {},
    });
    own[format!("{field}Id")] = subject.into();
    own[field] = shape::reference(kind.path(), subject, &name);
    own[format!("{other}Id")] = Value::Null;
    shape::entity("enrollments", id, (pending.created_at, pending.created_at), own)
}

async fn list_of_identity(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let target =
            EnrollmentTarget::Identity(find::<Identity>(&memory.model, &id)?.entity.id.clone());
        let own = Enrollments::all(memory).filter(|(_, pending)| pending.target == target);
        answer_some::<Enrollments>(memory, &query, own)
    })
}

/// Lets an identity enroll that exists already. What it authenticates with now counts until the token is
/// redeemed.
async fn create(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Signing(algorithm): Signing,
    Body(body): Body<CreateEnrollment>,
) -> Result<Response, Failure> {
    let expires_at = body.expires_at.as_deref().map(time).transpose()?;
    let mut wanted = Wanted { ca: body.ca_id, username: body.username, ..Wanted::new(body.method) };
    wanted.expires_at = expires_at.unwrap_or(wanted.expires_at);
    let target = EnrollmentTarget::Identity(body.identity_id.clone());
    let (step, jwt) = wanted.clone().issue(&core, target, algorithm)?;
    let Step::Enroll(_, enrollment) = &step else { return Err(Failure::invalid_token()) };
    let id = enrollment.token.id();
    core.edit(caller.author(), move |memory| {
        let identity = &find::<Identity>(&memory.model, body.identity_id.as_str())?.entity;
        let of_same = |pending: &PendingEnrollment| {
            pending.target == EnrollmentTarget::Identity(identity.id.clone())
                && pending.method == wanted.method
        };
        if memory.model.enrollments.values().any(of_same) {
            let message =
                "the identity has a pending enrollment by this method; refresh or delete it";
            return Err(Failure::conflict(message));
        }
        wanted.check(&memory.model)?;
        Ok((vec![step], ()))
    })
    .await?;
    Ok(answer::created(json!(Created { id, enrollment_jwt: Some(jwt) })))
}

/// A new token in the place of the one before, which is good for nothing from now on.
async fn refresh(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Signing(algorithm): Signing,
    Body(body): Body<Refresh>,
) -> Result<Response, Failure> {
    let old = core.read(|memory| found::<Enrollments>(memory, &id).map(|(_, old)| old.clone()))?;
    let expires_at = time(&body.expires_at)?;
    let wanted = Wanted { method: old.method, ca: old.ca, username: old.username, expires_at };
    let (step, jwt) = wanted.clone().issue(&core, old.target, algorithm)?;
    let Step::Enroll(_, enrollment) = &step else { return Err(Failure::invalid_token()) };
    let new = enrollment.token.id();
    core.edit(caller.author(), move |memory| {
        found::<Enrollments>(memory, &id)?;
        wanted.check(&memory.model)?;
        Ok::<_, Failure>((vec![Step::DeleteEnrollment(id), step], ()))
    })
    .await?;
    Ok(answer::ok(json!(Created { id: new, enrollment_jwt: Some(jwt) })))
}

async fn delete(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.edit(caller.author(), move |memory| {
        found::<Enrollments>(memory, &id)?;
        Ok::<_, Failure>((vec![Step::DeleteEnrollment(id)], ()))
    })
    .await?;
    Ok(answer::ok(json!({})))
}

pub(super) fn time(text: &str) -> Result<Timestamp, Failure> {
    clock::parse_rfc3339(text)
        .ok_or_else(|| Failure::invalid(format!("expiresAt {text:?}: expected RFC 3339")))
}
