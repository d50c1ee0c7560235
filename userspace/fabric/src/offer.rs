//! Requests for circuits and paths at the routers they meet: pass on, offer to a host, or refuse.

use std::time::Instant;

use nightgate_model::id::RouterId;
use nightgate_wire::{
    Headers,
    link::{CircuitId, Frame, PathId},
};

use crate::{
    Command, DialRefusal, EndId, FailureCause, KeyShare, LinkId, Offer, Role, Router,
    dial::DIAL_TIMEOUT,
    end::{End, EndState, Hop, Proof, Request, Way},
    open::{self, Open, put_key_share},
    path::Lost,
    proof::{Anchor, Verifier},
    router::Route,
};

/// Bytes of a request for a circuit or a path at most. Nobody stores those that are passed on.
pub(crate) const MAX_REQUEST: usize = 64 * 1024;

/// Bytes of one neighbour's requests that wait for hosts of this router at most, and what each counts besides its
/// own: a flood of requests makes that neighbour's own dials fail, and no others.
const MAX_WAITING: usize = 16 * 1024 * 1024;
const REQUEST_OVERHEAD: usize = 2 * 1024;

/// Why a request goes no further.
#[derive(Debug)]
pub(crate) struct Obstacle {
    refusal: DialRefusal,
    /// Another path may do: the routers between which there is no link.
    lost: Option<Lost>,
}

impl Obstacle {
    pub(crate) fn broken(detail: &str) -> Self {
        DialRefusal::new(FailureCause::Protocol, detail).into()
    }
}

impl From<DialRefusal> for Obstacle {
    fn from(refusal: DialRefusal) -> Self {
        Self { refusal, lost: None }
    }
}

impl Router {
    /// Accepts an offer; `share` is the host's part of the agreement on keys.
    pub fn accept(&mut self, id: EndId, share: KeyShare, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.role != Role::Host {
            return;
        }
        end.state = EndState::Open;
        let request = end.request.take();
        let mut headers = Headers::new();
        put_key_share(&mut headers, share);
        if let Some(way) = end.way {
            self.emit(way.hop, Frame::Opened(way.path, headers));
        }
        self.release(request);
        self.settle(now);
    }

    /// Refuses an offer.
    pub fn refuse(&mut self, id: EndId, refusal: &DialRefusal, now: Instant) {
        if let Some(end) = self.remove_end(id)
            && let Some(way) = end.way
        {
            self.emit(way.hop, Frame::Refused(way.path, open::refused(refusal, None)));
            self.settle(now);
        }
    }

    /// Takes an `Open` from a neighbour: forwards it, or offers it to a host of this router.
    pub(crate) fn handle_open(
        &mut self,
        link: LinkId,
        path: PathId,
        headers: &Headers,
        now: Instant,
    ) {
        if let Err(obstacle) = self.try_open(link, path, headers, now) {
            self.refuse_path(link, path, &obstacle);
        }
    }

    pub(crate) fn refuse_path(&mut self, link: LinkId, path: PathId, obstacle: &Obstacle) {
        let headers = open::refused(&obstacle.refusal, obstacle.lost.as_ref());
        self.emit(Hop::Link(link), Frame::Refused(path, headers));
    }

    fn try_open(
        &mut self,
        link: LinkId,
        path: PathId,
        headers: &Headers,
        now: Instant,
    ) -> Result<(), Obstacle> {
        let bytes = headers.encoded_len();
        if bytes > MAX_REQUEST {
            return Err(Obstacle::broken("the request is too long"));
        }
        let open =
            Open::from_headers(headers).ok_or_else(|| Obstacle::broken("unreadable request"))?;
        let circuit = CircuitId(path.0);
        if let Some(next) = self.next_router(link, path, &open.path)? {
            let frame = Frame::Open(path, headers.clone());
            return self.pass_on(link, &next, (frame, path, circuit), now);
        }
        if self.hosting.contains_key(&circuit) {
            return Err(Obstacle::broken("the circuit id is taken"));
        }
        let request = self.count_request(link, bytes)?;
        let way = Way { hop: Hop::Link(link), path };
        let offered = self.offer(way, open, now);
        match offered.as_ref().ok().and_then(|id| self.ends.get_mut(id)) {
            Some(end) => end.request = Some(request),
            None => self.release(Some(request)),
        }
        Ok(offered.map(drop)?)
    }

    /// Counts a request of a neighbour until it is answered.
    fn count_request(&mut self, link: LinkId, bytes: usize) -> Result<Box<Request>, DialRefusal> {
        let bytes = bytes + REQUEST_OVERHEAD;
        let (id, own) = (self.links.get(&link).map(|link| link.peer.clone()), self.id.clone());
        let counted = id.and_then(|id| {
            let peer =
                self.peers.get_mut(&id).filter(|peer| peer.waiting + bytes <= MAX_WAITING)?;
            peer.waiting += bytes;
            Some(Box::new(Request { peer: id, bytes }))
        });
        counted.ok_or_else(|| {
            let detail = format!("too many requests wait for hosts of router {own}");
            DialRefusal::new(FailureCause::Capacity, detail)
        })
    }

