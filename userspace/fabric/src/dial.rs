//! Making circuits: authorize, choose a terminator and a path, offer it to the host.

use std::time::{Duration, Instant};

use nightgate_model::{
    entity::{Permission, Terminator},
    id::RouterId,
};
use nightgate_wire::{
    Headers,
    link::{CircuitId, Frame, header},
};

use crate::{
    Command, Dial, DialRefusal, EndId, FailureCause, KeyShare, LinkId, Offer, Role, Router,
    end::{End, EndState, Hop},
    open::{Open, put_key_share},
    path::{self, Path},
};

/// A dial that is not answered for this long has failed. Longer than a host's own time to connect
/// to its server (5 s), so that the host's more exact cause arrives first.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

impl Router {
    /// Starts a circuit; [`Command::Opened`] or [`Command::Refused`] tells how it went.
    ///
    /// # Errors
    /// The model does not allow it, or knows no terminator that can be reached.
    pub fn dial(&mut self, dial: Dial, now: Instant) -> Result<EndId, DialRefusal> {
        self.check_validity(now)?;
        self.authorize_dial(&dial)?;
        if self.is_full() {
            let detail = format!("router {} holds as many circuits as it may", self.id);
            return Err(DialRefusal::new(FailureCause::Capacity, detail));
        }
        let (terminator, path) = self.choose_terminator(&dial)?;
        let circuit = CircuitId(self.random.next());
        let offer = Offer { terminator: terminator.id, dial, request: None };
        let routers = path.routers;
        let dialer = |next| {
            let role = (Role::Dialer, &offer, terminator.host.clone());
            End::waiting((circuit, next), role, routers.clone(), now + DIAL_TIMEOUT)
        };
        let id = if let Some(next) = routers.get(1) {
            let link = self.link_to(next).ok_or_else(|| no_route(&offer.dial, next))?;
            let id = self.insert_end(dialer(Hop::Link(link)));
            let open = Open { path: routers, offer };
            self.emit(Hop::Link(link), Frame::Open(circuit, open.to_headers()));
            id
        } else {
            // The host end gets the next number: each points at the other.
            let host = EndId(self.next_end + 1);
            let id = self.insert_end(dialer(Hop::End(host)));
            self.offer(Hop::End(id), circuit, routers, offer, now)
                .inspect_err(|_| drop(self.remove_end(id)))?;
            id
        };
        self.settle();
        Ok(id)
    }

