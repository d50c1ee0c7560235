//! The kernel's side of a gateway: firewall, intercepts and mirror in its programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    time::Duration,
};

use nightgate_abi::{Family, listener::Transport, mirror::MirrorSession};
use nightgate_config::{Gateway, InterfaceName, SensorName};
use nightgate_datapath::{Datapath, DatapathError, FlowSide, IfIndex, Pins};
use nightgate_mirror::{Numbering, Plan, PlannedSession};
use nightgate_netlink::MirrorPair;
use nightgate_ruleset::{InterceptImage, MapImage, RuleSet, ZoneName};
use tracing::warn;

use crate::{
    admin::Session,
    ends::plain,
    intercept::InterceptTable,
    mirror::{announce, settle},
};

/// The kernel programs with everything this gateway puts into them. They stay when it is dropped.
#[derive(Debug)]
pub struct Firewall {
    pub(crate) datapath: Datapath,
    pub(crate) rules: RuleSet,
    pub(crate) mirror: Plan,
    mirror_numbers: Numbering,
    /// Sensors that get no copies.
    sensors_down: BTreeSet<SensorName>,
    /// Claims of mirror sessions that the next commit writes; `None` for those of sessions without a plan, whose
    /// numbers are their places.
    claims: Option<Vec<u16>>,
    /// Zone by interface, as configured.
    wanted: BTreeMap<InterfaceName, ZoneName>,
    /// Addresses by the number of their interface, as told last.
    pub(crate) addresses: Option<BTreeSet<(u32, IpAddr)>>,
}

/// IP protocol number of TCP (RFC 9293).
const TCP: u8 = 6;

impl Firewall {
    /// Loads the programs, attaches them to the interfaces of every zone and puts the rules in force. Interfaces
    /// that are not there are attached by [`Firewall::follow_interfaces`] when they have come.
    /// From the first attachment on, an interface carries nothing that no rule accepts. What an earlier
    /// process has left is taken over: there is no packet that neither its rules nor the new ones judge.
    ///
    /// # Errors
    /// The kernel refuses. What an earlier process had put in force stays in
    /// force then; if there was nothing, every interface is as before.
    pub fn start(gateway: &Gateway, rules: RuleSet, pins: Pins) -> Result<Self, DatapathError> {
        let is_new = !pins.exist();
        let started = Self::take_over(gateway, rules, pins.clone());
        if started.is_err() && is_new {
            pins.remove()?;
        }
        started
    }

    fn take_over(gateway: &Gateway, rules: RuleSet, pins: Pins) -> Result<Self, DatapathError> {
        let datapath = Datapath::open(pins, rules.tracking().flows)?;
        let wanted = wanted(gateway);
        let mut firewall = Self {
            datapath,
            rules,
            mirror: Plan::default(),
            mirror_numbers: Numbering::default(),
            sensors_down: BTreeSet::new(),
            claims: None,
            wanted,
            addresses: None,
        };
        // The veth pair is made anew, and its number may name another interface then. First, since the numbers of the
        // sessions are given anew as well.
        firewall.datapath.set_mirror_device(None)?;
        let image = firewall.image(&firewall.rules);
        // Empty tables get the rules before interfaces come to use them; those in use know the interfaces,
        // which have to be at hand when their rules change.
        if firewall.datapath.is_in_force() {
            firewall.follow_interfaces()?;
            firewall.datapath.commit(&image)?;
        } else {
            firewall.datapath.commit(&image)?;
            firewall.follow_interfaces()?;
        }
        firewall.datapath.drop_leftovers()?;
        for interface in firewall.awaited() {
            warn!(interface, "the interface is not there yet, it is protected when it comes");
        }
        Ok(firewall)
    }

    /// Attaches the configured interfaces that have come, and forgets those that have gone.
    ///
    /// # Errors
    /// The kernel refuses one; the others are attached.
    pub fn follow_interfaces(&mut self) -> Result<(), DatapathError> {
        let gone: Vec<IfIndex> =
            self.datapath.interfaces().map(|(index, ..)| index).filter(|i| !i.exists()).collect();
        let mut result = Ok(());
        for index in gone {
            let detached = self.datapath.detach(index);
            result = result.and(detached);
        }
        for (interface, zone) in &self.wanted {
            let Ok(index) = IfIndex::of(interface.as_str()) else { continue };
            if self.datapath.interfaces().all(|(attached, ..)| attached != index) {
                let attached = self.datapath.attach(interface.as_str(), zone).map(drop);
                result = result.and(attached);
            }
        }
        let placed = self.place_sensors();
        result.and(placed)
    }

