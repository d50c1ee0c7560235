//! Whether links lead from a router that the dialer uses to one that a host is connected to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nightgate_model::{
    api::ExplanationStep,
    entity::{Identity, IdentityKind, Permission, Service},
    id::RouterId,
    replica::LinkReport,
};

use super::step;
use crate::{core::Memory, rest::shape::reachable_routers};

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
    match shortest(&memory.live.report().links, &entries, &hosts) {
        Some(path) => {
            let path: Vec<_> = path.iter().map(name).collect();
            step("path", true, format!("a path leads to a host: {}", path.join(" > ")))
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

/// A path of the fewest links from one of the routers to one of the others.
fn shortest(
    links: &[LinkReport],
    from: &BTreeSet<RouterId>,
    to: &BTreeSet<RouterId>,
) -> Option<Vec<RouterId>> {
    let mut neighbours: BTreeMap<&RouterId, Vec<&RouterId>> = BTreeMap::new();
    for link in links {
        neighbours.entry(&link.from).or_default().push(&link.to);
    }
    let mut seen: BTreeSet<&RouterId> = from.iter().collect();
    let mut queue: VecDeque<Vec<&RouterId>> = from.iter().map(|router| vec![router]).collect();
    while let Some(path) = queue.pop_front() {
        let last = *path.last()?;
        if to.contains(last) {
            return Some(path.into_iter().cloned().collect());
        }
        for next in neighbours.get(last).into_iter().flatten() {
            if seen.insert(next) {
                queue.push_back(path.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_somewhere_or_nowhere() {
        let link = |from: &str, to: &str| LinkReport {
            from: RouterId::new(from),
            to: RouterId::new(to),
            cost: 1,
        };
        let set = |ids: &[&str]| ids.iter().map(|id| RouterId::new(*id)).collect::<BTreeSet<_>>();
        let links = [link("a", "b"), link("b", "c"), link("c", "a")];
        let path = |from: &[&str], to: &[&str]| {
            let path = shortest(&links, &set(from), &set(to))?;
            Some(path.iter().map(RouterId::as_str).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(path(&["a"], &["c"]).as_deref(), Some("a b c"));
        assert_eq!(path(&["a", "b"], &["c"]).as_deref(), Some("b c"));
        assert_eq!(path(&["a"], &["a"]).as_deref(), Some("a"));
        assert_eq!(path(&["a"], &["d"]), None);
        assert_eq!(path(&[], &["a"]), None);
    }
}
