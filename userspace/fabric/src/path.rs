//! The cheapest chain of links between two routers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use nightgate_model::{id::RouterId, replica::LinkReport};

/// Cost of passing through a router, on top of its links; OpenZiti's minimum router cost.
const ROUTER_COST: u64 = 10;

/// A path and what it costs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Path {
    /// All routers from the first to the last.
    pub(crate) routers: Vec<RouterId>,
    /// Sum over links and routers.
    pub(crate) cost: u64,
}

/// The cheapest paths from one router to all it can reach (Dijkstra 1959).
///
/// Of equally cheap paths the one over the smaller router ids is taken, so that the same topology
/// always gives the same paths.
pub(crate) fn cheapest(links: &[LinkReport], from: &RouterId) -> BTreeMap<RouterId, Path> {
    let mut neighbours: BTreeMap<&RouterId, Vec<(&RouterId, u64)>> = BTreeMap::new();
    for link in links {
        neighbours.entry(&link.from).or_default().push((&link.to, u64::from(link.cost)));
    }
    let mut best: BTreeMap<RouterId, Path> = BTreeMap::new();
    let mut queue = BinaryHeap::from([Reverse((0, vec![from.clone()]))]);
    while let Some(Reverse((cost, routers))) = queue.pop() {
        let Some(last) = routers.last().cloned() else { continue };
        if best.contains_key(&last) {
            continue;
        }
        for (next, link_cost) in neighbours.get(&last).into_iter().flatten() {
            if !best.contains_key(*next) {
                let longer = routers.iter().chain([*next]).cloned().collect();
                queue.push(Reverse((cost + link_cost + ROUTER_COST, longer)));
            }
        }
        best.insert(last, Path { routers, cost });
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: &str, to: &str, cost: u32) -> LinkReport {
        LinkReport { from: RouterId::new(from), to: RouterId::new(to), cost }
    }

    #[test]
    fn two_cheap_links_beat_a_dear_one() {
        let links = [link("a", "b", 100), link("a", "c", 1), link("c", "b", 1)];
        let paths = cheapest(&links, &RouterId::new("a"));
        let path = &paths[&RouterId::new("b")];
        assert_eq!(path.routers.iter().map(RouterId::as_str).collect::<Vec<_>>(), ["a", "c", "b"]);
        assert_eq!(path.cost, 22);
    }

    #[test]
    fn a_router_reaches_itself_for_nothing_and_strangers_not_at_all() {
        let paths = cheapest(&[link("a", "b", 1)], &RouterId::new("b"));
        assert_eq!(paths.len(), 1);
        assert_eq!(paths[&RouterId::new("b")].cost, 0);
    }
}
