//! Who is on the way of a circuit, one hop after the other.

use std::collections::VecDeque;

use nightgate_model::id::RouterId;
use nightgate_wire::{
    Headers,
    link::{Frame, PathId, header},
};

use crate::{EndId, LinkId, Router, end::Hop};

/// Answers that the shell has not asked about yet.
const MAX_TRACED: usize = 1_024;

/// What a router on the way answered. It is that router's own word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TracedHop {
    /// The number that was asked with.
    pub number: u32,
    /// Who answered.
    pub router: RouterId,
    /// How many hops were left there.
    pub left: u32,
    /// The path ends there.
    pub is_last: bool,
}

/// Answers, the first one first.
#[derive(Debug, Default)]
pub(crate) struct Traces(VecDeque<(EndId, TracedHop)>);

impl Router {
    /// Asks the router so many hops behind this one, at least 1, who it is; [`Self::poll_traced`] has the answer, if
    /// one comes. Gives whether the circuit has a path now.
    pub fn trace(&mut self, end: EndId, number: u32, hops: u32, now: std::time::Instant) -> bool {
        let Some(way) = self.ends.get(&end).and_then(|end| end.way) else { return false };
        let mut headers = Headers::new();
        headers.put_u32(header::TRACE, number).put_u32(header::HOPS, hops.max(1));
        self.emit(way.hop, Frame::Trace(way.path, headers));
        self.settle(now);
        true
    }

    /// The next answer, and the end that asked.
    pub fn poll_traced(&mut self) -> Option<(EndId, TracedHop)> {
        self.traces.0.pop_front()
    }

    /// A trace comes by a link: it goes on, or ends here.
    pub(crate) fn handle_trace(&mut self, link: LinkId, path: PathId, mut headers: Headers) {
        let hops = headers.u32(header::HOPS).unwrap_or(1);
        match self.routes.get(&(link, path)).map(|route| route.hop) {
            Some(Hop::Link(onward)) if hops > 1 => {
                headers.put_u32(header::HOPS, hops - 1);
                self.emit(Hop::Link(onward), Frame::Trace(path, headers));
            }
            Some(hop) => {
                let answer = self.traced(&headers, matches!(hop, Hop::End(_)));
                self.emit(Hop::Link(link), Frame::Traced(path, answer));
            }
            None => self.emit(Hop::Link(link), Frame::Unroute(path, Headers::new())),
        }
    }

    /// A trace between two ends of this router.
    pub(crate) fn handle_local_trace(&mut self, id: EndId, headers: &Headers) {
        let Some(way) = self.ends.get(&id).and_then(|end| end.way) else { return };
        let answer = self.traced(headers, true);
        self.emit(way.hop, Frame::Traced(way.path, answer));
    }

    /// An answer has come to the end that asked.
    pub(crate) fn handle_traced(&mut self, id: EndId, headers: &Headers) {
        let number = |key| headers.u32(key).unwrap_or_default();
        let router = headers.text(header::ROUTER).unwrap_or_default();
        let hop = TracedHop {
            number: number(header::TRACE),
            router: RouterId::new(router),
            left: number(header::HOPS),
            is_last: number(header::LAST) == 1,
        };
        if self.traces.0.len() < MAX_TRACED {
            self.traces.0.push_back((id, hop));
        }
    }

    fn traced(&self, question: &Headers, is_last: bool) -> Headers {
        let left = question.u32(header::HOPS).unwrap_or(1).saturating_sub(1);
        let mut answer = Headers::new();
        answer
            .put_u32(header::TRACE, question.u32(header::TRACE).unwrap_or_default())
            .put_u32(header::HOPS, left)
            .put_text(header::ROUTER, self.id.as_str());
        if is_last {
            answer.put_u32(header::LAST, 1);
        }
        answer
    }
}
