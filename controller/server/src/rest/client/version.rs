//! What anybody may know: the version, and whom to trust.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use crate::{
    core::Core,
    rest::{CLIENT, Failure, MANAGEMENT, answer, query::ListQuery},
};

/// `GET /version`. No capability is announced, so clients use the interface as it is here.
pub(crate) async fn version(State(core): State<Arc<Core>>) -> Response {
    let api = |path: &str| {
        let url = format!("https://{}{path}", core.address);
        json!({ "v1": { "path": path, "version": "1", "apiBaseUrls": [url] } })
    };
    answer::ok(json!({
        "version": concat!("v", env!("CARGO_PKG_VERSION")),
        "revision": "",
        "buildDate": "",
        "runtimeVersion": "rust",
        "capabilities": [],
        "apiVersions": {
            "edge": api(CLIENT),
            "edge-client": api(CLIENT),
            "edge-management": api(MANAGEMENT),
        },
    }))
}

/// `GET /.well-known/est/cacerts` (RFC 7030 section 4.1).
pub(crate) async fn ca_certificates(State(core): State<Arc<Core>>) -> Response {
    let headers = [
        (CONTENT_TYPE.as_str(), "application/pkcs7-mime"),
        ("content-transfer-encoding", "base64"),
    ];
    (headers, core.authority.bundle().pkcs7().to_owned()).into_response()
}

/// `GET /.well-known/jwks.json` (RFC 7517 section 5), for whoever checks tokens of this controller.
pub(crate) async fn token_keys(State(core): State<Arc<Core>>) -> Result<Response, Failure> {
    Ok(Json(core.authority.token_keys()?).into_response())
}

/// `GET /external-jwt-signers`: there are none.
pub(crate) async fn external_jwt_signers(query: ListQuery) -> Response {
    answer::page(&query, &[], Vec::new(), 0)
}