    /// The router after this one on a path; none if it ends here.
    pub(crate) fn next_router(
        &self,
        link: LinkId,
        path: PathId,
        routers: &[RouterId],
    ) -> Result<Option<RouterId>, Obstacle> {
        let here = routers.iter().position(|router| *router == self.id);
        let before = here.and_then(|at| routers.get(at.checked_sub(1)?));
        let (Some(here), Some(before)) = (here, before) else {
            return Err(Obstacle::broken("the path does not lead here"));
        };
        if self.links.get(&link).map(|link| &link.peer) != Some(before) {
            return Err(Obstacle::broken("the path does not come from where it says"));
        }
        if self.routes.contains_key(&(link, path)) {
            return Err(Obstacle::broken("the path's number is taken"));
        }
        if self.is_full(Some(link)) {
            return Err(self.full().into());
        }
        Ok(routers.get(here + 1).cloned())
    }

    pub(crate) fn full(&self) -> DialRefusal {
        let detail = format!("router {} holds as many circuits as it may", self.id);
        DialRefusal::new(FailureCause::Capacity, detail)
    }

    /// Passes a request on to the next router, and whatever follows it in both directions.
    pub(crate) fn pass_on(
        &mut self,
        link: LinkId,
        next: &RouterId,
        (frame, path, circuit): (Frame, PathId, CircuitId),
        now: Instant,
    ) -> Result<(), Obstacle> {
        let nobody = self.replica.routers.iter().any(|r| r.id == self.id && r.no_traversal);
        let lane = self.lane(link);
        let Some(onward) = self.link_to(next, lane).filter(|_| !nobody) else {
            let why = if nobody { "lets nothing through" } else { "has no link" };
            let detail = format!("router {} {why} to router {next}", self.id);
            let refusal = DialRefusal::new(FailureCause::NoRoute, detail);
            return Err(Obstacle { refusal, lost: Some(Lost(self.id.clone(), next.clone())) });
        };
        if self.routes.contains_key(&(onward, path)) {
            return Err(Obstacle::broken("the path's number is taken"));
        }
        self.add_route(link, path, Route { hop: Hop::Link(onward), circuit }, now);
        self.add_route(onward, path, Route { hop: Hop::Link(link), circuit }, now);
        self.emit(Hop::Link(onward), frame);
        Ok(())
    }

    /// Offers a circuit to a terminator of this router, after its own check of policy.
    pub(crate) fn offer(
        &mut self,
        way: Way,
        open: Open,
        now: Instant,
    ) -> Result<EndId, DialRefusal> {
        self.check_validity(now)?;
        let Open { path, anchor, offer } = open;
        let terminator = self.hosted.get(&offer.terminator);
        let Some(terminator) = terminator.filter(|known| {
            known.service == offer.dial.service && known.instance == offer.dial.instance
        }) else {
            let detail = format!("router {} does not host the terminator any longer", self.id);
            return Err(DialRefusal::new(FailureCause::InvalidTerminator, detail));
        };
        let (host, dial) = (terminator.host.clone(), &offer.dial);
        // Not through a router that the dialer could not have come by, either.
        let authorizations = &self.replica.authorizations;
        let came = |router| authorizations.reaches(&dial.dialer, &dial.service, router);
        if !self.allows(&dial.dialer, &host, &dial.service)
            || !self.reaches(&host, &dial.service)
            || !path.first().is_some_and(came)
        {
            let detail = format!("router {} allows no such circuit", self.id);
            return Err(DialRefusal::new(FailureCause::Unauthorized, detail));
        }
        let circuit = CircuitId(way.path.0);
        let lane = match way.hop {
            Hop::Link(link) => self.lane(link),
            Hop::End(dialer) => self.lane_of(dialer),
        };
        let end =
            End { way: Some(way), lane, ..End::host(circuit, (&offer, host), (path, anchor), now) };
        let id = self.insert_end(end, now);
        self.commands.push_back(Command::Offer(id, circuit, Box::new(offer)));
        Ok(id)
    }
}

impl End {
    fn host(
        circuit: CircuitId,
        (offer, host): (&Offer, nightgate_model::id::IdentityId),
        (routers, anchor): (Vec<RouterId>, Anchor),
        now: Instant,
    ) -> Self {
        Self {
            role: Role::Host,
            host,
            routers,
            state: EndState::Waiting(now + DIAL_TIMEOUT),
            ..Self::new(circuit, &offer.dial, Proof::Host(Verifier::new(anchor)), now)
        }
    }
}
