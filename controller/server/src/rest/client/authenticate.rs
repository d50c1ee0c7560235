//! `POST /authenticate`: a client certificate becomes an API session.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::Response,
};
use nightgate_model::id::ApiSessionId;
use nightgate_store::{ApiSession, StoreError, Timestamp};
use serde::Deserialize;

use crate::{
    clock,
    core::{API_SESSION_LIFETIME, Core},
    rest::{
        Failure, Peer, answer,
        body::{Raw, parse},
        shape,
    },
};

/// Query of `POST /authenticate`.
#[derive(Deserialize)]
pub(crate) struct Parameters {
    method: Option<String>,
}

/// Body of `POST /authenticate`. What clients say of themselves beyond this is not used.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authenticate {
    #[serde(default)]
    config_types: Option<Vec<String>>,
}

/// `POST /authenticate?method=cert`.
pub(crate) async fn authenticate(
    State(core): State<Arc<Core>>,
    Query(parameters): Query<Parameters>,
    peer: Peer,
    Raw(body): Raw,
) -> Result<Response, Failure> {
    if parameters.method.as_deref() != Some("cert") {
        let message = "the method must be cert: present the certificate in the TLS handshake";
        return Err(Failure::bad_request("INVALID_AUTH_METHOD", message));
    }
    let body: Authenticate = if body.is_empty() { Authenticate::default() } else { parse(&body)? };
    let fingerprint = peer.fingerprint.ok_or_else(Failure::invalid_auth)?;
    let identity = core
        .read(|memory| memory.model.identity_by_fingerprint(&fingerprint).cloned())
        .filter(|identity| !identity.disabled)
        .ok_or_else(Failure::invalid_auth)?;
    let now = clock::timestamp();
    let session = ApiSession {
        id: ApiSessionId::new(uuid::Uuid::new_v4().to_string()),
        identity: identity.id.clone(),
        fingerprint,
        config_types: body.config_types.unwrap_or_default(),
        created_at: now,
        expires_at: Timestamp(now.0 + API_SESSION_LIFETIME),
    };
    match core.put_api_session(session.clone()).await {
        // The identity was deleted in between.
        Err(StoreError::NotFound { .. }) => return Err(Failure::invalid_auth()),
        stored => stored?,
    }
    let token = core.sign_api_session(&session)?;
    Ok(answer::ok(shape::api_session(&session, &identity, &token)))
}
