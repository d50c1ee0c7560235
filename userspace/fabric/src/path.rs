//! The cheapest chain of links between two routers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use nightgate_model::{id::RouterId, replica::LinkReport};

/// Cost of passing through a router, on top of its links; OpenZiti's minimum router cost.
const ROUTER_COST: u64 = 10;

/// Trees that are kept besides the one without anything to avoid.
const MAX_TREES: usize = 32;

/// A path and what it costs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Path {
    /// All routers from the first to the last.
    pub(crate) routers: Vec<RouterId>,
    /// Sum over links and routers.
    pub(crate) cost: u64,
}

/// Two routers between which a circuit found no way, in whichever order.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Lost(pub(crate) RouterId, pub(crate) RouterId);

/// Routers and links as one router knows them, and the cheapest paths from it, each computed once.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    routers: Vec<RouterId>,
    /// For each router, its neighbours and the cost of the cheapest link there.
    links: Vec<BTreeMap<usize, u64>>,
    trees: BTreeMap<Vec<(usize, usize)>, Tree>,
}

/// Shortest paths from the first router (Dijkstra 1959).
#[derive(Debug)]
struct Tree(Vec<Option<Reached>>);

#[derive(Clone, Copy, Debug)]
struct Reached {
    cost: u64,
    from: usize,
}

impl Topology {
    /// Of what other routers report, a link counts if both its ends do, and costs what the dearer of them says: no
    /// router draws circuits to itself by links that it does not have, or that are slower than it says. Links from
    /// `own` are as this router knows them.
    pub(crate) fn new(own: &RouterId, links: impl IntoIterator<Item = LinkReport>) -> Self {
        let mut reported = BTreeMap::<(RouterId, RouterId), u64>::new();
        for link in links {
            let cost = reported.entry((link.from, link.to)).or_insert(u64::MAX);
            *cost = (*cost).min(u64::from(link.cost));
        }
        let believed = |(ends, cost): (&(RouterId, RouterId), &u64)| {
            let (from, to) = ends;
            let back = reported.get(&(to.clone(), from.clone())).copied();
            let other = if from == own { Some(0) } else { back };
            other.map(|other| (ends.clone(), other.max(*cost)))
        };
        let believed: Vec<_> = reported.iter().filter_map(believed).collect();
        let mut routers: Vec<RouterId> =
            believed.iter().flat_map(|((from, to), _)| [from, to]).cloned().collect();
        routers.sort_unstable();
        routers.dedup();
        let mut topology =
            Self { links: vec![BTreeMap::new(); routers.len()], routers, ..Self::default() };
        for ((from, to), cost) in believed {
            if let (Some(from), Some(to)) = (topology.index(&from), topology.index(&to)) {
                topology.links[from].insert(to, cost);
            }
        }
        topology
    }

    /// The cheapest path that uses no lost link; none if there is none.
    ///
    /// Of equally cheap paths the one over fewer routers is taken, then over smaller ids, so that the
    /// same topology always gives the same paths.
    pub(crate) fn path(&mut self, from: &RouterId, to: &RouterId, avoid: &[Lost]) -> Option<Path> {
        if from == to {
            return Some(Path { routers: vec![to.clone()], cost: 0 });
        }
        let (from, to) = (self.index(from)?, self.index(to)?);
        let tree = self.tree(from, avoid);
        let cost = tree.0[to]?.cost;
        let mut steps = vec![to];
        while let Some(reached) = tree.0[*steps.last()?]
            && reached.from != usize::MAX
        {
            steps.push(reached.from);
        }
        let routers = steps.iter().rev().map(|step| self.routers[*step].clone()).collect();
        Some(Path { routers, cost })
    }

    /// What a path costs now; none if one of its links is gone.
    pub(crate) fn cost(&self, path: &[RouterId]) -> Option<u64> {
        path.iter().zip(path.iter().skip(1)).try_fold(0, |sum, (from, to)| {
            let link = self.links[self.index(from)?].get(&self.index(to)?)?;
            Some(sum + link + ROUTER_COST)
        })
    }