    /// Names of the interfaces that are attached, in their order.
    pub fn interfaces(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.datapath.interfaces().map(|(_, name, _)| name.to_owned()).collect();
        names.sort();
        names
    }

    /// Names of the configured interfaces that are not there.
    pub fn awaited(&self) -> Vec<String> {
        let is_there = |name: &InterfaceName| IfIndex::of(name.as_str()).is_ok();
        self.wanted.keys().filter(|name| !is_there(name)).map(ToString::to_string).collect()
    }

    /// Puts other rules in force.
    ///
    /// # Errors
    /// The kernel refuses; the rules before stay in force.
    pub fn change(&mut self, rules: &RuleSet) -> Result<(), DatapathError> {
        self.datapath.commit(&self.image(rules))?;
        self.rules = rules.clone();
        Ok(())
    }

    /// Puts other rules in force for a time; the kernel goes back by itself, also if this process dies, unless
    /// [`Firewall::keep`] or another change comes before.
    ///
    /// # Errors
    /// The kernel refuses; the rules before stay in force.
    pub fn change_for(&mut self, rules: &RuleSet, time: Duration) -> Result<(), DatapathError> {
        self.datapath.commit_for(&self.image(rules), time)?;
        self.rules = rules.clone();
        Ok(())
    }

    /// Puts the zones and rules of another configuration in force, for a time if one is given, as
    /// [`Firewall::change_for`] does. Interfaces that come into a zone are attached before, and carry nothing until
    /// then; those that leave all zones are detached after it, with a time when the rules are kept.
    ///
    /// # Errors
    /// The kernel refuses; zones and rules stay as they are.
    pub fn adopt(
        &mut self,
        gateway: &Gateway,
        rules: &RuleSet,
        time: Option<Duration>,
    ) -> Result<(), DatapathError> {
        let known: Vec<IfIndex> = self.datapath.interfaces().map(|(index, ..)| index).collect();
        let before = std::mem::replace(&mut self.wanted, wanted(gateway));
        if let Err(error) = self.move_and_commit(rules, time) {
            self.wanted = before;
            self.assign_zones();
            let attached: Vec<IfIndex> =
                self.datapath.interfaces().map(|(index, ..)| index).collect();
            for index in attached.into_iter().filter(|index| !known.contains(index)) {
                self.datapath.detach(index)?;
            }
            return Err(error);
        }
        self.rules = rules.clone();
        if time.is_none() { self.datapath.detach_leaving() } else { Ok(()) }
    }

    fn move_and_commit(
        &mut self,
        rules: &RuleSet,
        time: Option<Duration>,
    ) -> Result<(), DatapathError> {
        self.follow_interfaces()?;
        self.assign_zones();
        let image = self.image(rules);
        match time {
            Some(time) => self.datapath.commit_for(&image, time),
            None => self.datapath.commit(&image),
        }
    }

    fn image(&self, rules: &RuleSet) -> MapImage {
        match &self.claims {
            Some(claims) => {
                rules.image_with(|index| claims.get(usize::from(index)).copied().unwrap_or(0))
            }
            None => rules.image(),
        }
    }

    fn assign_zones(&mut self) {
        let wanted = &self.wanted;
        self.datapath.assign_zones(|name| {
            InterfaceName::new(name).and_then(|name| wanted.get(&name).cloned())
        });
    }

