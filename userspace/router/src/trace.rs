//! Asks the routers on the way of a circuit who they are.

use std::{collections::HashMap, time::Duration};

use nightgate_fabric::{EndId, TracedHop};
use tokio::sync::oneshot;

use crate::{Router, actor::Event};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Questions that wait for an answer; the next one goes without.
const MAX_WAITING: usize = 1_024;

/// Questions that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    waiting: HashMap<u32, (EndId, oneshot::Sender<TracedHop>)>,
    last: u32,
}

impl Traces {
    /// The number to ask with.
    pub(crate) fn begin(&mut self, end: EndId, reply: oneshot::Sender<TracedHop>) -> u32 {
        self.waiting.retain(|_, (_, reply)| !reply.is_closed());
        self.last = self.last.wrapping_add(1);
        if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(self.last, (end, reply));
        }
        self.last
    }

    /// Gives an answer to whoever asked.
    pub(crate) fn answer(&mut self, end: EndId, hop: TracedHop) {
        if self.waiting.get(&hop.number).is_some_and(|(asked, _)| *asked == end)
            && let Some((_, reply)) = self.waiting.remove(&hop.number)
        {
            drop(reply.send(hop));
        }
    }
}

impl Router {
    /// The router so many hops behind this one, at least 1, on the way of a circuit; none if nobody answers in time.
    pub(crate) async fn trace(&self, end: EndId, hops: u32) -> Option<TracedHop> {
        let (reply, answer) = oneshot::channel();
        self.tell(Event::Trace { end, hops, reply });
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }
}
