//! Sessions, as whoever has them is told of them.

use nightgate_model::entity::{Identity, IdentityKind};
use nightgate_store::{ApiSession, Model, SecondFactor};
use serde_json::{Value, json};

use super::{entity, reference, routers_for};
use crate::{
    clock::{rfc3339, timestamp},
    core::{Memory, ServiceSession},
    mfa::LENGTHS,
    rest::authenticator::Method,
};

/// An API session, with its token.
pub(in crate::rest) fn api_session(
    session: &ApiSession,
    identity: &Identity,
    token: &str,
) -> Value {
    let remaining = (session.expires_at.0 - timestamp().0) / 1000;
    let method = if session.fingerprint.is_some() { Method::Cert } else { Method::Updb };
    let own = json!({
        "token": token,
        "identityId": identity.id,
        "identity": reference("identities", identity.id.as_str(), &identity.name),
        "configTypes": session.config_types,
        "expiresAt": rfc3339(session.expires_at),
        "expirationSeconds": remaining.max(0),
        "lastActivityAt": rfc3339(timestamp()),
        "cachedLastActivityAt": rfc3339(timestamp()),
        "cachedUpdatedAt": rfc3339(timestamp()),
        "authQueries": auth_queries(session),
        "postureQueries": [],
        "isMfaRequired": session.second_factor != SecondFactor::NotNeeded,
        "isMfaComplete": session.second_factor != SecondFactor::Due,
        "isCertExtendable": method == Method::Cert && identity.kind == IdentityKind::Default,
        "improperClientCertChain": false,
        "authenticatorId": method.id(&identity.id),
        "deviceId": "",
        "ipAddress": "",
    });
    entity("api-sessions", session.id.as_str(), (session.created_at, timestamp()), own)
}

/// What an API session still has to show: OpenZiti's name of a one-time password by time is MFA.
fn auth_queries(session: &ApiSession) -> Value {
    if session.second_factor != SecondFactor::Due {
        return json!([]);
    }
    let (shortest, longest) = LENGTHS;
    json!([{
        "typeId": "MFA",
        "provider": "ziti",
        "httpMethod": "POST",
        "httpUrl": "./authenticate/mfa",
        "minLength": shortest,
        "maxLength": longest,
        "format": "alphaNumeric",
    }])
}

/// A service session, with its token.
pub(in crate::rest) fn session(
    session: &ServiceSession,
    api_session: &ApiSession,
    token: &str,
    memory: &Memory,
) -> Value {
    let service = session.service.as_str();
    let own = json!({
        "token": token,
        "type": session.permission,
        "serviceId": service,
        "service": reference("services", service, name_of_service(&memory.model, session)),
        "apiSessionId": api_session.id,
        "apiSession": reference("api-sessions", api_session.id.as_str(), ""),
        "identityId": api_session.identity,
        "expiresAt": rfc3339(api_session.expires_at),
        "edgeRouters": routers_for(memory, &api_session.identity, &session.service),
        "authQueries": [],
        "postureQueries": [],
    });
    entity("sessions", &session.id, (session.created_at, session.created_at), own)
}

fn name_of_service<'a>(model: &'a Model, session: &ServiceSession) -> &'a str {
    model.services.get(&session.service).map_or("", |stored| stored.entity.name.as_str())
}
