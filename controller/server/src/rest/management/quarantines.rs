//! Identities in quarantine.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{
    entity::Identity,
    id::IdentityId,
    quarantine::{Quarantine, QuarantineRequest},
};
use nightgate_store::{Model, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::entities::find;
use crate::{
    clock::rfc3339,
    core::{Core, QuarantineError, begin_quarantine, release_quarantine},
    rest::{
        Failure, answer,
        api::{Access, Api},
        body::Body,
        caller::Admin,
        query::{ListQuery, Names},
        shape::reference,
    },
};

/// Fields that the list can be filtered and sorted by.
const FIELDS: &[&str] = &["identityId", "identity", "by", "since", "until"];

/// Shortest and longest quarantine that an operator may ask for, in seconds.
const SECONDS: std::ops::RangeInclusive<u64> = 1..=nightgate_model::quarantine::LONGEST;

/// Body of a call that puts an identity in quarantine.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    identity_id: IdentityId,
    seconds: u64,
    #[serde(default)]
    reason: String,
}

/// The routes of quarantines.
pub(super) fn api() -> Api {
    Api::new(Access::Administrator)
        .get("/quarantines", "Identities in quarantine, and why", list)
        .post("/quarantines", "Put an identity in quarantine", create)
        .get("/quarantines/{id}", "Why an identity is in quarantine", one)
        .delete("/quarantines/{id}", "Release an identity", release)
}

async fn list(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let model = &memory.model;
        let names = |quarantine: &&Quarantine| Names {
            id: quarantine.identity.to_string(),
            name: name(model, quarantine).to_owned(),
        };
        query.answer(FIELDS, model.quarantines.values(), names, |one| shape(one, model))
    })
}

async fn one(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let quarantine = memory.model.quarantines.get(&IdentityId::new(id));
        let quarantine = quarantine.ok_or_else(|| Failure::not_found("the quarantine"))?;
        Ok(answer::ok(shape(quarantine, &memory.model)))
    })
}

async fn create(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Body(wanted): Body<Wanted>,
) -> Result<Response, Failure> {
    core.read(|memory| find::<Identity>(&memory.model, wanted.identity_id.as_str()).map(drop))?;
    if !SECONDS.contains(&wanted.seconds) {
        let expected = format!("seconds: expected {} to {}", SECONDS.start(), SECONDS.end());
        return Err(Failure::invalid(expected));
    }
    let Wanted { identity_id, seconds, reason } = wanted;
    let request =
        QuarantineRequest { identity: identity_id.clone(), seconds, reason, evidence: None };
    begin_quarantine(&core, caller.author(), request).await?;
    Ok(answer::ok(json!({ "id": identity_id })))
}

async fn release(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    release_quarantine(&core, caller.author(), IdentityId::new(id)).await?;
    Ok(answer::ok(json!({})))
}

impl From<QuarantineError> for Failure {
    fn from(error: QuarantineError) -> Self {
        match error {
            QuarantineError::Unknown => Self::not_found("the identity"),
            QuarantineError::Free => Self::not_found("the quarantine"),
            QuarantineError::NotPermitted { .. }
            | QuarantineError::Administrator
            | QuarantineError::Router => Self::conflict(error.to_string()),
            QuarantineError::Store(error) => error.into(),
        }
    }
}

fn name<'a>(model: &'a Model, quarantine: &Quarantine) -> &'a str {
    model.identities.get(&quarantine.identity).map_or("", |stored| stored.entity.name.as_str())
}

fn shape(quarantine: &Quarantine, model: &Model) -> Value {
    let id = quarantine.identity.as_str();
    json!({
        "id": id,
        "identityId": id,
        "identity": reference("identities", id, name(model, quarantine)),
        "since": rfc3339(Timestamp(quarantine.since)),
        "until": rfc3339(Timestamp(quarantine.until)),
        "by": quarantine.by,
        "reason": quarantine.reason,
        "evidence": quarantine.evidence,
    })
}
