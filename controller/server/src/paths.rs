//! The paths that routers would choose, by what they report now.
//!
//! Routers decide by themselves, each by its own copy of the same reports and by its own latest measurements.

use nightgate_fabric::{Lost, Passage, Topology};
use nightgate_model::{entity::EdgeRouter, id::RouterId, replica::LinkReport};

/// Most paths between two routers that are looked for.
const MAX_PATHS: usize = 4;

/// A path and what it costs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Path {
    /// All routers from the first to the last.
    pub(crate) routers: Vec<RouterId>,
    /// Cost of each link between them.
    pub(crate) links: Vec<u64>,
    /// Sum over links and routers.
    pub(crate) cost: u64,
}

/// All links and routers.
#[derive(Debug)]
pub(crate) struct Map<'a> {
    links: &'a [LinkReport],
    routers: Vec<Passage<'a>>,
}

/// The paths from one router.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    from: &'a RouterId,
    topology: Topology,
}

impl<'a> Map<'a> {
    pub(crate) fn new(
        links: &'a [LinkReport],
        routers: impl IntoIterator<Item = &'a EdgeRouter>,
    ) -> Self {
        let passage = |EdgeRouter { id, cost, no_traversal, .. }: &'a EdgeRouter| Passage {
            router: id,
            cost: *cost,
            no_traversal: *no_traversal,
        };
        Self { links, routers: routers.into_iter().map(passage).collect() }
    }

    pub(crate) fn leaving(&self, from: &'a RouterId) -> Leaving<'a> {
        let topology = Topology::new(from, self.links.iter(), self.routers.iter().copied());
        Leaving { from, topology }
    }
}

impl Leaving<'_> {
    /// The cheapest path.
    pub(crate) fn cheapest(&mut self, to: &RouterId) -> Option<Path> {
        self.path(to, &[])
    }

    /// The cheapest path first, then those that are left when one of its links is lost.
    pub(crate) fn alternatives(&mut self, to: &RouterId) -> Vec<Path> {
        let Some(best) = self.cheapest(to) else { return Vec::new() };
        let pairs = best.routers.iter().zip(best.routers.iter().skip(1));
        let mut others: Vec<Path> = Vec::new();
        for (a, b) in pairs {
            let lost = [Lost(a.clone(), b.clone())];
            if let Some(other) = self.path(to, &lost)
                && !others.contains(&other)
            {
                others.push(other);
            }
        }
        others.sort_by_key(|path| path.cost);
        others.truncate(MAX_PATHS - 1);
        others.insert(0, best);
        others
    }

    fn path(&mut self, to: &RouterId, lost: &[Lost]) -> Option<Path> {
        let nightgate_fabric::Path { routers, cost } = self.topology.path(self.from, to, lost)?;
        let pairs = routers.iter().zip(routers.iter().skip(1));
        let links = pairs.filter_map(|(from, to)| self.topology.link(from, to)).collect();
        Some(Path { routers, links, cost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(a: &str, b: &str, cost: u32) -> [LinkReport; 2] {
        let link = |from, to| LinkReport { from: RouterId::new(from), to: RouterId::new(to), cost };
        [link(a, b), link(b, a)]
    }

    fn router(id: &str, cost: u16, no_traversal: bool) -> EdgeRouter {
        EdgeRouter {
            id: RouterId::new(id),
            name: id.into(),
            is_tunneler_enabled: false,
            disabled: false,
            role_attributes: [].into(),
            fingerprint: None,
            address: None,
            cost,
            no_traversal,
        }
    }

    fn names(path: &Path) -> String {
        path.routers.iter().map(RouterId::as_str).collect()
    }

    #[test]
    fn the_cheapest_path_comes_first_and_then_what_is_left_without_its_links() {
        let links = [
            both("a", "b", 100),
            both("a", "b", 120),
            both("a", "c", 1),
            both("c", "b", 1),
            both("a", "d", 60),
            both("d", "b", 60),
        ];
        let mut links = links.concat();
        links.sort_by(|one, other| one.from.cmp(&other.from));
        let found = |routers: &[EdgeRouter], from: &str, to: &str| {
            let from = RouterId::new(from);
            let paths = Map::new(&links, routers).leaving(&from).alternatives(&RouterId::new(to));
            paths.iter().map(|path| (names(path), path.cost)).collect::<Vec<_>>()
        };
        let path = |routers: &str, cost| (routers.to_owned(), cost);
        assert_eq!(found(&[], "a", "b"), [path("acb", 22), path("ab", 110)]);
        assert_eq!(found(&[], "a", "a"), [path("a", 0)]);
        assert_eq!(found(&[], "a", "x"), []);
        let dear = [router("c", 200, false)];
        assert_eq!(found(&dear, "a", "b"), [path("ab", 110), path("adb", 140)]);
        let closed = [router("c", 0, true)];
        assert_eq!(found(&closed, "a", "b"), [path("ab", 110), path("adb", 140)]);
        let a = RouterId::new("a");
        let cheapest = Map::new(&links, &[]).leaving(&a).cheapest(&RouterId::new("b"));
        assert_eq!(cheapest.unwrap().links, [1, 1]);
    }
}
