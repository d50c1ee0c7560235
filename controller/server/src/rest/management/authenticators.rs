//! Certificates and passwords of identities, for operators. Taking one away ends what began with it at once.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{
    api::{CreateAuthenticator, Created, ReEnroll},
    entity::Identity,
    token::EnrollmentMethod,
};
use nightgate_store::{EnrollmentTarget, PasswordLogin, Step};
use serde_json::{Value, json};

use super::{
    auth_policies::check_password,
    enrollments::{self, Wanted},
    entities::find,
    listed::{Listed, answer_some, list, one},
    signing::Signing,
    validate,
};
use crate::{
    core::{Core, Memory},
    rest::{
        Failure, answer,
        api::{Access, Api},
        authenticator::{Authenticator, FIELDS, Method},
        body::Body,
        caller::Admin,
        query::{ListQuery, Names},
        schema,
    },
};

/// Certificates and passwords of all identities.
struct Authenticators;

impl Listed for Authenticators {
    const NAME: &'static str = "the authenticator";
    const FIELDS: &'static [&'static str] = FIELDS;
    type Entry<'a> = Authenticator<'a>;

    fn all(memory: &Memory) -> impl Iterator<Item = Authenticator<'_>> {
        Authenticator::all(&memory.model)
    }

    fn names(authenticator: &Authenticator<'_>, _memory: &Memory) -> Names {
        Names { id: authenticator.id(), name: authenticator.id() }
    }

    fn shape(authenticator: &Authenticator<'_>, memory: &Memory) -> Value {
        authenticator.shape(&memory.model)
    }

    fn find<'a>(memory: &'a Memory, id: &str) -> Option<Authenticator<'a>> {
        Authenticator::find(id, &memory.model).ok()
    }
}

/// The routes of authenticators.
pub(super) fn api() -> Api {
    Api::new(Access::Administrator)
        .get("/authenticators", "Certificates and passwords of identities", list::<Authenticators>)
        .post("/authenticators", "Give an identity a password", create)
        .takes(schema::of::<CreateAuthenticator>())
        .answers(schema::of::<Created>())
        .get("/authenticators/{id}", "One of them", one::<Authenticators>)
        .delete("/authenticators/{id}", "Take it away", delete)
        .post("/authenticators/{id}/re-enroll", "Take it away and enroll again", enroll_again)
        .takes(schema::of::<ReEnroll>())
        .answers(schema::of::<Created>())
        .get("/identities/{id}/authenticators", "Those of one identity", list_of_identity)
}

async fn list_of_identity(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let own = Authenticator::of(find::<Identity>(&memory.model, &id)?, &memory.model);
        answer_some::<Authenticators>(memory, &query, own)
    })
}

/// Gives an identity a password. Certificates come of enrollments only.
async fn create(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Body(body): Body<CreateAuthenticator>,
) -> Result<Response, Failure> {
    if body.method != Method::Updb.as_str() {
        let message = "method: updb; for a certificate, make an enrollment (POST /enrollments)";
        return Err(Failure::invalid(message));
    }
    core.read(|memory| check_password(&body.identity_id, &body.password, &memory.model))?;
    let hash = core.passwords.hash(body.password).await?;
    let id = Method::Updb.id(&body.identity_id);
    core.edit(caller.author(), move |memory| {
        let identity = &find::<Identity>(&memory.model, body.identity_id.as_str())?.entity.id;
        if memory.model.usernames.contains_key(identity) {
            return Err(Failure::conflict("the identity has a password; delete that first"));
        }
        validate::name(&body.username)?;
        let (identity, username) = (identity.clone(), body.username);
        Ok((vec![Step::SetPassword(PasswordLogin { identity, username, hash })], ()))
    })
    .await?;
    Ok(answer::created(json!(Created { id, enrollment_jwt: None })))
}

/// Sessions that began with it end, and the circuits under them.
async fn delete(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let own = (caller.identity.id.clone(), caller.session.fingerprint.is_some());
    core.edit(caller.author(), move |memory| {
        let found = Authenticator::find(&id, &memory.model)?;
        if own == (found.identity.entity.id.clone(), found.method == Method::Cert) {
            let message = "an administrator cannot take away what it is authenticated with";
            return Err(Failure::conflict(message));
        }
        Ok((vec![removal(&found)], ()))
    })
    .await?;
    Ok(answer::ok(json!({})))
}

/// Takes it away, and lets the identity enroll anew by the same method.
async fn enroll_again(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Signing(algorithm): Signing,
    Body(body): Body<ReEnroll>,
) -> Result<Response, Failure> {
    let wanted = core.read(|memory| {
        let found = Authenticator::find(&id, &memory.model)?;
        let wanted = match found.method {
            Method::Cert => Wanted::new(EnrollmentMethod::Ott),
            Method::Updb => {
                let username = memory.model.usernames.get(&found.identity.entity.id).cloned();
                Wanted { username, ..Wanted::new(EnrollmentMethod::Updb) }
            }
        };
        Ok::<_, Failure>((wanted, EnrollmentTarget::Identity(found.identity.entity.id.clone())))
    });
    let (mut wanted, target) = wanted?;
    if let Some(expires_at) = &body.expires_at {
        wanted.expires_at = enrollments::time(expires_at)?;
    }
    let (step, jwt) = wanted.issue(&core, target, algorithm)?;
    let Step::Enroll(_, enrollment) = &step else { return Err(Failure::invalid_token()) };
    let new = enrollment.token.id();
    core.edit(caller.author(), move |memory| {
        let found = Authenticator::find(&id, &memory.model)?;
        Ok::<_, Failure>((vec![removal(&found), step], ()))
    })
    .await?;
    Ok(answer::ok(json!(Created { id: new, enrollment_jwt: Some(jwt) })))
}

fn removal(authenticator: &Authenticator<'_>) -> Step {
    let identity = authenticator.identity.entity.id.clone();
    match authenticator.method {
        Method::Cert => Step::Decertify(identity),
        Method::Updb => Step::RemovePassword(identity),
    }
}
