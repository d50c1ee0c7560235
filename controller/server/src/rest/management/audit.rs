//! `GET /audit`: who changed what. Nightgate's own: OpenZiti has events instead.

use std::{ops::ControlFlow, sync::Arc};

use axum::{extract::State, response::Response};
use nightgate_store::AuditEntry;
use serde_json::{Value, json};

use crate::{
    clock::rfc3339,
    core::Core,
    rest::{Failure, answer, caller::Admin, query::ListQuery},
};

/// Fields that the log can be filtered by.
const FIELDS: &[&str] = &["at", "author", "action", "kind", "entityId", "before", "after"];

/// The latest entry first; `sort by` is not for the log.
pub(super) async fn list(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    query.check_fields(FIELDS)?;
    if !query.wanted.sort.is_empty() {
        let message = "the audit log is in the order of its entries; leave out sort by";
        return Err(Failure::bad_request("INVALID_FILTER", message));
    }
    let (limit, offset) = (query.limit(), query.offset());
    let asked = query.clone();
    let (page, count) = core
        .audit((Vec::new(), 0_usize), move |(page, count), entry| {
            let shaped = shape(entry);
            if asked.admits(&shaped) {
                if *count >= offset && page.len() < limit {
                    page.push(shaped);
                }
                *count += 1;
            }
            ControlFlow::Continue(())
        })
        .await?;
    Ok(answer::page(&query, FIELDS, page, count))
}

fn shape(entry: AuditEntry) -> Value {
    let AuditEntry { number, at, record } = entry;
    json!({
        "id": number.to_string(),
        "at": rfc3339(at),
        "author": record.author,
        "action": record.action,
        "kind": record.kind,
        "entityId": record.id,
        "name": record.name,
        "before": record.before,
        "after": record.after,
    })
}
