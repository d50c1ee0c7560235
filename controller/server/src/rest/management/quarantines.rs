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

use super::{
    entities::find,
    listed::{Listed, list, one},
};
use crate::{
    clock::rfc3339,
    core::{Core, Memory, QuarantineError, begin_quarantine, release_quarantine},
    rest::{
        Failure, answer,
        api::{Access, Api},
        body::Body,
        caller::Admin,
        query::Names,
        shape::reference,
    },
};

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

/// Quarantines; the id of one is that of its identity.
struct Quarantines;

impl Listed for Quarantines {
    const NAME: &'static str = "the quarantine";
    const FIELDS: &'static [&'static str] = &["identityId", "identity", "by", "since", "until"];
    type Entry<'a> = &'a Quarantine;

    fn all(memory: &Memory) -> impl Iterator<Item = &Quarantine> {
        memory.model.quarantines.values()
    }

    fn names(quarantine: &&Quarantine, memory: &Memory) -> Names {
        let name = name(&memory.model, quarantine).to_owned();
        Names { id: quarantine.identity.to_string(), name }
    }

    fn shape(quarantine: &&Quarantine, memory: &Memory) -> Value {
        let id = quarantine.identity.as_str();
        json!({
            "id": id,
            "identityId": id,
            "identity": reference("identities", id, name(&memory.model, quarantine)),
            "since": rfc3339(Timestamp(quarantine.since)),
            "until": rfc3339(Timestamp(quarantine.until)),
            "by": quarantine.by,
            "secondFactor": quarantine.second_factor,
            "reason": quarantine.reason,
            "evidence": quarantine.evidence,
        })
    }
}

/// The routes of quarantines.
pub(super) fn api() -> Api {
    Api::new(Access::Administrator)
        .get("/quarantines", "Identities in quarantine, and why", list::<Quarantines>)
        .post("/quarantines", "Put an identity in quarantine", create)
        .get("/quarantines/{id}", "Why an identity is in quarantine", one::<Quarantines>)
        .delete("/quarantines/{id}", "Release an identity", release)
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
    let request = QuarantineRequest {
        identity: identity_id.clone(),
        seconds,
        reason,
        second_factor: false,
        evidence: None,
    };
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
            | QuarantineError::NoFactor
            | QuarantineError::Router => Self::conflict(error.to_string()),
            QuarantineError::Store(error) => error.into(),
        }
    }
}

fn name<'a>(model: &'a Model, quarantine: &Quarantine) -> &'a str {
    model.identities.get(&quarantine.identity).map_or("", |stored| stored.entity.name.as_str())
}
