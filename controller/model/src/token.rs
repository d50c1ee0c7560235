//! Claims of the three tokens the controller signs.
//!
//! Clients treat session tokens as opaque text; routers verify them without asking the controller.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    entity::Permission,
    id::{ApiSessionId, IdentityId, ServiceId},
};

/// How an enrollment token is redeemed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EnrollmentMethod {
    /// An identity redeems it once, with a certificate signing request.
    Ott,
    /// An identity redeems it once, with a certificate of a CA of others that it names.
    Ottca,
    /// Anybody with a certificate of a CA of others enrolls; the token names the CA and is no secret.
    Ca,
    /// An identity redeems it once, with the password it will log in with.
    Updb,
    /// An edge router redeems it once, with a certificate signing request.
    Erott,
}

impl EnrollmentMethod {
    /// The word used on the wire and by people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ott => "ott",
            Self::Ottca => "ottca",
            Self::Ca => "ca",
            Self::Updb => "updb",
            Self::Erott => "erott",
        }
    }
}

/// How an enrollment token is signed (RFC 7518 section 3.1).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JwtAlgorithm {
    /// ECDSA on P-256.
    #[default]
    Es256,
    /// RSA, for OpenZiti clients of 2022, which speak TLS 1.2 and verify nothing else.
    Rs256,
}

/// Claims of an enrollment token: what the operator hands to a new endpoint.
///
/// Signed with the key of the controller's TLS server certificate, so that a client can check it
/// against the certificate presented at first contact.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EnrollmentClaims {
    /// Controller URL, `https://host:port`.
    pub iss: String,
    /// Id of the identity or router to enroll; the CA's id if it is for everybody.
    pub sub: String,
    /// Empty; present because clients expect the claim.
    pub aud: Vec<String>,
    /// Expiry, seconds since the Unix epoch.
    pub exp: i64,
    /// The one-time token; the CA's id if it is for everybody.
    pub jti: String,
    /// How it is redeemed.
    pub em: EnrollmentMethod,
}

/// Claims of an API session token: who is authenticated, by which certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ApiSessionClaims {
    /// `a`; keeps the kinds of token apart.
    #[serde(rename = "z_t")]
    pub kind: ApiSessionKind,
    /// Identity.
    pub sub: IdentityId,
    /// API session.
    #[serde(rename = "z_asid")]
    pub api_session: ApiSessionId,
    /// SHA-1 fingerprints of the client certificates it may be used with, lower-case hex.
    #[serde(rename = "z_cfs")]
    pub fingerprints: Vec<String>,
    /// Expiry, seconds since the Unix epoch.
    pub exp: i64,
    /// Model index when it was issued: a router whose replica is older waits for it.
    #[serde(rename = "ng_idx")]
    pub index: u64,
}

/// Claims of a service session token: one identity may dial or bind one service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SessionClaims {
    /// `s`; keeps the kinds of token apart.
    #[serde(rename = "z_t")]
    pub kind: SessionKind,
    /// Service.
    pub sub: ServiceId,
    /// Identity.
    #[serde(rename = "z_iid")]
    pub identity: IdentityId,
    /// API session it was issued under.
    #[serde(rename = "z_asid")]
    pub api_session: ApiSessionId,
    /// Dial or Bind.
    #[serde(rename = "z_st")]
    pub permission: Permission,
    /// Expiry, seconds since the Unix epoch.
    pub exp: i64,
    /// Model index when it was issued: a router whose replica is older waits for it.
    #[serde(rename = "ng_idx")]
    pub index: u64,
}

/// The only value of `z_t` in an API session token.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ApiSessionKind {
    /// API session.
    #[serde(rename = "a")]
    ApiSession,
}

/// The only value of `z_t` in a service session token.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum SessionKind {
    /// Service session.
    #[serde(rename = "s")]
    Session,
}
