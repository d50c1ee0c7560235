//! The cheapest chain of links between two routers.

mod graph;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use nightgate_model::{
    id::RouterId,
    replica::{LinkReport, ReplicaRouter},
};

use self::graph::{Graph, Node};

/// Trees that are kept besides the one without anything to avoid.
const MAX_TREES: usize = 32;

/// A path and what it costs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Path {
    /// All routers from the first to the last.
    pub routers: Vec<RouterId>,
    /// Sum over links and routers.
    pub cost: u64,
}

/// Two routers between which a circuit found no way, in whichever order.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Lost(pub RouterId, pub RouterId);

/// Routers and links as one router knows them, and the cheapest paths from it, each computed once.
#[derive(Debug, Default)]
pub struct Topology {
    graph: Graph,
    trees: BTreeMap<Vec<(usize, usize)>, Tree>,
}

/// What passing through a router costs, and whether it may be.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    /// The router.
    pub router: &'a RouterId,
    /// What it costs at least; 10 counts where it is less.
    pub cost: u16,
    /// Paths may begin and end there only.
    pub no_traversal: bool,
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
    /// From the links that others report and those of `own`, and what is known of routers. Reports of one router
    /// have to follow each other.
    pub fn new<'a>(
        own: &RouterId,
        links: impl Iterator<Item = &'a LinkReport> + Clone,
        routers: impl IntoIterator<Item = Passage<'a>>,
    ) -> Self {
        Self { graph: Graph::new(own, links, routers), trees: BTreeMap::new() }
    }

    /// The cheapest path that uses no lost link; none if there is none.
    ///
    /// Of equally cheap paths the one over fewer routers is taken, then over smaller ids, so that the
    /// same topology always gives the same paths.
    pub fn path(&mut self, from: &RouterId, to: &RouterId, avoid: &[Lost]) -> Option<Path> {
        if from == to {
            return Some(Path { routers: vec![to.clone()], cost: 0 });
        }
        let (from, to) = (self.graph.index(from)?, self.graph.index(to)?);
        let tree = Self::tree(&self.graph, &mut self.trees, from, avoid);
        let cost = tree.0[to]?.cost;
        let mut steps = vec![to];
        while let Some(reached) = tree.0[*steps.last()?]
            && reached.from != usize::MAX
        {
            steps.push(reached.from);
        }
        let routers = steps.iter().rev().map(|step| self.graph.routers[*step].clone()).collect();
        Some(Path { routers, cost })
    }

    /// What the cheapest path that uses no lost link costs.
    pub(crate) fn distance(
        &mut self,
        from: &RouterId,
        to: &RouterId,
        avoid: &[Lost],
    ) -> Option<u64> {
        if from == to {
            return Some(0);
        }
        let (from, to) = (self.graph.index(from)?, self.graph.index(to)?);
        Some(Self::tree(&self.graph, &mut self.trees, from, avoid).0[to]?.cost)
    }

    /// What a path costs now; none if one of its links is gone.
    pub(crate) fn cost(&self, path: &[RouterId]) -> Option<u64> {
        let mut at = self.graph.index(path.first()?)?;
        path.iter().skip(1).try_fold(0, |sum, router| {
            let from = std::mem::replace(&mut at, self.graph.index(router)?);
            Some(sum + self.graph.link(from, at)? + self.graph.nodes[at].cost)
        })
    }

    /// What the cheapest link from one router to another costs; none if there is none that counts.
    pub fn link(&self, from: &RouterId, to: &RouterId) -> Option<u64> {
        self.graph.link(self.graph.index(from)?, self.graph.index(to)?)
    }

    /// Whether a path passes through a router that none may pass through.
    pub(crate) fn is_forbidden(&self, path: &[RouterId]) -> bool {
        let between = path.get(1..path.len().saturating_sub(1)).unwrap_or_default();
        let mut nodes = between.iter().filter_map(|router| self.graph.index(router));
        nodes.any(|at| self.graph.nodes[at].no_traversal)
    }

    fn tree<'a>(
        graph: &Graph,
        trees: &'a mut BTreeMap<Vec<(usize, usize)>, Tree>,
        from: usize,
        avoid: &[Lost],
    ) -> &'a Tree {
        let mut lost: Vec<(usize, usize)> = avoid
            .iter()
            .filter_map(|Lost(a, b)| Some((graph.index(a)?, graph.index(b)?)))
            .flat_map(|(a, b)| [(a, b), (b, a)])
            .collect();
        lost.sort_unstable();
        lost.dedup();
        if trees.len() > MAX_TREES && !trees.contains_key(&lost) {
            trees.clear();
        }
        trees.entry(lost).or_insert_with_key(|lost| Tree::new(&graph.nodes, from, lost))
    }
}

impl<'a> From<&'a ReplicaRouter> for Passage<'a> {
    fn from(ReplicaRouter { id, cost, no_traversal, .. }: &'a ReplicaRouter) -> Self {
        Self { router: id, cost: *cost, no_traversal: *no_traversal }
    }
}

