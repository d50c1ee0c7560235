//! Success envelopes.

use axum::{
    Json,
    http::{StatusCode, header::ETAG},
    response::{IntoResponse as _, Response},
};
use nightgate_model::{
    api::{Created, Pagination},
    kind::EntityKind,
};
use nightgate_store::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::query::{COMMON_FIELDS, ListQuery};

/// 200 with data.
pub(super) fn ok(data: impl Serialize) -> Response {
    Json(json!({ "data": data, "meta": {} })).into_response()
}

/// 201 with data.
pub(super) fn created(data: impl Serialize) -> Response {
    (StatusCode::CREATED, ok(data)).into_response()
}

/// 201 with the id of a new entity, and where it is.
pub(super) fn created_entity(kind: EntityKind, entity: Created) -> Response {
    let href = format!("./{}/{}", kind.path(), entity.id);
    let mut data = json!(entity);
    data["_links"] = json!({ "self": { "href": href } });
    created(data)
}

/// 200 with one version of an entity.
pub(super) fn versioned(data: Value, updated_at: Timestamp) -> Response {
    ([(ETAG, etag(updated_at))], ok(data)).into_response()
}

/// The tag of the version of an entity that was made at this moment (RFC 9110 section 8.8.3). No two
/// versions of one entity have the same moment.
pub(super) fn etag(updated_at: Timestamp) -> String {
    format!("\"{}\"", updated_at.0)
}

/// 200 with one page of a list of `count` entries.
pub(super) fn page(query: &ListQuery, fields: &[&str], page: Vec<Value>, count: usize) -> Response {
    let pagination =
        Pagination { limit: query.limit(), offset: query.offset(), total_count: count };
    let fields: Vec<_> = COMMON_FIELDS.iter().chain(fields).collect();
    let meta = json!({ "pagination": pagination, "filterableFields": fields });
    Json(json!({ "data": page, "meta": meta })).into_response()
}