    fn index(&self, router: &RouterId) -> Option<usize> {
        self.routers.binary_search(router).ok()
    }

    fn tree(&mut self, from: usize, avoid: &[Lost]) -> &Tree {
        let mut lost: Vec<(usize, usize)> = avoid
            .iter()
            .filter_map(|Lost(a, b)| Some((self.index(a)?, self.index(b)?)))
            .flat_map(|(a, b)| [(a, b), (b, a)])
            .collect();
        lost.sort_unstable();
        lost.dedup();
        if self.trees.len() > MAX_TREES && !self.trees.contains_key(&lost) {
            self.trees.clear();
        }
        let links = &self.links;
        self.trees.entry(lost).or_insert_with_key(|lost| Tree::new(links, from, lost))
    }
}

impl Tree {
    fn new(links: &[BTreeMap<usize, u64>], from: usize, lost: &[(usize, usize)]) -> Self {
        let mut reached = vec![None; links.len()];
        let mut queue = BinaryHeap::from([Reverse((0, 0, usize::MAX, from))]);
        while let Some(Reverse((cost, hops, before, at))) = queue.pop() {
            if reached[at].is_some() {
                continue;
            }
            reached[at] = Some(Reached { cost, from: before });
            for (next, link) in &links[at] {
                if reached[*next].is_none() && lost.binary_search(&(at, *next)).is_err() {
                    queue.push(Reverse((cost + link + ROUTER_COST, hops + 1, at, *next)));
                }
            }
        }
        Self(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: &str, to: &str, cost: u32) -> LinkReport {
        LinkReport { from: RouterId::new(from), to: RouterId::new(to), cost }
    }

    fn path(topology: &mut Topology, to: &str, avoid: &[Lost]) -> Option<(String, u64)> {
        let path = topology.path(&RouterId::new("a"), &RouterId::new(to), avoid)?;
        Some((path.routers.iter().map(RouterId::as_str).collect(), path.cost))
    }

    #[test]
    fn two_cheap_links_beat_a_dear_one_until_one_of_them_is_lost() {
        let links = [link("a", "b", 100), link("a", "b", 120), link("a", "c", 1)];
        let mut topology = Topology::new(
            &RouterId::new("a"),
            links.into_iter().chain([link("c", "b", 1), link("b", "c", 1)]),
        );
        assert_eq!(path(&mut topology, "b", &[]), Some(("acb".into(), 22)));
        let lost = [Lost(RouterId::new("b"), RouterId::new("c"))];
        assert_eq!(path(&mut topology, "b", &lost), Some(("ab".into(), 110)));
        assert_eq!(topology.cost(&["a", "c", "b"].map(RouterId::new)), Some(22));
        assert_eq!(topology.cost(&["b", "a"].map(RouterId::new)), None);
    }

    #[test]
    fn a_router_reaches_itself_for_nothing_and_strangers_not_at_all() {
        let mut topology = Topology::new(&RouterId::new("a"), [link("b", "a", 1)]);
        assert_eq!(path(&mut topology, "a", &[]), Some(("a".into(), 0)));
        assert_eq!(path(&mut topology, "b", &[]), None);
        assert_eq!(path(&mut topology, "x", &[]), None);
    }

    #[test]
    fn a_router_cannot_invent_links_or_make_them_shorter() {
        let honest = [link("a", "c", 50), link("c", "b", 50), link("b", "c", 50)];
        let invented =
            [link("a", "m", 10), link("m", "b", 0), link("m", "c", 0), link("c", "m", 90)];
        let own = RouterId::new("a");
        let mut topology = Topology::new(&own, honest.into_iter().chain(invented));
        assert_eq!(path(&mut topology, "b", &[]), Some(("acb".into(), 120)));
        assert_eq!(path(&mut topology, "m", &[]), Some(("am".into(), 20)));
    }
}
