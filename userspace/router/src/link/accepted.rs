//! The connections of links that other routers dialed.

use std::{collections::HashMap, sync::Arc};

use nightgate_model::id::RouterId;
use tokio::sync::watch;

/// Connections that one router may have to this one; more are refused. Twice what a router dials at most, because
/// those of its life before may not have been found dead yet.
const MOST: usize = 16;

/// How many connections each router has dialed. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepted(Arc<watch::Sender<HashMap<RouterId, usize>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    accepted: Accepted,
    peer: RouterId,
}

impl Accepted {
    /// Counts a connection of this router; `None` when it has as many as it may.
    pub(super) fn add(&self, peer: &RouterId) -> Option<Entry> {
        let counted = self.0.send_if_modified(|counts| {
            let count = counts.entry(peer.clone()).or_default();
            let room = *count < MOST;
            *count += usize::from(room);
            room
        });
        counted.then(|| Entry { accepted: self.clone(), peer: peer.clone() })
    }

    /// Ends when this router has a connection, or has none any more.
    pub(super) async fn wait_for(&self, peer: &RouterId, any: bool) {
        let mut counts = self.0.subscribe();
        drop(counts.wait_for(|counts| counts.contains_key(peer) == any).await);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.accepted.0.send_modify(|counts| {
            if let Some(count) = counts.get_mut(&self.peer) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&self.peer);
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
        all.pop();
        all.push(accepted.add(&peer).unwrap());
        accepted.wait_for(&peer, true).await;
        drop(all);
        accepted.wait_for(&peer, false).await;
    }
}
