//! Failure envelopes, with OpenZiti's codes.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use nightgate_model::api::{ApiError, ErrorEnvelope};
use nightgate_pki::{ForeignError, RequestError, SealError, TokenError};
use nightgate_store::StoreError;
use serde_json::json;

use crate::password::PasswordError;

/// A request that was not done.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    request_id: String,
}

impl Failure {
    /// No session, or one that is not good (any more). Never says why: the caller may be anybody.
    pub(super) fn unauthorized() -> Self {
        let message = "the request needs a valid session in the header zt-session; authenticate";
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    /// A session that waits for its second factor.
    pub(super) fn second_factor_due() -> Self {
        let message = "the session waits for its second factor: POST /authenticate/mfa {\"code\"}, after \
            POST /current-identity/mfa and /current-identity/mfa/verify if there is none yet";
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    /// A code that is wrong, too old or used. The words are OpenZiti's.
    pub(super) fn invalid_code() -> Self {
        Self::bad_request("MFA_INVALID_TOKEN", "the code is wrong, too old, or was used before")
    }

    /// Too many wrong codes; `wait` is in milliseconds.
    pub(super) fn too_many_codes(wait: i64) -> Self {
        let seconds = wait / 1000 + 1;
        let message = format!("too many wrong codes; the next one is looked at in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "SERVER_TOO_MANY_REQUESTS", message)
    }

    /// The identity has a second factor already.
    pub(super) fn mfa_exists() -> Self {
        let message = "the identity has a second factor; remove it before another one is enrolled";
        Self::new(StatusCode::CONFLICT, "MFA_EXISTS", message)
    }

    /// The identity has no second factor.
    pub(super) fn mfa_not_enrolled() -> Self {
        let message = "the identity has no second factor; POST /current-identity/mfa enrolls one";
        Self::new(StatusCode::CONFLICT, "MFA_NOT_ENROLLED", message)
    }

    /// Authentication failed. Never says why.
    pub(super) fn invalid_auth() -> Self {
        let message = "authentication failed: no enabled identity has this certificate, or this name and password";
        Self::new(StatusCode::UNAUTHORIZED, "INVALID_AUTH", message)
    }

    /// A session that is not an administrator's.
    pub(super) fn forbidden() -> Self {
        let message = "the management interface is for administrators only";
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// Something does not exist, or the caller may not know that it does.
    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("{what} was not found"))
    }

    /// Policies leave the caller no router for a service.
    pub(super) fn no_edge_routers() -> Self {
        let message = "no edge-router policy and service-edge-router policy let the identity use the \
            service through one router";
        Self::bad_request("NO_EDGE_ROUTERS_AVAILABLE", message)
    }

    /// The request itself is wrong.
    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A body that is no JSON of the expected shape.
    pub(super) fn unreadable(error: &serde_json::Error) -> Self {
        Self::bad_request("COULD_NOT_PARSE_BODY", format!("body: {error}"))
    }

    /// The caller has seen another version than the current one.
    pub(super) fn changed() -> Self {
        let message = "the entity was changed since the version in If-Match; read it again";
        Self::new(StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED", message)
    }

    /// A value of the body is wrong.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::bad_request("COULD_NOT_VALIDATE", message)
    }

    /// An enrollment token that is not pending.
    pub(super) fn invalid_token() -> Self {
        Self::bad_request(
            "INVALID_ENROLLMENT_TOKEN",
            "the enrollment token is not valid: it was used, has expired or was never issued",
        )
    }

    /// A path that does not exist.
    pub(super) fn unknown_path() -> Self {
        Self::not_found("the path or its method")
    }

    /// No certificate, or one that enrolls nobody. Never says why: the caller may be anybody.
    pub(super) fn untrusted_certificate() -> Self {
        let message =
            "present a certificate in the TLS handshake that a registered CA has issued for this";
        Self::bad_request("INVALID_CERTIFICATE", message)
    }

    /// The source has failed too often.
    pub(super) fn too_many_requests() -> Self {
        let message = "too many failures from this address; wait a minute";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "SERVER_TOO_MANY_REQUESTS", message)
    }

    /// As many follow the events as may.
    pub(super) fn too_many_readers() -> Self {
        let message = "as many follow the events as may; end one of them";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "SERVER_TOO_MANY_REQUESTS", message)
    }

    /// What exists already, or is in use.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    /// The body is longer than allowed.
    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE", message)
    }

    /// The request was not complete in time.
    pub(crate) fn timeout() -> Self {
        let message = "the request was not complete in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message)
    }

    /// A fault of the controller: logged in full, told in part.
    fn internal(error: &dyn std::error::Error) -> Self {
        let message = "the controller failed; its log names this request id";
        let failure = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNHANDLED", message);
        tracing::error!(request_id = failure.request_id, %error, "request failed");
        failure
    }

    /// The same, saying for what it was.
    pub(super) fn within(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// What is said to people.
    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let request_id = uuid::Uuid::new_v4().to_string();
        Self { status, code, message: message.into(), request_id }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { status, code, message, request_id } = self;
        tracing::debug!(request_id, code, message, "request refused");
        let error = ApiError { code: code.into(), message, request_id };
        (status, Json(ErrorEnvelope { error, meta: json!({}) })).into_response()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NameTaken { .. }
            | StoreError::UsernameTaken { .. }
            | StoreError::CertificateTaken { .. } => Self::conflict(error.to_string()),
            StoreError::NotFound { kind, .. } => Self::not_found(&kind.to_string()),
            StoreError::TokenInvalid => Self::invalid_token(),
            StoreError::Damaged { .. }
            | StoreError::Newer { .. }
            | StoreError::Database { .. }
            | StoreError::Create { .. } => Self::internal(&error),
        }
    }
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        match &error {
            PasswordError::Length => Self::invalid(error.to_string()),
            PasswordError::Hash(_) => Self::internal(&error),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        match &error {
            TokenError::NoLegacyKey => Self::conflict(
                "RS256 tokens are for clients that speak TLS 1.2, which this controller does not \
                 serve; start it with --legacy-clients",
            ),
            TokenError::Key(_)
            | TokenError::Sign(_)
            | TokenError::Invalid(_)
            | TokenError::Expired => Self::internal(&error),
        }
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::internal(&error)
    }
}

impl From<ForeignError> for Failure {
    fn from(error: ForeignError) -> Self {
        Self::bad_request("INVALID_CERTIFICATE", error.to_string())
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::bad_request("COULD_NOT_PROCESS_CSR", error.to_string())
    }
}
