//! The connections of links that other routers dialed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use nightgate_model::id::RouterId;
use tokio::sync::watch;

/// Connections that one router may have to this one; more are refused. Twice what a router dials at most, because
/// those of its life before may not have been found dead yet.
const MOST: usize = 16;

/// The numbers of the connections that each router has dialed, from 0 on. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepted(Arc<watch::Sender<HashMap<RouterId, BTreeSet<usize>>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    accepted: Accepted,
    peer: RouterId,
    number: usize,
}

impl Accepted {
    /// Counts a connection of this router; `None` when it has as many as it may.
    pub(super) fn add(&self, peer: &RouterId) -> Option<Entry> {
        let mut free = None;
        self.0.send_if_modified(|all| {
            let numbers = all.entry(peer.clone()).or_default();
            free = (0..MOST).find(|number| numbers.insert(*number));
            free.is_some()
        });
        free.map(|number| Entry { accepted: self.clone(), peer: peer.clone(), number })
    }

    /// Ends when this router has a connection, or has none any more.
    pub(super) async fn wait_for(&self, peer: &RouterId, any: bool) {
        let mut counts = self.0.subscribe();
        drop(counts.wait_for(|counts| counts.contains_key(peer) == any).await);
    }
}

impl Entry {
    /// The lowest number that no other connection of the router had.
    pub(super) fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.accepted.0.send_modify(|all| {
            if let Some(numbers) = all.get_mut(&self.peer) {
                numbers.remove(&self.number);
                if numbers.is_empty() {
                    all.remove(&self.peer);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_of_a_router_are_counted_and_bounded() {
        let (accepted, peer) = (Accepted::default(), RouterId::new("a"));
        accepted.wait_for(&peer, false).await;
        let mut all: Vec<_> = std::iter::from_fn(|| accepted.add(&peer)).collect();
        assert_eq!(all.len(), MOST);
        assert!(accepted.add(&RouterId::new("b")).is_some(), "another router has its own count");
        let numbers: Vec<_> = all.iter().map(Entry::number).collect();
        assert_eq!(numbers, Vec::from_iter(0..MOST));
        drop(all.remove(3));
        all.push(accepted.add(&peer).unwrap());
        assert_eq!(all.last().map(Entry::number), Some(3));
        accepted.wait_for(&peer, true).await;
        drop(all);
        accepted.wait_for(&peer, false).await;
    }
}
