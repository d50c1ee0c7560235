//! The paths that routers would choose, by what they report now.
//!
//! Routers decide by themselves, each by its own copy of the same reports and by its own latest measurements.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use nightgate_model::{id::RouterId, replica::LinkReport};

/// Cost of passing through a router, on top of its links: as in `userspace/fabric/src/path.rs`.
const ROUTER_COST: u64 = 10;

/// Most paths between two routers that are looked for.
const MAX_PATHS: usize = 4;

/// A path and what it costs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Path {
    /// All routers from the first to the last.
    pub(crate) routers: Vec<RouterId>,
    /// Cost of each link between them.
    pub(crate) links: Vec<u64>,
}

/// Which router reaches which, and what the cheapest link there costs.
#[derive(Debug)]
pub(crate) struct Map<'a>(BTreeMap<&'a RouterId, BTreeMap<&'a RouterId, u64>>);

type Link<'a> = (&'a RouterId, &'a RouterId);

impl Path {
    /// Sum over links and routers.
    pub(crate) fn cost(&self) -> u64 {
        self.links.iter().map(|link| link + ROUTER_COST).sum()
    }
}

impl<'a> Map<'a> {
    pub(crate) fn new(links: impl IntoIterator<Item = &'a LinkReport>) -> Self {
        let mut map: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
        for link in links {
            let cost = map.entry(&link.from).or_default().entry(&link.to).or_insert(u64::MAX);
            *cost = (*cost).min(link.cost.into());
        }
        Self(map)
    }

    /// The cheapest path.
    pub(crate) fn cheapest(&self, from: &'a RouterId, to: &RouterId) -> Option<Path> {
        self.path(from, to, &BTreeSet::new())
    }

    /// The cheapest path first, then those that are left when one of its links is lost.
    pub(crate) fn alternatives(&self, from: &'a RouterId, to: &RouterId) -> Vec<Path> {
        let Some(best) = self.cheapest(from, to) else { return Vec::new() };
        let pairs = best.routers.iter().zip(best.routers.iter().skip(1));
        let mut others: Vec<Path> = Vec::new();
        for (a, b) in pairs {
            let lost = BTreeSet::from([(a, b), (b, a)]);
            if let Some(other) = self.path(from, to, &lost)
                && !others.contains(&other)
            {
                others.push(other);
            }
        }
        others.sort_by_key(Path::cost);
        others.truncate(MAX_PATHS - 1);
        others.insert(0, best);
        others
    }

    /// Dijkstra 1959; of equally cheap paths the one over fewer routers, then over smaller ids.
    fn path(&self, from: &'a RouterId, to: &RouterId, lost: &BTreeSet<Link<'_>>) -> Option<Path> {
        let mut reached: BTreeMap<&RouterId, Option<&RouterId>> = BTreeMap::new();
        let mut queue = BinaryHeap::from([Reverse((0, 0, None, from))]);
        while let Some(Reverse((cost, hops, before, at))) = queue.pop() {
            if reached.contains_key(at) {
                continue;
            }
            reached.insert(at, before);
            if at == to {
                return Some(self.walk_back(at, &reached));
            }
            for (next, link) in self.0.get(at).into_iter().flatten() {
                if !reached.contains_key(next) && !lost.contains(&(at, *next)) {
                    queue.push(Reverse((cost + link + ROUTER_COST, hops + 1, Some(at), *next)));
                }
            }
        }
        None
    }

    fn walk_back(&self, to: &RouterId, reached: &BTreeMap<&RouterId, Option<&RouterId>>) -> Path {
        let before = |at: &&RouterId| reached.get(at).copied().flatten();
        let mut routers: Vec<_> = std::iter::successors(Some(to), before).cloned().collect();
        routers.reverse();
        let pairs = routers.iter().zip(routers.iter().skip(1));
        let links = pairs.filter_map(|(from, to)| self.0.get(from)?.get(to).copied()).collect();
        Path { routers, links }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: &str, to: &str, cost: u32) -> LinkReport {
        LinkReport { from: RouterId::new(from), to: RouterId::new(to), cost }
    }

    fn names(path: &Path) -> String {
        path.routers.iter().map(RouterId::as_str).collect()
    }

    #[test]
    fn the_cheapest_path_comes_first_and_then_what_is_left_without_its_links() {
        let links = [
            link("a", "b", 100),
            link("a", "b", 120),
            link("a", "c", 1),
            link("c", "b", 1),
            link("a", "d", 60),
            link("d", "b", 60),
        ];
        let map = Map::new(&links);
        let (a, b) = (RouterId::new("a"), RouterId::new("b"));
        let found = map.alternatives(&a, &b);
        let found: Vec<_> = found.iter().map(|path| (names(path), path.cost())).collect();
        assert_eq!(found, [("acb".to_owned(), 22), ("ab".to_owned(), 110)]);
        assert_eq!(map.cheapest(&a, &b).unwrap().links, [1, 1]);
        assert_eq!(names(&map.cheapest(&a, &a).unwrap()), "a");
        assert_eq!(map.cheapest(&b, &a), None);
        assert!(map.alternatives(&a, &RouterId::new("x")).is_empty());
    }
}
