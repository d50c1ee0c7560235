//! `POST /authenticate`: a client certificate, or a name and a password, become an API session.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::Response,
};
use nightgate_model::{
    auth::default_policy, configs::NATIVE_METHOD, entity::Identity, id::ApiSessionId,
};
use nightgate_store::{ApiSession, Model, PasswordLogin, StoreError, Timestamp};
use serde::Deserialize;

use crate::{
    clock,
    core::{API_SESSION_LIFETIME, Core, Memory, begin_using},
    password::Bounds,
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
    /// Our own clients name here the methods of end-to-end encryption that they speak beside OpenZiti's.
    #[serde(default)]
    end_to_end_methods: Vec<String>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// `POST /authenticate?method=cert` and `POST /authenticate?method=password`.
pub(crate) async fn authenticate(
    State(core): State<Arc<Core>>,
    Query(parameters): Query<Parameters>,
    peer: Peer,
    Raw(body): Raw,
) -> Result<Response, Failure> {
    let mut body: Authenticate =
        if body.is_empty() { Authenticate::default() } else { parse(&body)? };
    let source = peer.source;
    if core.failed_logins.is_over(source, clock::timestamp()) {
        return Err(Failure::too_many_requests());
    }
    let authenticated = match parameters.method.as_deref() {
        Some("cert") => by_certificate(&core, peer).await,
        Some("password") => by_password(&core, &mut body).await.map(|identity| (identity, None)),
        Some(_) | None => {
            let message = "the method must be cert (present the certificate in the TLS handshake) or \
                password";
            return Err(Failure::bad_request("INVALID_AUTH_METHOD", message));
        }
    };
    let (identity, fingerprint) =
        authenticated.inspect_err(|_| core.failed_logins.count(source, clock::timestamp()))?;
    let now = clock::timestamp();
    let session = ApiSession {
        id: ApiSessionId::new(uuid::Uuid::new_v4().to_string()),
        identity: identity.id.clone(),
        fingerprint,
        config_types: body.config_types.unwrap_or_default(),
        second_factor: core.read(|memory| memory.second_factor_of(&identity.id)),
        native: body.end_to_end_methods.iter().any(|method| method == NATIVE_METHOD),
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

async fn by_certificate(
    core: &Arc<Core>,
    peer: Peer,
) -> Result<(Identity, Option<String>), Failure> {
    let fingerprint = peer.fingerprint.ok_or_else(Failure::invalid_auth)?;
    if !peer.is_expired {
        begin_using(core, fingerprint.clone(), Model::identity_by_offer).await?;
    }
    let identity = core
        .read(|memory| memory.identity_by_certificate(&fingerprint, peer.is_expired).cloned())
        .ok_or_else(Failure::invalid_auth)?;
    Ok((identity, Some(fingerprint)))
}

async fn by_password(core: &Arc<Core>, body: &mut Authenticate) -> Result<Identity, Failure> {
    let (username, password) =
        (std::mem::take(&mut body.username), std::mem::take(&mut body.password));
    let login = core.password(username.clone()).await?;
    let hash = login.as_ref().map(|login| login.hash.as_str());
    let bounds = core.read(|memory| bounds(memory, login.as_ref()));
    let is_right =
        core.passwords.verify(&username, password, hash, bounds, clock::timestamp()).await;
    login
        .filter(|_| is_right)
        .and_then(|login| {
            core.read(|memory| {
                let identity = memory.enabled_identity(&login.identity)?;
                memory.may_use_password(&identity.id).then(|| identity.clone())
            })
        })
        .ok_or_else(Failure::invalid_auth)
}

/// How often somebody may fail as this name; an unknown one is under the default policy.
fn bounds(memory: &Memory, login: Option<&PasswordLogin>) -> Bounds {
    let model = &memory.model;
    let own = login.and_then(|login| model.auth_policy(&login.identity));
    let policy = own.or_else(|| Some(&model.auth_policies.get(&default_policy())?.entity));
    let updb = policy.map(|policy| policy.primary.updb.clone()).unwrap_or_default();
    Bounds {
        failures: updb.max_attempts,
        lockout: i64::from(updb.lockout_duration_minutes) * 60_000,
    }
}
