//! Posture responses: no policy asks for posture yet, but clients may send it.

use axum::response::Response;
use serde_json::json;

use crate::rest::{answer, body::Raw, caller::Caller};

/// `POST /posture-response` and `/posture-response-bulk`.
pub(crate) async fn accept(_: Caller, _: Raw) -> Response {
    answer::created(json!({ "services": [] }))
}
