//! The state machine of one router.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use nightgate_model::{
    entity::{Permission, Terminator},
    id::{IdentityId, RouterId, ServiceId, TerminatorId},
    replica::{LinkReport, Replica},
};
use nightgate_wire::link::{CircuitId, Frame, PathId};

use crate::{
    CircuitInfo, Command, EndId, FailureCause, LinkId, LinkInfo, MemoryInfo, Role,
    end::{End, EndState, Hop, Way},
    link::{Link, LinkDue},
    load::Loads,
    open,
    path::{Lost, Path, Topology},
    random::Random,
    timer::{Due, Timers},
};

/// Ends and routes that one router holds at most; half of them from one neighbour.
pub(crate) const MAX_CIRCUITS: usize = 200_000;

/// Bytes of messages that one router keeps at most for the ends of circuits.
const BUDGET: u64 = 1024 * 1024 * 1024;

/// A router that wakes so much too late has itself been frozen, and forgives its neighbours' silence.
const OVERSLEPT: Duration = Duration::from_millis(300);

/// One router: its neighbours, the circuits that end here and those that pass through.
///
/// Inputs are the `handle_*` methods and the methods of ends ([`Self::dial`], [`Self::accept`],
/// [`Self::refuse`], [`Self::send`], [`Self::consumed`], [`Self::close`]). After each of them, take
/// all commands from [`Self::poll_command`] until it gives `None`, then arrange to call
/// [`Self::handle_timeout`] at [`Self::poll_timeout`].
#[derive(Debug)]
pub struct Router {
    pub(crate) id: RouterId,
    pub(crate) random: Random,
    pub(crate) replica: Arc<Replica>,
    /// Until when `replica` allows circuits, if that is limited.
    pub(crate) valid_until: Option<Instant>,
    /// None after a change, until it is asked for.
    topology: Option<Topology>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    peers: BTreeMap<RouterId, BTreeSet<LinkId>>,
    pub(crate) hosted: BTreeMap<TerminatorId, Terminator>,
    pub(crate) ends: BTreeMap<EndId, End>,
    /// Ends of hosts, which dialers name when they want another path.
    pub(crate) hosting: BTreeMap<CircuitId, EndId>,
    pub(crate) routes: BTreeMap<(LinkId, PathId), Route>,
    /// Frames from one end of this router to another, not yet handled.
    local: VecDeque<(EndId, Frame)>,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) timers: Timers,
    pub(crate) next_end: u64,
    /// Identities that are allowed nothing, whatever the model says.
    pub(crate) barred: BTreeSet<IdentityId>,
    /// What all ends keep, in bytes.
    bytes: u64,
    pub(crate) loads: Loads,
    /// Where the search for better paths goes on, and when.
    pub(crate) looked_at: EndId,
    pub(crate) moves_armed: Option<Instant>,
}

/// Where frames of a path go that come by a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) hop: Hop,
    pub(crate) circuit: CircuitId,
}

impl Router {
    /// A router without neighbours and with an empty replica, which allows nothing.
    ///
    /// `seed` makes the numbers and secrets of circuits; nobody else may know it.
    pub fn new(id: RouterId, seed: [u8; 32]) -> Self {
        Self {
            id,
            random: Random::new(seed),
            replica: Arc::default(),
            valid_until: None,
            topology: None,
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            hosted: BTreeMap::new(),
            ends: BTreeMap::new(),
            hosting: BTreeMap::new(),
            routes: BTreeMap::new(),
            local: VecDeque::new(),
            commands: VecDeque::new(),
            timers: Timers::default(),
            next_end: 1,
            barred: BTreeSet::new(),
            bytes: 0,
            loads: Loads::default(),
            looked_at: EndId(0),
            moves_armed: None,
        }
    }

    /// Takes a newer model: circuits and terminators that it allows no longer end at once.
    pub fn handle_replica(&mut self, replica: Arc<Replica>, now: Instant) {
        if replica.links != self.replica.links {
            self.topology = None;
        }
        let before = std::mem::replace(&mut self.replica, replica);
        self.barred.retain(|identity| self.replica.identities.contains_key(identity));
        if !self.replica.shares_model_with(&before) {
            self.end_revoked();
        }
        self.settle(now);
    }

    /// Ends circuits and terminators that are not allowed any longer.
    pub(crate) fn end_revoked(&mut self) {
        let revoked: Vec<EndId> = self
            .ends
            .iter()
            .filter(|(_, end)| {
                let here = match end.role {
                    Role::Dialer => &end.dialer,
                    Role::Host | Role::Transit => &end.host,
                };
                !self.allows(&end.dialer, &end.host, &end.service)
                    || !self.reaches(here, &end.service)
            })
            .map(|(id, _)| *id)
            .collect();
        for end in revoked {
            self.end_circuit(end, FailureCause::Unauthorized);
        }
        self.unbind_revoked();
    }

