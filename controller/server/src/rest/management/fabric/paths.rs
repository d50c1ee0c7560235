//! `GET /fabric/paths`: which path would be chosen, what each leg costs, and what else there is.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use nightgate_model::{
    entity::{Permission, Terminator},
    id::{RouterId, ServiceId},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::terminators::settled;
use crate::{
    core::{Core, Memory},
    events::{identity_name, router_name},
    paths::{Leaving, Map, Path},
    rest::{Failure, answer, caller::Admin, management::find, query::Parameters},
};

/// Most paths in one answer.
const MAX_ROWS: usize = 1_000;

/// Between what.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Id or name of the first router; all that are connected, if it is a question about a service.
    from: Option<String>,
    /// Id or name of the last router.
    to: Option<String>,
    /// Id or name of a service: to wherever it is hosted.
    service: Option<String>,
}

/// The paths, each router's best one first.
pub(super) async fn list(
    State(core): State<Arc<Core>>,
    _: Admin,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Response, Failure> {
    core.read_evaluated(|memory| {
        let from = wanted.from.as_deref().map(|name| router(memory, name)).transpose()?;
        let links = memory.live.report().links;
        let routers = memory.model.routers.values().map(|stored| &stored.entity);
        let map = Map::new(&links, routers);
        let rows = match (&wanted.service, from, &wanted.to) {
            (Some(service), from, None) => {
                let service = self::service(memory, service)?;
                let all = memory.model.routers.keys().filter(|id| memory.live.is_connected(id));
                let entries: Vec<_> = from.map_or_else(|| all.collect(), |from| vec![from]);
                let rows = entries.into_iter();
                rows.flat_map(|entry| to_service(memory, map.leaving(entry), service)).collect()
            }
            (None, Some(from), Some(to)) => between(memory, map.leaving(from), router(memory, to)?),
            (Some(_), _, Some(_)) | (None, ..) => {
                let message = "ask for from and to, or for a service and perhaps from";
                return Err(Failure::bad_request("INVALID_FILTER", message));
            }
        };
        Ok(answer::ok(rows.into_iter().take(MAX_ROWS).collect::<Vec<_>>()))
    })
}

fn router<'a>(memory: &'a Memory, name: &str) -> Result<&'a RouterId, Failure> {
    let found = find::router(memory, name);
    found.map(|it| &it.id).ok_or_else(|| Failure::not_found(&format!("the router {name:?}")))
}

fn service<'a>(memory: &'a Memory, name: &str) -> Result<&'a ServiceId, Failure> {
    let found = find::service(memory, name);
    found.map(|it| &it.id).ok_or_else(|| Failure::not_found(&format!("the service {name:?}")))
}

fn between(memory: &Memory, mut leaving: Leaving<'_>, to: &RouterId) -> Vec<Value> {
    let paths = leaving.alternatives(to).into_iter().enumerate();
    paths.map(|(rank, path)| row(memory, &path, rank == 0, None)).collect()
}

/// From one router to each place where a service is hosted, in the order in which they would be tried.
fn to_service(memory: &Memory, mut leaving: Leaving<'_>, service: &ServiceId) -> Vec<Value> {
    let authorizations = memory.authorizations();
    let hosts = memory.live.terminators().filter(|t| {
        t.service == *service
            && authorizations.allows(&t.host, Permission::Bind, service)
            && authorizations.reaches(&t.host, service, &t.router)
    });
    let hosts = hosts.map(|host| settled(host, memory));
    let paths = hosts.filter_map(|host| leaving.cheapest(&host.router).map(|path| (host, path)));
    let mut paths: Vec<(Terminator, Path)> = paths.collect();
    paths.sort_by_key(|(host, path)| {
        (host.precedence, path.cost + u64::from(host.cost), host.id.clone())
    });
    let ranked = paths.into_iter().enumerate();
    ranked.map(|(rank, (host, path))| row(memory, &path, rank == 0, Some(&host))).collect()
}

fn row(memory: &Memory, path: &Path, is_chosen: bool, host: Option<&Terminator>) -> Value {
    let model = &memory.model;
    let name = |id: &RouterId| router_name(model, id);
    let pairs = path.routers.iter().zip(path.routers.iter().skip(1)).zip(&path.links);
    let legs =
        pairs.map(|((from, to), cost)| json!({ "from": name(from), "to": name(to), "cost": cost }));
    json!({
        "from": path.routers.first().map(name),
        "to": path.routers.last().map(name),
        "chosen": is_chosen,
        "path": path.routers.iter().map(name).collect::<Vec<_>>(),
        "legs": legs.collect::<Vec<_>>(),
        "cost": path.cost + host.map_or(0, |host| u64::from(host.cost)),
        "host": host.map(|host| identity_name(model, &host.host)),
        "hostCost": host.map(|host| host.cost),
        "precedence": host.map(|host| host.precedence),
    })
}
