//! Routers and links as one router knows them, as numbers.

use std::collections::HashMap;

use nightgate_model::{id::RouterId, replica::LinkReport};

use super::Passage;

/// Cost of passing through a router, on top of its links, at least; OpenZiti's minimum router cost.
pub(super) const ROUTER_COST: u64 = 10;

/// Routers and links.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// In their order.
    pub(super) routers: Vec<RouterId>,
    positions: HashMap<RouterId, usize>,
    pub(super) nodes: Vec<Node>,
}

/// A router.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its neighbours and the cost of the cheapest link there, in their order.
    pub(super) links: Vec<(usize, u64)>,
    /// Cost of coming to it, besides the link.
    pub(super) cost: u64,
    /// Paths may begin and end at it only.
    pub(super) no_traversal: bool,
}

impl Graph {
    /// Of what other routers report, a link counts if both its ends do, and costs what the dearer of them says: no
    /// router draws circuits to itself by links that it does not have, or that are slower than it says. Links from
    /// `own` are as this router knows them.
    pub(super) fn new<'a>(
        own: &RouterId,
        links: impl Iterator<Item = &'a LinkReport> + Clone,
        known: impl IntoIterator<Item = Passage<'a>>,
    ) -> Self {
        // Links to whoever reports none do not count, but for our own.
        let of_own = |link: &&LinkReport| link.from == *own;
        let mut ids: Vec<&RouterId> = links.clone().map(|link| &link.from).collect();
        ids.extend(links.clone().filter(of_own).map(|link| &link.to));
        ids.dedup();
        ids.sort_unstable();
        ids.dedup();
        let index: HashMap<&str, usize> = ids.iter().map(|id| id.as_str()).zip(0..).collect();
        let node = Node { links: Vec::new(), cost: ROUTER_COST, no_traversal: false };
        let mut nodes = vec![node; ids.len()];
        for Passage { router, cost, no_traversal } in known {
            if let Some(at) = index.get(router.as_str()) {
                nodes[*at].cost = ROUTER_COST.max(cost.into());
                nodes[*at].no_traversal = no_traversal;
            }
        }
        // Reports of one router follow each other.
        let mut from = ("", 0);
        for link in links {
            let Some(to) = index.get(link.to.as_str()) else { continue };
            if from.0 != link.from.as_str() {
                from = (link.from.as_str(), index[link.from.as_str()]);
            }
            nodes[from.1].links.push((*to, link.cost.into()));
        }
        for node in &mut nodes {
            node.links.sort_unstable();
            node.links.dedup_by_key(|(to, _)| *to);
        }
        believe(&mut nodes, index.get(own.as_str()).copied());
        let routers: Vec<RouterId> = ids.into_iter().cloned().collect();
        let positions = routers.iter().cloned().zip(0..).collect();
        Self { routers, positions, nodes }
    }

    pub(super) fn index(&self, router: &RouterId) -> Option<usize> {
        self.positions.get(router).copied()
    }

    /// Cost of the link between two routers; none if there is none.
    pub(super) fn link(&self, from: usize, to: usize) -> Option<u64> {
        cost_of(&self.nodes[from].links, to)
    }
}

/// Leaves out what only one of two routers reports, and takes the dearer of two costs.
fn believe(nodes: &mut [Node], own: Option<usize>) {
    let reported: Vec<Vec<(usize, u64)>> = nodes.iter().map(|node| node.links.clone()).collect();
    for (from, node) in nodes.iter_mut().enumerate() {
        if Some(from) != own {
            node.links.retain_mut(|(to, cost)| {
                let other = cost_of(&reported[*to], from);
                *cost = other.map_or(*cost, |other| other.max(*cost));
                other.is_some()
            });
        }
    }
}

fn cost_of(links: &[(usize, u64)], to: usize) -> Option<u64> {
    let at = links.binary_search_by_key(&to, |(to, _)| *to).ok()?;
    Some(links[at].1)
}
