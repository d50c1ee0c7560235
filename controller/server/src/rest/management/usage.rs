//! `GET /usage`: what identities have used.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use nightgate_store::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::{
    clock,
    core::Core,
    events::{identity_name, service_name},
    rest::{Failure, answer, caller::Admin, query::Parameters},
};

/// Most lines of one answer, those with the most bytes.
const MAX_ROWS: usize = 10_000;

/// Of whom, and since when.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Id or name of an identity, as dialer or host.
    identity: Option<String>,
    /// Id or name of a service.
    service: Option<String>,
    /// RFC 3339; the beginning of that hour counts.
    since: Option<String>,
    /// The same, as seconds ago.
    ago: Option<u64>,
}

pub(super) async fn list(
    State(core): State<Arc<Core>>,
    _: Admin,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Response, Failure> {
    let since = match &wanted.since {
        None => wanted.ago.map_or(Timestamp(0), since_so_long_ago),
        Some(text) => clock::parse_rfc3339(text).ok_or_else(|| {
            let message = format!("since: {text:?} is no time as in RFC 3339");
            Failure::bad_request("INVALID_FILTER", message)
        })?,
    };
    let mut lines = core.usage(since).await?;
    lines.sort_by_key(|(key, usage)| {
        (std::cmp::Reverse(usage.sent.saturating_add(usage.received)), key.clone())
    });
    let rows: Vec<_> = core.read(|memory| {
        let model = &memory.model;
        let is = |wanted: &Option<String>, names: &[&str]| {
            wanted.as_deref().is_none_or(|wanted| names.contains(&wanted))
        };
        let rows = lines.into_iter().filter_map(|(key, usage)| {
            let (dialer, host) =
                (identity_name(model, &key.dialer), identity_name(model, &key.host));
            let service = service_name(model, &key.service);
            let names = [dialer.as_str(), &host, key.dialer.as_str(), key.host.as_str()];
            let is_wanted = is(&wanted.identity, &names)
                && is(&wanted.service, &[&service, key.service.as_str()]);
            is_wanted.then(|| {
                json!({
                    "dialer": dialer, "dialerId": key.dialer,
                    "host": host, "hostId": key.host,
                    "service": service, "serviceId": key.service,
                    "circuits": usage.circuits, "sent": usage.sent, "received": usage.received,
                })
            })
        });
        rows.take(MAX_ROWS).collect()
    });
    Ok(answer::ok(rows))
}

fn since_so_long_ago(seconds: u64) -> Timestamp {
    let ago = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
    Timestamp(clock::timestamp().0.saturating_sub(ago).max(0))
}
