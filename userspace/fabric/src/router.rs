//! The state machine of one router.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use nightgate_model::{
    entity::{Permission, Terminator},
    id::{IdentityId, RouterId, ServiceId, TerminatorId},
    replica::Replica,
};
use nightgate_wire::link::{CircuitId, Frame, PathId};

use crate::{
    Command, EndId, FailureCause, LinkId, Role,
    announce::Announcement,
    choose::Sticky,
    end::{End, Hop},
    history::History,
    link::Link,
    load::Loads,
    neighbour::Peer,
    path::Topology,
    proof::Key,
    random::Random,
    timer::{Due, Timers},
    trace::Traces,
};

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
    /// Moves the circuits that begin here; made for the first of them.
    pub(crate) key: Option<Key>,
    pub(crate) replica: Arc<Replica>,
    /// Until when `replica` allows circuits, if that is limited.
    pub(crate) valid_until: Option<Instant>,
    /// None after a change, until it is asked for.
    pub(crate) topology: Option<Topology>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) peers: BTreeMap<RouterId, Peer>,
    pub(crate) hosted: BTreeMap<TerminatorId, Terminator>,
    pub(crate) announcement: Announcement,
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
    pub(crate) bytes: u64,
    pub(crate) loads: Loads,
    pub(crate) history: History,
    pub(crate) sticky: Sticky,
    pub(crate) link_cost: u32,
    pub(crate) traces: Traces,
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
            key: None,
            replica: Arc::default(),
            valid_until: None,
            topology: None,
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            hosted: BTreeMap::new(),
            announcement: Announcement::default(),
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
            history: History::default(),
            sticky: Sticky::default(),
            link_cost: 1,
            traces: Traces::default(),
            looked_at: EndId(0),
            moves_armed: None,
        }
    }

    /// Takes a newer model: circuits and terminators that it allows no longer end at once.
    pub fn handle_replica(&mut self, replica: Arc<Replica>, now: Instant) {
        if replica.links != self.replica.links || replica.routers != self.replica.routers {
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
        self.announcement.is_stale = true;
        self.unbind_revoked();
    }

    /// Removes it; circuits that it already serves go on.
    pub fn unhost(&mut self, id: &TerminatorId) {
        self.hosted.remove(id);
        self.announcement.is_stale = true;
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
    pub(crate) fn knows(&self, identity: &IdentityId) -> bool {
        self.replica.identities.contains_key(identity) && !self.barred.contains(identity)
    }

    /// Whether the model lets this identity use the service through this router.
    pub(crate) fn reaches(&self, identity: &IdentityId, service: &ServiceId) -> bool {
        self.replica.authorizations.reaches(identity, service, &self.id)
    }

    fn unbind_revoked(&mut self) {
        let before = self.hosted.len();
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
        self.announcement.is_stale |= self.hosted.len() < before;
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