    /// Keeps what was put in force for a time.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn keep(&mut self) -> Result<(), DatapathError> {
        self.datapath.keep()?;
        self.datapath.detach_leaving()
    }

    /// The interface that a TCP connection to this host comes in by; `None` if it does not pass the firewall.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn interface_of(&self, session: &Session) -> Result<Option<InterfaceName>, DatapathError> {
        let is_same = |side: &FlowSide, end: SocketAddr| side.address == plain(end);
        let flow = self.datapath.flows()?.into_iter().find(|flow| {
            flow.protocol == TCP
                && is_same(&flow.origin, session.client)
                && is_same(&flow.responder, session.server)
        });
        let Some(interface) = flow.and_then(|flow| flow.interface) else {
            return Ok(None);
        };
        let mut interfaces = self.datapath.interfaces();
        let found = interfaces.find(|(index, ..)| *index == interface);
        Ok(found.and_then(|(_, name, _)| InterfaceName::new(name)))
    }

    /// An attached interface by its name.
    pub(crate) fn interface(&self, name: &str) -> Option<IfIndex> {
        let mut interfaces = self.datapath.interfaces();
        interfaces.find(|(_, candidate, _)| *candidate == name).map(|(index, ..)| index)
    }

    /// Says that nobody accepts intercepted connections or takes copies any more. The rules stay in force.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release(&mut self) -> Result<(), DatapathError> {
        for transport in [Transport::Tcp, Transport::Udp] {
            self.datapath.clear_listener(transport, Family::V4)?;
            self.datapath.clear_listener(transport, Family::V6)?;
        }
        self.datapath.set_mirror_device(None)
    }

    /// Says which transparent socket takes intercepted packets of a transport and its family, and where it is bound.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_listener(
        &mut self,
        transport: Transport,
        address: SocketAddr,
        socket: BorrowedFd<'_>,
    ) -> Result<(), DatapathError> {
        self.datapath.set_listening_socket(transport, address, socket)
    }

    /// Intercepts exactly the destinations of `table`, and tells connections for the services that it says are hosted
    /// from others.
    ///
    /// # Errors
    /// The kernel refuses; the table stays as it was.
    pub fn intercept(&mut self, table: &InterceptTable) -> Result<(), DatapathError> {
        let claim = |service: &str, dialer: Option<&str>| self.mirror.claim_of(service, dialer);
        self.datapath.set_hosted(&table.hosted().image(claim))?;
        self.datapath.set_intercepts(&kernel_table(table, &self.mirror))
    }

    /// Sends copies through the mirror's veth pair.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach_mirror(&mut self, pair: &MirrorPair) -> Result<(), DatapathError> {
        self.datapath.attach_mirror(&pair.device.name, &pair.peer.name)?;
        self.datapath.set_mirror_device(IfIndex::new(pair.device.index.value()))
    }

    /// Sends no copies any more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach_mirror(&mut self) -> Result<(), DatapathError> {
        self.datapath.set_mirror_device(None)?;
        self.settle_mirror(Plan::default())
    }

    /// Gives the sessions of a plan their numbers and tells the kernel of those that are new, for rules that are about
    /// to be put in force: these refer to sessions by number.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn announce_mirror(&mut self, plan: Plan) -> Result<Plan, DatapathError> {
        let entry = |session: &PlannedSession| placed(session, session.value);
        let plan = announce(self.datapath.mirror(), &mut self.mirror_numbers, plan, entry)?;
        self.claims = Some((0..plan.sessions().len()).filter_map(|i| plan.claim(i)).collect());
        Ok(plan)
    }

    /// Goes on with the sessions that there are, after others were announced or could not be: the next commit refers to
    /// these, or to none.
    pub(crate) fn forget_announced(&mut self, keep: bool) {
        let claims = (0..self.mirror.sessions().len()).filter_map(|i| self.mirror.claim(i));
        self.claims = Some(if keep { claims.collect() } else { Vec::new() });
    }

    /// Makes an announced plan the one in force, after its rules. Services become part of a session with the next
    /// [`Firewall::intercept`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn settle_mirror(&mut self, plan: Plan) -> Result<(), DatapathError> {
        settle(self.datapath.mirror(), &mut self.mirror_numbers, &plan)?;
        self.mirror = plan;
        self.place_sensors()
    }

    /// Says which sensors get no copies: their flows go to the other sensors of their sessions, and no other flow moves.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn set_sensors_down(
        &mut self,
        down: BTreeSet<SensorName>,
    ) -> Result<(), DatapathError> {
        self.sensors_down = down;
        self.place_sensors()
    }

    /// Tells the kernel which sensors and interfaces each session has at the moment.
    fn place_sensors(&mut self) -> Result<(), DatapathError> {
        for session in self.mirror.sessions() {
            let value =
                self.mirror.entry_with(session, |sensor| !self.sensors_down.contains(sensor));
            self.datapath.mirror().set_session(session.id, placed(session, value))?;
        }
        Ok(())
    }
}

/// The entry of a session, with the numbers that its interfaces have now. One that is not there has none, and does not
/// stand for any.
fn placed(session: &PlannedSession, value: MirrorSession) -> MirrorSession {
    const ABSENT: u32 = u32::MAX;
    let mut placed = value;
    for (place, name) in placed.interfaces.iter_mut().zip(&session.interfaces) {
        *place = IfIndex::of(name.as_str()).map_or(ABSENT, IfIndex::get);
    }
    placed
}

fn wanted(gateway: &Gateway) -> BTreeMap<InterfaceName, ZoneName> {
    let zones = gateway.zones.iter();
    zones
        .flat_map(|(name, zone)| zone.interfaces.iter().map(|i| (i.clone(), name.clone())))
        .collect()
}

fn kernel_table(table: &InterceptTable, mirror: &Plan) -> InterceptImage {
    let sessions: BTreeMap<u32, u16> = table
        .services()
        .map(|service| (service.tag.number(), mirror.claim_of(&service.name, Some(table.dialer()))))
        .collect();
    table
        .image()
        .clone()
        .with_sessions(|service| sessions.get(&service).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests;