    /// Takes a new connection to a neighbour, authenticated by the shell.
    pub fn handle_link_up(&mut self, link: LinkId, peer: RouterId, now: Instant) {
        self.peers.entry(peer.clone()).or_default().insert(link);
        self.links.insert(link, Link::new(peer, now));
        self.arm_link(link);
        self.links_changed();
    }

    /// Takes that something came from a neighbour, be it less than a frame.
    pub fn handle_heard(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.handle_heard();
        }
    }

    /// Takes the loss of a connection: circuits over it look for another path.
    pub fn handle_link_down(&mut self, link: LinkId, now: Instant) {
        let Some(down) = self.links.remove(&link) else { return };
        self.timers.disarm(Due::Link(link), down.armed);
        let others = self.peers.get_mut(&down.peer);
        let last = others.is_none_or(|others| others.remove(&link) && others.is_empty());
        if last {
            self.peers.remove(&down.peer);
        }
        self.links_changed();
        // Another connection to the same neighbour will do as well.
        let lost = last.then(|| Lost(self.id.clone(), down.peer));
        let paths = (link, PathId(u64::MIN))..=(link, PathId(u64::MAX));
        let paths: Vec<_> = self.routes.range(paths).map(|(key, route)| (key.1, *route)).collect();
        for (path, route) in paths {
            self.routes.remove(&(link, path));
            match route.hop {
                Hop::Link(other) => {
                    self.remove_route(other, path);
                    self.emit(Hop::Link(other), Frame::Unroute(path, open::unroute(lost.as_ref())));
                }
                // This router sees for itself which links it has.
                Hop::End(end) => self.lose_path(end, path, None, now),
            }
        }
        self.settle(now);
    }

    /// Does what is due: pings, dead neighbours, acknowledgements, other paths, dials that took too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let overslept = self.timers.first().is_some_and(|(at, _)| now > at + OVERSLEPT);
        if overslept {
            self.links.values_mut().for_each(Link::handle_heard);
        }
        let due: Vec<Due> = std::iter::from_fn(|| self.timers.pop(now)).collect();
        for due in due {
            match due {
                Due::Link(link) => self.handle_link_timeout(link, now),
                Due::End(end) => self.handle_end_timeout(end, now),
                Due::Moves => self.look_for_better_paths(now),
            }
        }
        self.settle(now);
    }

    fn handle_link_timeout(&mut self, id: LinkId, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.armed = None;
        match link.handle_timeout(now) {
            LinkDue::Nothing => {}
            LinkDue::Ping(stamp) => self.emit(Hop::Link(id), Frame::Ping(stamp)),
            LinkDue::Dead => self.drop_link(id, FailureCause::LinkLost, now),
        }
        self.arm_link(id);
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timers.first().map(|(at, due)| (at, due.reason()))
    }

    /// The next thing the shell must do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Adds a place where a service is hosted behind this router. [`Command::Unbind`] follows at
    /// once when the model does not allow it.
    pub fn host(&mut self, terminator: Terminator) {
        self.hosted.insert(terminator.id.clone(), terminator);
        self.unbind_revoked();
    }

    /// Removes it; circuits that it already serves go on.
    pub fn unhost(&mut self, id: &TerminatorId) {
        self.hosted.remove(id);
    }

    /// What has to be told to the controller about links.
    pub fn link_reports(&self) -> Vec<LinkReport> {
        let report = |(peer, links): (&RouterId, &BTreeSet<LinkId>)| LinkReport {
            from: self.id.clone(),
            to: peer.clone(),
            cost: links.iter().filter_map(|id| Some(self.links.get(id)?.cost)).min().unwrap_or(0),
        };
        self.peers.iter().map(report).collect()
    }

    /// What is hosted behind this router.
    pub fn terminators(&self) -> Vec<Terminator> {
        self.hosted.values().cloned().collect()
    }

    /// Links for people.
    pub fn links(&self) -> Vec<LinkInfo> {
        self.links
            .values()
            .map(|link| LinkInfo { peer: link.peer.clone(), cost: link.cost })
            .collect()
    }

    /// Circuits for people: those that end here and those that pass through.
    pub fn circuits(&self) -> Vec<CircuitInfo> {
        let stands = |end: &&End| !matches!(end.state, EndState::Waiting(_));
        let ends = self.ends.values().filter(stands).map(|end| CircuitInfo {
            id: end.circuit.to_string(),
            role: end.role,
            service: Some(end.service.clone()),
            dialer: Some(end.dialer.clone()),
            host: Some(end.host.clone()),
            path: end.routers.clone(),
            sent: end.send.sent(),
            received: end.receive.received(),
            window: end.receive.window(),
            moves: end.healing.moves,
        });
        // A transit path has a route from each side; the one from the smaller link stands for both.
        let transit = self.routes.iter().filter_map(|((from, _), route)| match route.hop {
            Hop::Link(to) if *from < to => Some(self.transit_info(route.circuit, *from, to)),
            Hop::Link(_) | Hop::End(_) => None,
        });
        ends.chain(transit).collect()
    }

    fn transit_info(&self, circuit: CircuitId, from: LinkId, to: LinkId) -> CircuitInfo {
        let peer = |link| self.links.get(&link).map(|link| link.peer.clone());
        CircuitInfo {
            id: circuit.to_string(),
            role: Role::Transit,
            service: None,
            dialer: None,
            host: None,
            path: [peer(from), Some(self.id.clone()), peer(to)].into_iter().flatten().collect(),
            sent: 0,
            received: 0,
            window: 0,
            moves: 0,
        }
    }

    /// What this router keeps.
    pub fn memory(&self) -> MemoryInfo {
        let (ends, routes) = (self.ends.len(), self.routes.len());
        MemoryInfo { ends, routes, bytes: self.bytes, budget: BUDGET }
    }

    /// Whether the model allows this circuit now.
    pub(crate) fn allows(
        &self,
        dialer: &IdentityId,
        host: &IdentityId,
        service: &ServiceId,
    ) -> bool {
        let may = |identity: &IdentityId, permission| {
            self.knows(identity)
                && self.replica.authorizations.allows(identity, permission, service)
        };
        may(dialer, Permission::Dial) && may(host, Permission::Bind)
    }

    /// Whether the model knows an identity, and it is not barred.
    fn knows(&self, identity: &IdentityId) -> bool {
        self.replica.identities.contains_key(identity) && !self.barred.contains(identity)
    }

    /// Whether the model lets this identity use the service through this router.
    pub(crate) fn reaches(&self, identity: &IdentityId, service: &ServiceId) -> bool {
        self.replica.authorizations.reaches(identity, service, &self.id)
    }

    fn unbind_revoked(&mut self) {
        let replica = Arc::clone(&self.replica);
        let barred = &self.barred;
        self.hosted.retain(|id, terminator| {
            let host = &terminator.host;
            let may = replica.identities.contains_key(host)
                && !barred.contains(host)
                && replica.authorizations.allows(host, Permission::Bind, &terminator.service)
                && replica.authorizations.reaches(host, &terminator.service, &self.id);
            if !may {
                self.commands.push_back(Command::Unbind(id.clone()));
            }
            may
        });
    }

    /// The cheapest path to a router; links of other routers as reported, our own as they are.
    pub(crate) fn find_path(&mut self, to: &RouterId, avoid: &[Lost]) -> Option<Path> {
        let own = self.id.clone();
        self.topology().path(&own, to, avoid)
    }

    pub(crate) fn topology(&mut self) -> &mut Topology {
        let (replica, own) = (&self.replica, &self.id);
        let others = || replica.links.iter().filter(|link| link.from != *own).cloned();
        let topology = match self.topology.take() {
            Some(topology) => topology,
            None => Topology::new(others().chain(self.link_reports())),
        };
        self.topology.insert(topology)
    }

    pub(crate) fn links_changed(&mut self) {
        self.topology = None;
        self.commands.push_back(Command::LinksChanged);
    }

    /// The connection to a neighbour that a new path takes: the one with the fewest, of those that
    /// cost hardly more than the cheapest.
    pub(crate) fn link_to(&self, peer: &RouterId) -> Option<LinkId> {
        let links = || {
            self.peers
                .get(peer)
                .into_iter()
                .flatten()
                .filter_map(|id| Some((*id, self.links.get(id)?)))
        };
        let cheapest = links().map(|(_, link)| link.cost).min()?;
        links()
            .filter(|(_, link)| link.cost <= cheapest.saturating_add(1 + cheapest / 4))
            .min_by_key(|(id, link)| (link.paths, *id))
            .map(|(id, _)| id)
    }

    /// Closes a link whose neighbour is silent or broke the protocol.
    pub(crate) fn drop_link(&mut self, link: LinkId, cause: FailureCause, now: Instant) {
        self.commands.push_back(Command::DropLink(link, cause));
        self.handle_link_down(link, now);
    }

    pub(crate) fn arm_link(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            let at = link.poll_timeout();
            self.timers.arm(Due::Link(id), &mut link.armed, Some(at));
        }
    }

    pub(crate) fn add_route(&mut self, link: LinkId, path: PathId, route: Route, now: Instant) {
        self.routes.insert((link, path), route);
        if let Some(link) = self.links.get_mut(&link) {
            link.add_path(now);
        }
        self.arm_link(link);
    }

    pub(crate) fn remove_route(&mut self, link: LinkId, path: PathId) -> Option<Route> {
        let route = self.routes.remove(&(link, path))?;
        if let Some(link) = self.links.get_mut(&link) {
            link.paths -= 1;
        }
        Some(route)
    }

    /// Forgets a path of an end; `true` when there was a neighbour on it, who should be told.
    pub(crate) fn remove_way(&mut self, way: Way) -> bool {
        match way.hop {
            Hop::Link(link) => self.remove_route(link, way.path).is_some(),
            Hop::End(_) => false,
        }
    }

    /// Whether there is no room for another circuit, or none for another one from this neighbour.
    pub(crate) fn is_full(&self, from: Option<LinkId>) -> bool {
        let share = from.and_then(|link| self.links.get(&link)).map_or(0, |link| link.paths);
        self.ends.len() + self.routes.len() >= MAX_CIRCUITS || share >= MAX_CIRCUITS / 2
    }

    pub(crate) fn insert_end(&mut self, end: End, now: Instant) -> EndId {
        let id = EndId(self.next_end);
        self.next_end += 1;
        if end.role == Role::Host {
            self.hosting.insert(end.circuit, id);
        }
        if let Some(Way { hop: Hop::Link(link), path }) = end.way {
            let route = Route { hop: Hop::End(id), circuit: end.circuit };
            self.add_route(link, path, route, now);
        }
        self.ends.insert(id, end);
        self.arm(id);
        self.arm_moves(now);
        id
    }

    /// Wakes an end when it is due.
    pub(crate) fn arm(&mut self, id: EndId) {
        if let Some(end) = self.ends.get_mut(&id) {
            let at = end.due();
            self.timers.arm(Due::End(id), &mut end.armed, at);
        }
    }

    /// Changes an end and counts what it keeps.
    pub(crate) fn change<R>(&mut self, id: EndId, change: impl FnOnce(&mut End) -> R) -> Option<R> {
        let end = self.ends.get_mut(&id)?;
        let before = end.bytes();
        let result = change(end);
        self.bytes = self.bytes - before + end.bytes();
        Some(result)
    }

    /// Most that a window may grow to now.
    pub(crate) fn window_ceiling(&self) -> u64 {
        if self.bytes > BUDGET / 2 { crate::INITIAL_WINDOW } else { crate::MAX_WINDOW }
    }

    /// Ends the circuit that keeps most if all together keep too much.
    pub(crate) fn keep_budget(&mut self) {
        if self.bytes > BUDGET {
            let greediest = self.ends.iter().max_by_key(|(_, end)| end.bytes()).map(|(id, _)| *id);
            if let Some(id) = greediest {
                self.end_circuit(id, FailureCause::Capacity);
            }
        }
    }

    /// Ends a circuit for a reason of this router's own: tells the other side and the client.
    pub(crate) fn end_circuit(&mut self, id: EndId, cause: FailureCause) {
        if let Some(way) = self.ends.get(&id).and_then(|end| end.way) {
            self.emit(way.hop, Frame::Close(way.path));
        }
        self.forget_end(id, cause);
    }

    /// Ends a circuit whose other side already knows, and tells the client.
    pub(crate) fn forget_end(&mut self, id: EndId, cause: FailureCause) {
        let Some(end) = self.remove_end(id) else { return };
        match (end.role, end.state) {
            (_, EndState::Closing) => {}
            (Role::Dialer, EndState::Waiting(_)) => {
                let detail = format!("the circuit ended before it stood ({cause})");
                let refusal = crate::DialRefusal::new(cause, detail);
                self.commands.push_back(Command::Refused(id, refusal));
            }
            (Role::Dialer | Role::Host | Role::Transit, _) => {
                self.commands.push_back(Command::Closed(id, cause));
            }
        }
    }

    pub(crate) fn remove_end(&mut self, id: EndId) -> Option<End> {
        let mut end = self.ends.remove(&id)?;
        self.bytes -= end.bytes();
        self.timers.disarm(Due::End(id), end.armed);
        if end.role == Role::Host {
            self.hosting.remove(&end.circuit);
        }
        if let Some(way) = end.way {
            self.remove_way(way);
        }
        if let Some(terminator) = &end.terminator {
            self.loads.end(terminator);
        }
        if let Some(asked) = end.healing.asked.take() {
            self.leave_way(asked.way);
        }
        Some(end)
    }

    /// Sends a frame on its way; frames to an end of this router wait for [`Self::settle`].
    pub(crate) fn emit(&mut self, hop: Hop, frame: Frame) {
        match hop {
            Hop::Link(link) => self.commands.push_back(Command::Send(link, frame)),
            Hop::End(end) => self.local.push_back((end, frame)),
        }
    }

    /// Handles the frames that ends of this router sent to each other.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some((end, frame)) = self.local.pop_front() {
            self.handle_end_frame(end, frame, now);
        }
    }
}
