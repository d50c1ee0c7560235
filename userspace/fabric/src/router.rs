//! The state machine of one router.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use nightgate_model::{
    entity::{Permission, Terminator},
    id::{IdentityId, RouterId, ServiceId, TerminatorId},
    replica::{LinkReport, Replica},
};
use nightgate_wire::link::{CircuitId, Frame, Payload};

use crate::{
    CircuitInfo, Command, EndId, FailureCause, KeyShare, LinkId, LinkInfo, Role, SendError,
    end::{End, EndState, Hop},
    link::{Link, LinkDue},
};

/// Circuits that one router holds at most, ends and transit together.
pub(crate) const MAX_CIRCUITS: usize = 200_000;

/// One router: its neighbours, the circuits that end here and those that pass through.
///
/// Inputs are the `handle_*` methods and the methods of ends ([`Self::dial`], [`Self::accept`],
/// [`Self::refuse`], [`Self::send`], [`Self::consumed`], [`Self::close`]). After each of them, take
/// all commands from [`Self::poll_command`] until it gives `None`, then arrange to call
/// [`Self::handle_timeout`] at [`Self::poll_timeout`].
#[derive(Debug)]
pub struct Router {
    pub(crate) id: RouterId,
    pub(crate) random: SplitMix,
    pub(crate) replica: Arc<Replica>,
    /// Until when `replica` allows circuits, if that is limited.
    pub(crate) valid_until: Option<Instant>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) hosted: BTreeMap<TerminatorId, Terminator>,
    pub(crate) ends: BTreeMap<EndId, End>,
    pub(crate) routes: BTreeMap<(LinkId, CircuitId), Hop>,
    /// Frames from one end of this router to another, not yet handled.
    pub(crate) local: VecDeque<(EndId, Frame)>,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) next_end: u64,
    /// Identities that are allowed nothing, whatever the model says.
    pub(crate) barred: BTreeSet<IdentityId>,
}

impl Router {
    /// A router without neighbours and with an empty replica, which allows nothing.
    ///
    /// `seed` makes circuit ids; two routers of one network must not share it.
    pub fn new(id: RouterId, seed: u64) -> Self {
        Self {
            id,
            random: SplitMix(seed),
            replica: Arc::default(),
            valid_until: None,
            links: BTreeMap::new(),
            hosted: BTreeMap::new(),
            ends: BTreeMap::new(),
            routes: BTreeMap::new(),
            local: VecDeque::new(),
            commands: VecDeque::new(),
            next_end: 1,
            barred: BTreeSet::new(),
        }
    }

    /// Takes a newer model: circuits and terminators that it allows no longer end at once.
    pub fn handle_replica(&mut self, replica: Arc<Replica>) {
        let before = std::mem::replace(&mut self.replica, replica);
        self.barred.retain(|identity| self.replica.identities.contains_key(identity));
        if self.replica.shares_model_with(&before) {
            return;
        }
        self.end_revoked();
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
        self.settle();
    }

    /// Takes a new connection to a neighbour, authenticated by the shell.
    pub fn handle_link_up(&mut self, link: LinkId, peer: RouterId, now: Instant) {
        self.links.insert(link, Link::new(peer, now));
        self.commands.push_back(Command::LinksChanged);
    }

    /// Takes the loss of a connection: its circuits end.
    pub fn handle_link_down(&mut self, link: LinkId) {
        if self.links.remove(&link).is_none() {
            return;
        }
        let first = (link, CircuitId(u64::MIN));
        let last = (link, CircuitId(u64::MAX));
        let lost: Vec<_> = self.routes.range(first..=last).map(|(key, hop)| (*key, *hop)).collect();
        for ((_, circuit), hop) in lost {
            self.routes.remove(&(link, circuit));
            match hop {
                Hop::Link(other) => {
                    self.routes.remove(&(other, circuit));
                    self.commands.push_back(Command::Send(other, Frame::Close(circuit)));
                }
                Hop::End(end) => self.forget_end(end, FailureCause::LinkLost),
            }
        }
        self.commands.push_back(Command::LinksChanged);
        self.settle();
    }

    /// Does what is due: pings, dead neighbours, dials that took too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut dead = Vec::new();
        for (id, link) in &mut self.links {
            match link.handle_timeout(now) {
                LinkDue::Nothing => {}
                LinkDue::Ping(stamp) => {
                    self.commands.push_back(Command::Send(*id, Frame::Ping(stamp)));
                }
                LinkDue::Dead => dead.push(*id),
            }
        }
        for link in dead {
            self.commands.push_back(Command::DropLink(link, FailureCause::LinkLost));
            self.handle_link_down(link);
        }
        self.expire_dials(now);
        self.settle();
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let links = self.links.values().map(|link| (link.poll_timeout(), "link liveness"));
        let dials = self.ends.values().filter_map(|end| match end.state {
            EndState::Waiting(until) => Some((until, "dial timeout")),
            EndState::Open => None,
        });
        links.chain(dials).min()
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

