//! Who is calling.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use nightgate_model::{entity::Identity, token::ApiSessionClaims};
use nightgate_store::{ApiSession, Author, SecondFactor};
use nightgate_wire::source::Source;
use rustls_pki_types::CertificateDer;

use super::Failure;
use crate::{clock, core::Core};

/// Header of the API session token.
const SESSION_HEADER: &str = "zt-session";

/// The other end of the TLS connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// SHA-1 of the certificate whose key it proved to hold, lower-case hex.
    pub(crate) fingerprint: Option<String>,
    /// That certificate has ended: only some auth policies let it count.
    pub(crate) is_expired: bool,
    /// The certificates it presented, that one first. Nothing is proved by the others.
    pub(crate) chain: Arc<[CertificateDer<'static>]>,
    /// Where it is.
    pub(crate) source: Source,
}

/// A caller with a valid API session.
pub(super) struct Caller {
    /// Who.
    pub(super) identity: Identity,
    /// Under which session.
    pub(super) session: ApiSession,
}

impl Caller {
    /// The caller, for the audit log.
    pub(super) fn author(&self) -> Author {
        Author { id: self.identity.id.to_string(), name: self.identity.name.clone() }
    }
}

/// A caller whose API session may still wait for its second factor.
pub(super) struct Partial(pub(super) Caller);

/// A [`Caller`] who is an administrator.
pub(super) struct Admin(pub(super) Caller);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl FromRequestParts<Arc<Core>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Failure> {
        let Partial(caller) = Partial::from_request_parts(parts, core).await?;
        match caller.session.second_factor {
            SecondFactor::Due => Err(Failure::second_factor_due()),
            SecondFactor::NotNeeded | SecondFactor::Passed(_) => Ok(caller),
        }
    }
}

impl FromRequestParts<Arc<Core>> for Partial {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Failure> {
        let peer = Peer::from_request_parts(parts, core).await?;
        let token = parts.headers.get(SESSION_HEADER).and_then(|token| token.to_str().ok());
        let caller = token.and_then(|token| authenticate(core, token, &peer));
        caller.map(Self).ok_or_else(Failure::unauthorized)
    }
}

impl FromRequestParts<Arc<Core>> for Admin {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, core).await?;
        if caller.identity.is_admin { Ok(Self(caller)) } else { Err(Failure::forbidden()) }
    }
}

/// A session counts if its token is ours and in time, it was not ended, its identity is enabled, and
/// the connection proved the certificate that the session began with, if it did: such a token is no use
/// to a thief.
fn authenticate(core: &Core, token: &str, peer: &Peer) -> Option<Caller> {
    let now = clock::now();
    let claims = core.authority.session_key().verify::<ApiSessionClaims>(token, now).ok()?;
    core.read(|memory| {
        let session = &memory.api_sessions.get(&claims.api_session)?.session;
        let identity = memory.enabled_identity(&session.identity)?;
        let is_bound = match &session.fingerprint {
            Some(bound) => {
                peer.fingerprint.as_ref() == Some(bound)
                    && identity.fingerprint.as_ref() == Some(bound)
                    && memory.may_use_certificate(&identity.id, peer.is_expired)
            }
            None => memory.may_use_password(&identity.id),
        };
        (is_bound && session.expires_at > clock::timestamp())
            .then(|| Caller { identity: identity.clone(), session: session.clone() })
    })
}
