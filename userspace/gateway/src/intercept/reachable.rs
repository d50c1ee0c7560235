//! Which services can be reached now: somebody hosts them, and links lead there.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_model::{
    id::{IdentityId, ServiceId},
    replica::Replica,
};

/// The services that the router of an identity reaches, as far as the model knows. A dial may still fail.
pub(super) fn services(replica: &Replica, own: &IdentityId) -> BTreeSet<ServiceId> {
    let mut neighbours = BTreeMap::<&str, Vec<&str>>::new();
    for link in replica.links.iter() {
        neighbours.entry(link.from.as_str()).or_default().push(link.to.as_str());
    }
    let mut routers = BTreeSet::from([own.as_str()]);
    let mut new = vec![own.as_str()];
    while let Some(router) = new.pop() {
        for neighbour in neighbours.get(router).into_iter().flatten() {
            if routers.insert(neighbour) {
                new.push(neighbour);
            }
        }
    }
    let terminators = replica.terminators.iter();
    let reached = terminators.filter(|terminator| routers.contains(terminator.router.as_str()));
    reached.map(|terminator| terminator.service.clone()).collect()
}

#[cfg(test)]
mod tests {
    use nightgate_model::{
        entity::Terminator,
        id::{RouterId, TerminatorId},
        replica::LinkReport,
    };

    use super::*;

    #[test]
    fn what_links_lead_to_is_reached() {
        let link =
            |from, to| LinkReport { from: RouterId::new(from), to: RouterId::new(to), cost: 1 };
        let terminator = |service, router| Terminator {
            id: TerminatorId::new(service),
            service: ServiceId::new(service),
            router: RouterId::new(router),
            host: IdentityId::new("host"),
            instance: String::new(),
            secret: String::new(),
            precedence: Default::default(),
            cost: 0,
        };
        let replica = Replica {
            links: vec![link("gw", "r1"), link("r1", "gw"), link("r1", "r2"), link("r3", "gw")]
                .into(),
            terminators: vec![
                terminator("own", "gw"),
                terminator("near", "r1"),
                terminator("far", "r2"),
                terminator("beyond", "r3"),
            ]
            .into(),
            ..Replica::default()
        };
        let names = services(&replica, &IdentityId::new("gw"));
        let names: Vec<&str> = names.iter().map(|id| id.as_str()).collect();
        assert_eq!(names, ["far", "near", "own"]);
    }
}