    /// Sends a message of an open circuit.
    ///
    /// # Errors
    /// The circuit is not open, or the message exceeds the credit given so far.
    pub fn send(&mut self, id: EndId, payload: Payload) -> Result<(), SendError> {
        let end = self.ends.get_mut(&id).ok_or(SendError::Closed)?;
        if end.state != EndState::Open {
            return Err(SendError::Closed);
        }
        let sequence = end.send.send(&payload)?;
        let (hop, frame) = (end.next, Frame::Payload(end.circuit, sequence, payload));
        self.emit(hop, frame);
        self.settle();
        Ok(())
    }

    /// Takes that the client took delivered messages of this [`crate::weight`].
    pub fn consumed(&mut self, id: EndId, weight: u64) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if let Some(total) = end.receive.consume(weight) {
            let (hop, frame) = (end.next, Frame::Ack(end.circuit, total));
            self.emit(hop, frame);
            self.settle();
        }
    }

    /// Ends a circuit from this side. Messages sent before arrive before the end does.
    pub fn close(&mut self, id: EndId) {
        if let Some(end) = self.remove_end(id) {
            self.emit(end.next, Frame::Close(end.circuit));
            self.settle();
        }
    }

    /// What has to be told to the controller about links.
    pub fn link_reports(&self) -> Vec<LinkReport> {
        let report = |link: &Link| LinkReport {
            from: self.id.clone(),
            to: link.peer.clone(),
            cost: link.cost,
        };
        self.links.values().map(report).collect()
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
        let ends =
            self.ends.values().filter(|end| end.state == EndState::Open).map(|end| CircuitInfo {
                id: end.circuit.to_string(),
                role: end.role,
                service: Some(end.service.clone()),
                dialer: Some(end.dialer.clone()),
                host: Some(end.host.clone()),
                path: end.path.clone(),
                sent: end.send.sent(),
                received: end.receive.received(),
            });
        // A transit circuit has a route from each side; the one from the smaller link stands for both.
        let transit = self.routes.iter().filter_map(|((from, circuit), hop)| match hop {
            Hop::Link(to) if from < to => Some(self.transit_info(*circuit, *from, *to)),
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
        }
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

    /// Ends a circuit for a reason of this router's own: tells the other side and the client.
    pub(crate) fn end_circuit(&mut self, id: EndId, cause: FailureCause) {
        if let Some(end) = self.ends.get(&id) {
            let (hop, frame) = (end.next, Frame::Close(end.circuit));
            self.emit(hop, frame);
            self.forget_end(id, cause);
        }
    }

    /// Ends a circuit whose other side already knows, and tells the client.
    pub(crate) fn forget_end(&mut self, id: EndId, cause: FailureCause) {
        if let Some(end) = self.remove_end(id) {
            let command = match (end.role, end.state) {
                (Role::Dialer, EndState::Waiting(_)) => {
                    let detail = format!("the circuit ended before it stood ({cause})");
                    Command::Refused(id, crate::DialRefusal::new(cause, detail))
                }
                (Role::Dialer | Role::Host | Role::Transit, _) => Command::Closed(id, cause),
            };
            self.commands.push_back(command);
        }
    }

    pub(crate) fn remove_end(&mut self, id: EndId) -> Option<End> {
        let end = self.ends.remove(&id)?;
        if let Hop::Link(link) = end.next {
            self.routes.remove(&(link, end.circuit));
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
    pub(crate) fn settle(&mut self) {
        while let Some((end, frame)) = self.local.pop_front() {
            self.handle_end_frame(end, frame);
        }
    }

    pub(crate) fn insert_end(&mut self, end: End) -> EndId {
        let id = EndId(self.next_end);
        self.next_end += 1;
        if let Hop::Link(link) = end.next {
            self.routes.insert((link, end.circuit), Hop::End(id));
        }
        self.ends.insert(id, end);
        id
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ends.len() + self.routes.len() >= MAX_CIRCUITS
    }

    pub(crate) fn deliver_opened(&mut self, id: EndId, host: KeyShare) {
        if let Some(end) = self.ends.get_mut(&id) {
            end.state = EndState::Open;
            self.commands.push_back(Command::Opened(id, end.circuit, host));
        }
    }
}

/// Sebastiano Vigna's SplitMix64: spreads a seed over circuit ids. Not a secret.
#[derive(Debug)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
