//! Session tokens: checked against the keys of the replica, without asking the controller.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use nightgate_model::{
    entity::Permission,
    id::{IdentityId, RouterId, ServiceId},
    replica::Replica,
    token::{ApiSessionClaims, SessionClaims},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// How long a token may be newer than the replica: a change reaches routers well within this.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(5);

/// A token that lets nobody in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("not signed by the controller, or expired")]
    Invalid,
    #[error("issued for another certificate")]
    OtherCertificate,
    #[error("issued to another identity")]
    OtherIdentity,
    #[error("does not allow this")]
    OtherPermission,
    #[error("the identity is unknown or disabled")]
    Disabled,
    #[error("the API session was ended")]
    Ended,
    #[error("no edge-router policy lets the identity use this router")]
    OtherRouter,
    #[error("this router has not heard of the change the token rests on")]
    Behind,
}

/// A client, by its API session token and certificate.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) claims: ApiSessionClaims,
    /// The certificate that its own goes back to by renewals: what follows that one does not end the channel.
    pub(crate) origin: Option<String>,
}

/// Checks an API session token presented to a router with a client certificate. That has to be the present one of
/// the identity: one that was renewed since lets nobody in, though its token may be good for a while.
pub(crate) async fn check_api_session(
    token: &str,
    fingerprint: &str,
    router: &RouterId,
    replica: &mut watch::Receiver<Arc<Replica>>,
) -> Result<Authenticated, TokenError> {
    let claims: ApiSessionClaims = decode(token, replica).await?;
    catch_up(claims.index, replica).await?;
    if !claims.fingerprints.iter().any(|known| known == fingerprint) {
        return Err(TokenError::OtherCertificate);
    }
    let identity = replica.borrow().identities.get(&claims.sub).cloned();
    let identity = identity.ok_or(TokenError::Disabled)?;
    if identity.fingerprint.as_deref() != Some(fingerprint) {
        return Err(TokenError::OtherCertificate);
    }
    if replica.borrow().ended_sessions.contains(&claims.api_session) {
        return Err(TokenError::Ended);
    }
    if !replica.borrow().authorizations.may_use(&claims.sub, router) {
        return Err(TokenError::OtherRouter);
    }
    Ok(Authenticated { claims, origin: identity.origin })
}

/// Checks a service session token presented on the channel of an API session.
pub(crate) async fn check_session(
    token: &[u8],
    permission: Permission,
    channel: &ApiSessionClaims,
    replica: &mut watch::Receiver<Arc<Replica>>,
) -> Result<SessionClaims, TokenError> {
    let token = std::str::from_utf8(token).map_err(|_not_text| TokenError::Invalid)?;
    let claims: SessionClaims = decode(token, replica).await?;
    catch_up(claims.index, replica).await?;
    if claims.identity != channel.sub {
        return Err(TokenError::OtherIdentity);
    }
    if replica.borrow().ended_sessions.contains(&claims.api_session) {
        return Err(TokenError::Ended);
    }
    if claims.permission != permission {
        return Err(TokenError::OtherPermission);
    }
    Ok(claims)
}

/// Checks the service session token that came with a circuit from another router.
pub(crate) async fn check_dialer(
    token: &[u8],
    dialer: &IdentityId,
    service: &ServiceId,
    replica: &mut watch::Receiver<Arc<Replica>>,
) -> Result<(), TokenError> {
    let token = std::str::from_utf8(token).map_err(|_not_text| TokenError::Invalid)?;
    let claims: SessionClaims = decode(token, replica).await?;
    catch_up(claims.index, replica).await?;
    if claims.identity != *dialer {
        return Err(TokenError::OtherIdentity);
    }
    if replica.borrow().ended_sessions.contains(&claims.api_session) {
        return Err(TokenError::Ended);
    }
    if claims.permission != Permission::Dial || claims.sub != *service {
        return Err(TokenError::OtherPermission);
    }
    Ok(())
}

async fn decode<T: DeserializeOwned + Clone>(
    token: &str,
    replica: &mut watch::Receiver<Arc<Replica>>,
) -> Result<T, TokenError> {
    // Before the first replica there are no keys: wait for it rather than refuse a good token.
    catch_up(1, replica).await?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.validate_aud = false;
    validation.leeway = 0;
    let keys = replica.borrow().token_keys.clone();
    keys.iter()
        .filter_map(|pem| DecodingKey::from_ec_pem(pem.as_bytes()).ok())
        .find_map(|key| jsonwebtoken::decode(token, &key, &validation).ok())
        .map(|decoded| decoded.claims)
        .ok_or(TokenError::Invalid)
}

async fn catch_up(
    index: u64,
    replica: &mut watch::Receiver<Arc<Replica>>,
) -> Result<(), TokenError> {
    let reached = replica.wait_for(|replica| replica.index >= index);
    match tokio::time::timeout(CATCH_UP, reached).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(TokenError::Behind),
    }
}
