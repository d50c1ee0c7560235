//! Success envelopes.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use nightgate_model::api::{Created, Pagination};
use serde::Serialize;
use serde_json::{Value, json};

use super::query::ListQuery;

/// 200 with data.
pub(super) fn ok(data: impl Serialize) -> Response {
    Json(json!({ "data": data, "meta": {} })).into_response()
}

/// 201 with data.
pub(super) fn created(data: impl Serialize) -> Response {
    (StatusCode::CREATED, ok(data)).into_response()
}

/// 201 with the id of a new entity.
pub(super) fn created_entity(id: &str) -> Response {
    created(Created { id: id.into(), enrollment_jwt: None })
}

/// 200 with the asked-for page of a list; only its entries are shaped.
pub(super) fn list<T>(
    query: &ListQuery,
    entries: impl Iterator<Item = T>,
    shape: impl FnMut(T) -> Value,
) -> Response {
    let entries: Vec<T> = entries.collect();
    let pagination =
        Pagination { limit: query.limit, offset: query.offset, total_count: entries.len() };
    let page: Vec<Value> =
        entries.into_iter().skip(query.offset).take(query.limit).map(shape).collect();
    Json(json!({ "data": page, "meta": { "pagination": pagination, "filterableFields": ["id", "name"] } }))
        .into_response()
}
