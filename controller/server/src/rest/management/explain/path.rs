//! Whether links lead from a router that the dialer uses to one that a host is connected to.

use std::collections::BTreeSet;

use nightgate_model::{
    api::ExplanationStep,
    entity::{Identity, IdentityKind, Permission, Service},
    id::RouterId,
};

use super::step;
use crate::{
    core::Memory,
    paths::{Map, Path},
    rest::{management::fabric::Dials, shape::reachable_routers},
};

/// The step about links, where the model allows the dial and somebody hosts the service.
pub(super) fn linked(memory: &Memory, dialer: &Identity, service: &Service) -> ExplanationStep {
    let authorizations = memory.authorizations();
    let entries: BTreeSet<RouterId> = match dialer.kind {
        IdentityKind::Router => [RouterId::new(dialer.id.as_str())].into(),
        IdentityKind::Default => {
            reachable_routers(memory).into_iter().map(|router| router.entity.id.clone()).collect()
        }
    };
    let reaches = |router: &RouterId| authorizations.reaches(&dialer.id, &service.id, router);
    let entries: BTreeSet<_> = entries.into_iter().filter(|router| reaches(router)).collect();
    let hosts: BTreeSet<RouterId> = memory
        .live
        .terminators()
        .filter(|t| t.service == service.id)
        .filter(|t| authorizations.allows(&t.host, Permission::Bind, &service.id))
        .filter(|t| authorizations.reaches(&t.host, &service.id, &t.router))
        .map(|t| t.router.clone())
        .collect();
    let name = |id: &RouterId| {
        memory.model.routers.get(id).map_or_else(|| id.to_string(), |it| it.entity.name.clone())
    };
    let names =
        |routers: &BTreeSet<RouterId>| routers.iter().map(name).collect::<Vec<_>>().join(", ");
    let links = memory.live.report().links;
    let map = Map::new(&links, memory.model.routers.values().map(|stored| &stored.entity));
    let paths = entries.iter().flat_map(|from| {
        let mut leaving = map.leaving(from);
        hosts.iter().filter_map(|to| leaving.cheapest(to)).collect::<Vec<_>>()
    });
    let best = paths.min_by_key(|path| path.cost);
    match best {
        Some(path) => {
            let (way, cost) = (legs(&path, name), path.cost);
            let health = health(memory, service);
            step("path", true, format!("a path leads to a host: {way}, cost {cost}; {health}"))
        }
        None => {
            let detail = format!(
                "no links lead from {} to {}, where {} is hosted",
                names(&entries),
                names(&hosts),
                service.name
            );
            step("path", false, detail)
        }
    }
}

/// The routers, with what the link between two of them costs.
fn legs(path: &Path, name: impl Fn(&RouterId) -> String) -> String {
    let first = path.routers.first().map(&name).unwrap_or_default();
    let others = path.routers.iter().skip(1).zip(&path.links);
    others.fold(first, |text, (router, cost)| format!("{text} -{cost}-> {}", name(router)))
}

/// What became of the dials of the service lately, and which leg is ill.
fn health(memory: &Memory, service: &Service) -> String {
    let dials = Dials::of(memory, &service.id);
    let (opened, failed) = (dials.opened, dials.failed.values().sum::<u64>());
    match dials.ill() {
        None => format!("of its dials {opened} succeeded and {failed} failed"),
        Some(leg) => format!(
            "of its dials {opened} succeeded and {failed} failed, most on the leg {}",
            leg.as_str()
        ),
    }
}
