//! Envelopes and answers of the management API (`/edge/management/v1`) that the command line reads.
//!
//! What it sends for an entity is the entity's [`crate::spec`].

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    entity::Precedence,
    id::{CaId, IdentityId},
    token::EnrollmentMethod,
};

/// Success envelope: `{"data": ..., "meta": {...}}`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct Envelope<T> {
    /// The answer.
    pub data: T,
    /// Paging and the like.
    #[serde(default)]
    pub meta: serde_json::Value,
}

/// Failure envelope: `{"error": {...}, "meta": {}}`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ApiError,
    /// Nothing yet.
    #[serde(default)]
    pub meta: serde_json::Value,
}

/// What went wrong, as OpenZiti clients expect it.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// Closed list of upper-case words, for programs.
    pub code: String,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// Identifies the request in the controller's log.
    pub request_id: String,
}

/// Answer of a create call.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Id of the new entity.
    pub id: String,
    /// Enrollment token of a new identity or router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment_jwt: Option<String>,
}

/// Body of `POST /enroll?method=erott&token=TOKEN`, by which an edge router redeems its token.
///
/// An identity sends the bare PEM of its request instead (`method=ott`).
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EnrollRouter {
    /// Certificate signing request, PEM.
    pub csr: String,
    /// `host:port` where the router will accept clients and links; its host goes into the
    /// certificate. None for a router that only dials out.
    #[serde(default)]
    pub address: Option<String>,
}

/// Body of `POST /enroll?method=updb&token=TOKEN`.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollPassword {
    /// Must be the one that the token is for, if it is there.
    #[serde(default)]
    pub username: Option<String>,
    /// The password to log in with, 10 to 1024 bytes.
    pub password: String,
}

/// Body of `POST /enroll/METHOD`.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollWithToken {
    /// The one-time token.
    pub token: String,
    /// Certificate signing request, PEM; for ott.
    #[serde(default)]
    pub client_csr: String,
}

/// How a new identity enrolls: the field `enrollment` of the body of `POST /identities`. At most one of the
/// three; none if it is empty. Without the field it is `ott`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IdentityEnrollment {
    /// With a certificate signing request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ott: bool,
    /// With a certificate of the CA that has this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ottca: Option<CaId>,
    /// With a password, to log in with by this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updb: Option<String>,
}

/// Body of `POST /enrollments`: lets an identity enroll (again).
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CreateEnrollment {
    /// Which identity.
    pub identity_id: IdentityId,
    /// ott, ottca or updb.
    pub method: EnrollmentMethod,
    /// When the token ends, RFC 3339; after 24 hours if it is not said.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// For ottca.
    #[serde(default)]
    pub ca_id: Option<CaId>,
    /// For updb.
    #[serde(default)]
    pub username: Option<String>,
}

/// Body of `POST /authenticators`.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CreateAuthenticator {
    /// `updb`.
    pub method: String,
    /// Whose.
    pub identity_id: IdentityId,
    /// Name to log in with.
    pub username: String,
    /// The password, 10 to 1024 bytes.
    pub password: String,
}

/// Body of `POST /authenticators/{id}/re-enroll`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReEnroll {
    /// When the token ends, RFC 3339; after 24 hours if it is not said.
    #[serde(default)]
    pub expires_at: Option<String>,
}

/// Body of `POST /current-identity/authenticators/{id}/extend`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtendCertificate {
    /// Certificate signing request, PEM.
    pub client_cert_csr: String,
}

/// Answer of `POST /current-identity/authenticators/{id}/extend`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtendedCertificate {
    /// The new certificate and its issuer, PEM. It counts once its holder has authenticated with it, or has
    /// sent it back to `extend-verify`.
    pub client_cert: String,
    /// Certificates to trust, PEM.
    pub ca: String,
}

/// Body of `POST /current-identity/authenticators/{id}/extend-verify`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyCertificate {
    /// The new certificate, PEM; what stands behind it is not looked at.
    pub client_cert: String,
}

/// Answer of `POST /enroll`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolled {
    /// The new certificate and its issuer, PEM.
    pub cert: String,
    /// Certificates to trust, PEM.
    pub ca: String,
}

/// `meta.pagination` of a list.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// Most entries of this answer.
    pub limit: usize,
    /// Entries skipped before this answer.
    pub offset: usize,
    /// Entries there are.
    pub total_count: usize,
}

/// Body of `POST /identities/{id}/disable`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Disable {
    /// Minutes after which the identity is enabled again; until somebody enables it if 0.
    #[serde(default)]
    pub duration_minutes: u32,
}

/// Body of `PUT /identities/{id}/password`.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SetPassword {
    /// Name to log in with; the identity's name if none.
    #[serde(default)]
    pub username: Option<String>,
    /// The password, 10 to 1024 bytes.
    pub password: String,
}

/// Body of `PATCH /terminators/{id}`: what is decided from now on about all terminators that this host has under this
/// instance name. A field that is not named stays; null leaves it to the host again.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SetTerminator {
    /// Which terminators of the service are taken first.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub precedence: Option<Option<Precedence>>,
    /// Cost, 0 to 65535.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub cost: Option<Option<u16>>,
}

/// Reads null as a value of its own.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Answer of `GET /explain?identity=NAME&service=NAME&type=Dial|Bind`: why, or why not.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether it is allowed and would work.
    pub allowed: bool,
    /// One sentence.
    pub verdict: String,
    /// The checks in the order they are made.
    pub steps: Vec<ExplanationStep>,
}

/// One check of an [`Explanation`].
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ExplanationStep {
    /// What was checked: `identity`, `service`, `policy`, `terminator`, `router`.
    pub check: String,
    /// Whether it passed.
    pub ok: bool,
    /// What was found, naming the policy, attribute or router.
    pub detail: String,
}