impl Tree {
    fn new(nodes: &[Node], from: usize, lost: &[(usize, usize)]) -> Self {
        let mut reached = vec![None; nodes.len()];
        // The best way to each router so far: worse ones are not kept.
        let mut best = vec![(u64::MAX, usize::MAX, usize::MAX); nodes.len()];
        let mut queue = BinaryHeap::from([Reverse((0, 0, usize::MAX, from))]);
        while let Some(Reverse((cost, hops, before, at))) = queue.pop() {
            if reached[at].is_some() {
                continue;
            }
            reached[at] = Some(Reached { cost, from: before });
            if at != from && nodes[at].no_traversal {
                continue;
            }
            for (next, link) in &nodes[at].links {
                let way = (cost + link + nodes[*next].cost, hops + 1, at);
                if way < best[*next] && lost.binary_search(&(at, *next)).is_err() {
                    best[*next] = way;
                    queue.push(Reverse((way.0, way.1, way.2, *next)));
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
        let more = [link("c", "b", 1), link("b", "c", 1)];
        let mut topology = Topology::new(&RouterId::new("a"), links.iter().chain(&more), []);
        assert_eq!(path(&mut topology, "b", &[]), Some(("acb".into(), 22)));
        let lost = [Lost(RouterId::new("b"), RouterId::new("c"))];
        assert_eq!(path(&mut topology, "b", &lost), Some(("ab".into(), 110)));
        assert_eq!(topology.cost(&["a", "c", "b"].map(RouterId::new)), Some(22));
        assert_eq!(topology.cost(&["b", "a"].map(RouterId::new)), None);
    }

    #[test]
    fn a_router_reaches_itself_for_nothing_and_strangers_not_at_all() {
        let mut topology = Topology::new(&RouterId::new("a"), [link("b", "a", 1)].iter(), []);
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
        let mut topology = Topology::new(&own, honest.iter().chain(&invented), []);
        assert_eq!(path(&mut topology, "b", &[]), Some(("acb".into(), 120)));
        assert_eq!(path(&mut topology, "m", &[]), Some(("am".into(), 20)));
    }

    fn router(id: &str, cost: u16, no_traversal: bool) -> ReplicaRouter {
        ReplicaRouter {
            id: RouterId::new(id),
            name: id.into(),
            fingerprint: String::new(),
            offered: None,
            origin: String::new(),
            address: None,
            cost,
            no_traversal,
        }
    }

    #[test]
    fn dear_routers_are_passed_by_and_some_are_not_passed_at_all() {
        let both = |a, b, cost| [link(a, b, cost), link(b, a, cost)];
        let links =
            [both("a", "c", 1), both("c", "b", 1), both("a", "d", 5), both("d", "b", 5)].concat();
        let reached = |routers: &[ReplicaRouter], to| {
            let routers = routers.iter().map(Passage::from);
            let mut topology = Topology::new(&RouterId::new("a"), links.iter(), routers);
            path(&mut topology, to, &[])
        };
        assert_eq!(reached(&[], "b"), Some(("acb".into(), 22)));
        assert_eq!(reached(&[router("c", 30, false)], "b"), Some(("adb".into(), 30)));
        assert_eq!(reached(&[router("c", 5, false)], "b"), Some(("acb".into(), 22)));
        let closed = [router("c", 0, true), router("a", 0, true)];
        assert_eq!(reached(&closed, "b"), Some(("adb".into(), 30)));
        assert_eq!(reached(&closed, "c"), Some(("ac".into(), 11)), "it may be an end");
        let both_closed = [router("c", 0, true), router("d", 0, true)];
        assert_eq!(reached(&both_closed, "b"), None);
        let closed = closed.iter().map(Passage::from);
        let topology = Topology::new(&RouterId::new("a"), links.iter(), closed);
        let ids = |path: [&str; 3]| path.map(RouterId::new);
        assert!(topology.is_forbidden(&ids(["a", "c", "b"])));
        assert!(!topology.is_forbidden(&ids(["a", "d", "c"])));
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        /// Eight routers: links between them both ways, and what the routers cost.
        fn networks() -> impl Strategy<Value = (Vec<LinkReport>, Vec<ReplicaRouter>)> {
            let id = |at: u8| format!("r{at}");
            let links =
                proptest::collection::vec((0..8_u8, 0..8_u8, 0..100_u32, 0..100_u32), 0..24);
            let routers = proptest::collection::vec((0..60_u16, any::<bool>()), 8);
            (links, routers).prop_map(move |(links, routers)| {
                let links = links.into_iter().filter(|(a, b, ..)| a != b);
                let links = links.flat_map(|(a, b, there, back)| {
                    [link(&id(a), &id(b), there), link(&id(b), &id(a), back)]
                });
                let routers = (0..8).zip(routers);
                let routers = routers.map(|(at, (cost, closed))| router(&id(at), cost, closed));
                (links.collect(), routers.collect())
            })
        }

        /// The least cost of all paths, found by trying them all.
        fn least(topology: &Topology, path: &mut Vec<RouterId>, to: &RouterId) -> Option<u64> {
            if path.last() == Some(to) {
                return topology.cost(path).filter(|_| !topology.is_forbidden(path));
            }
            let mut best = None;
            for router in topology.graph.routers.clone() {
                if path.contains(&router) {
                    continue;
                }
                path.push(router);
                if topology.cost(path).is_some() {
                    best = [best, least(topology, path, to)].into_iter().flatten().min();
                }
                path.pop();
            }
            best
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(100))]

            #[test]
            fn the_path_found_is_the_cheapest_and_passes_nobody_who_forbids_it(
                (links, routers) in networks()
            ) {
                let (own, to) = (RouterId::new("r0"), RouterId::new("r7"));
                let routers = routers.iter().map(Passage::from);
                let mut topology = Topology::new(&own, links.iter(), routers);
                let found = topology.path(&own, &to, &[]);
                if let Some(found) = &found {
                    prop_assert_eq!(topology.cost(&found.routers), Some(found.cost));
                    prop_assert!(!topology.is_forbidden(&found.routers));
                }
                prop_assert_eq!(
                    topology.distance(&own, &to, &[]),
                    found.as_ref().map(|path| path.cost)
                );
                let best = least(&topology, &mut vec![own], &to);
                prop_assert_eq!(found.map(|path| path.cost), best);
            }
        }
    }
}