    /// Accepts an offer; `share` is the host's part of the agreement on keys.
    pub fn accept(&mut self, id: EndId, share: KeyShare) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.role != Role::Host {
            return;
        }
        end.state = EndState::Open;
        let mut headers = Headers::new();
        put_key_share(&mut headers, share);
        let (hop, frame) = (end.next, Frame::Opened(end.circuit, headers));
        self.emit(hop, frame);
        self.settle();
    }

    /// Refuses an offer.
    pub fn refuse(&mut self, id: EndId, refusal: &DialRefusal) {
        if let Some(end) = self.remove_end(id) {
            self.emit(end.next, Frame::Refused(end.circuit, refusal_headers(refusal)));
            self.settle();
        }
    }

    /// Takes an `Open` from a neighbour: forwards it, or offers it to a host of this router.
    pub(crate) fn handle_open(
        &mut self,
        link: LinkId,
        circuit: CircuitId,
        headers: &Headers,
        now: Instant,
    ) {
        let outcome = self.try_open(link, circuit, headers, now);
        if let Err(refusal) = outcome {
            self.emit(Hop::Link(link), Frame::Refused(circuit, refusal_headers(&refusal)));
        }
    }

    fn try_open(
        &mut self,
        link: LinkId,
        circuit: CircuitId,
        headers: &Headers,
        now: Instant,
    ) -> Result<(), DialRefusal> {
        let open = Open::from_headers(headers).ok_or_else(|| broken("unreadable request"))?;
        let here = open.path.iter().position(|router| *router == self.id);
        let before = here.and_then(|at| open.path.get(at.checked_sub(1)?));
        let (Some(here), Some(before)) = (here, before) else {
            return Err(broken("the path does not lead here"));
        };
        if self.links.get(&link).map(|link| &link.peer) != Some(before) {
            return Err(broken("the path does not come from where it says"));
        }
        if self.routes.contains_key(&(link, circuit)) {
            return Err(broken("the circuit id is taken"));
        }
        if self.is_full() {
            let detail = format!("router {} holds as many circuits as it may", self.id);
            return Err(DialRefusal::new(FailureCause::Capacity, detail));
        }
        let Some(next) = open.path.get(here + 1) else {
            return self.offer(Hop::Link(link), circuit, open.path, open.offer, now);
        };
        let onward = self.link_to(next).ok_or_else(|| no_route(&open.offer.dial, next))?;
        if self.routes.contains_key(&(onward, circuit)) {
            return Err(broken("the circuit id is taken"));
        }
        self.routes.insert((link, circuit), Hop::Link(onward));
        self.routes.insert((onward, circuit), Hop::Link(link));
        self.emit(Hop::Link(onward), Frame::Open(circuit, headers.clone()));
        Ok(())
    }

    /// Offers a circuit to a terminator of this router, after its own check of policy.
    fn offer(
        &mut self,
        next: Hop,
        circuit: CircuitId,
        path: Vec<RouterId>,
        offer: Offer,
        now: Instant,
    ) -> Result<(), DialRefusal> {
        self.check_validity(now)?;
        let terminator = self.hosted.get(&offer.terminator);
        let Some(terminator) = terminator.filter(|known| {
            known.service == offer.dial.service && known.instance == offer.dial.instance
        }) else {
            let detail = format!("router {} does not host the terminator any longer", self.id);
            return Err(DialRefusal::new(FailureCause::InvalidTerminator, detail));
        };
        let dial = &offer.dial;
        // Not through a router that the dialer could not have come by, either.
        let authorizations = &self.replica.authorizations;
        let came = |router| authorizations.reaches(&dial.dialer, &dial.service, router);
        if !self.allows(&dial.dialer, &terminator.host, &dial.service)
            || !self.reaches(&terminator.host, &dial.service)
            || !path.first().is_some_and(came)
        {
            let detail = format!("router {} allows no such circuit", self.id);
            return Err(DialRefusal::new(FailureCause::Unauthorized, detail));
        }
        let role = (Role::Host, &offer, terminator.host.clone());
        let end = End::waiting((circuit, next), role, path, now + DIAL_TIMEOUT);
        let id = self.insert_end(end);
        self.commands.push_back(Command::Offer(id, circuit, offer));
        Ok(())
    }

    pub(crate) fn expire_dials(&mut self, now: Instant) {
        let late: Vec<EndId> = self
            .ends
            .iter()
            .filter(|(_, end)| matches!(end.state, EndState::Waiting(until) if until <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.end_circuit(id, FailureCause::DialTimeout);
        }
    }

    fn authorize_dial(&self, dial: &Dial) -> Result<(), DialRefusal> {
        let known = self.replica.identities.get(&dial.dialer);
        let Some(identity) = known.filter(|_| !self.barred.contains(&dial.dialer)) else {
            let detail = format!("identity {} is unknown or disabled", dial.dialer);
            return Err(DialRefusal::new(FailureCause::Unauthorized, detail));
        };
        let Some(service) = self.replica.services.get(&dial.service) else {
            let detail = format!("service {} is unknown", dial.service);
            return Err(DialRefusal::new(FailureCause::NoService, detail));
        };
        let permission = Permission::Dial;
        if !self.replica.authorizations.allows(&dial.dialer, permission, &dial.service) {
            let detail =
                format!("no policy lets identity {} dial service {}", identity.name, service.name);
            return Err(DialRefusal::new(FailureCause::Unauthorized, detail));
        }
        if !self.reaches(&dial.dialer, &dial.service) {
            let detail = format!(
                "edge-router policies do not let identity {} use service {} through router {}",
                identity.name, service.name, self.id
            );
            return Err(DialRefusal::new(FailureCause::Unauthorized, detail));
        }
        Ok(())
    }

    /// The terminator whose path and own cost add up to the least, among those of the best precedence of
    /// the instance that is dialed. As in OpenZiti, a dial without an instance reaches those that have none.
    fn choose_terminator(&self, dial: &Dial) -> Result<(Terminator, Path), DialRefusal> {
        let mut hosts = self
            .replica
            .terminators
            .iter()
            .filter(|terminator| terminator.router != self.id)
            .chain(self.hosted.values())
            .filter(|terminator| terminator.service == dial.service)
            .filter(|terminator| terminator.instance == dial.instance)
            .peekable();
        if hosts.peek().is_none() {
            let name = self.service_name(dial);
            let detail = match dial.instance.as_str() {
                "" => format!("nobody hosts service {name}"),
                instance => format!("nobody hosts service {name} as instance {instance:?}"),
            };
            return Err(DialRefusal::new(FailureCause::NoTerminator, detail));
        }
        let paths = path::cheapest(&self.topology(), &self.id);
        hosts
            .filter_map(|terminator| Some((terminator, paths.get(&terminator.router)?)))
            .min_by_key(|(terminator, path)| {
                (terminator.precedence, path.cost + u64::from(terminator.cost), &terminator.id)
            })
            .map(|(terminator, path)| (terminator.clone(), path.clone()))
            .ok_or_else(|| {
                let name = self.service_name(dial);
                let detail = format!("no links lead from router {} to a host of {name}", self.id);
                DialRefusal::new(FailureCause::NoRoute, detail)
            })
    }

    /// Links of other routers as reported, our own as they are.
    fn topology(&self) -> Vec<nightgate_model::replica::LinkReport> {
        let others = self.replica.links.iter().filter(|link| link.from != self.id).cloned();
        others.chain(self.link_reports()).collect()
    }

    fn service_name<'a>(&'a self, dial: &'a Dial) -> &'a str {
        self.replica.services.get(&dial.service).map_or(dial.service.as_str(), |s| &s.name)
    }

    fn link_to(&self, peer: &RouterId) -> Option<LinkId> {
        self.links
            .iter()
            .filter(|(_, link)| link.peer == *peer)
            .min_by_key(|(id, link)| (link.cost, **id))
            .map(|(id, _)| *id)
    }
}

fn refusal_headers(refusal: &DialRefusal) -> Headers {
    let mut headers = Headers::new();
    headers
        .put_text(header::CAUSE, refusal.cause.as_str())
        .put_text(header::DETAIL, &refusal.detail);
    headers
}

fn no_route(dial: &Dial, next: &RouterId) -> DialRefusal {
    let detail = format!("no link to router {next} on the way to service {}", dial.service);
    DialRefusal::new(FailureCause::NoRoute, detail)
}

fn broken(detail: &str) -> DialRefusal {
    DialRefusal::new(FailureCause::Protocol, detail)
}
