use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use nightgate_abi::{
    Address, Rate,
    mirror::{
        self, Encapsulation as Wrapping, MirrorSensor, MirrorSession, MirrorSessionId,
        VLAN_BY_SERVICE, directions,
    },
};
use nightgate_config::{
    Encapsulation, InterfaceName, Mirror, MirrorDirection, NeverMirrored, Sensor, SensorName,
    Session, SessionName, Vlan,
};
use nightgate_packet::encapsulation;

use crate::error::PlanError;

/// What the host says about the way to a sensor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SensorPath {
    /// Index of the sensor's interface.
    pub ifindex: u32,
    /// Largest IP packet that interface carries, bytes.
    pub mtu: u32,
    /// Address that packets to the sensor are sent from; `None` with [`Encapsulation::Local`].
    pub source: Option<IpAddr>,
    /// Whether the kernel cuts what leaves it into frames.
    pub cuts: bool,
}

/// The kernel's session table and which service uses which entry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    sessions: Vec<PlannedSession>,
    sensors: Vec<PlannedSensor>,
    /// Indices in `sessions` by service, in their order.
    services: BTreeMap<String, Vec<usize>>,
    /// Those of sessions of all services.
    of_all_services: Vec<usize>,
    never: NeverMirrored,
}

/// One entry of the kernel's session table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedSession {
    /// The session's number: its place in the configuration, from 1, until a [`Numbering`](crate::Numbering) assigns one.
    pub id: MirrorSessionId,
    /// The session's name.
    pub name: SessionName,
    /// Its sensors.
    pub sensors: Vec<SensorName>,
    /// Who has to dial; anybody if there is none.
    pub identities: Vec<String>,
    /// Interfaces at which packets are copied; any if there is none.
    pub interfaces: Vec<InterfaceName>,
    /// The entry, with all of its sensors.
    pub value: MirrorSession,
}

/// One entry of the kernel's table of sensors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedSensor {
    /// The sensor's number: its place among those in use, from 1, until a [`Numbering`](crate::Numbering) assigns one.
    pub number: u8,
    /// The sensor's name.
    pub name: SensorName,
    /// The entry.
    pub value: MirrorSensor,
}

impl Plan {
    /// Plans the sessions.
    ///
    /// `paths` holds what the host says of each sensor that a session uses. `frame_mtu` is the largest MTU of the
    /// interfaces whose packets are copied, in bytes.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the configuration.
    pub fn new(
        mirror: &Mirror,
        paths: &BTreeMap<SensorName, SensorPath>,
        frame_mtu: u32,
    ) -> Result<Self, Vec<PlanError>> {
        let sessions = &mirror.sessions;
        let mut errors = Vec::new();
        let mut plan = Self { never: mirror.never.clone(), ..Self::default() };
        if sessions.len() > usize::from(mirror::SESSIONS) {
            errors.push(PlanError::TooManySessions { found: sessions.len() });
        }
        plan.resolve_sensors(mirror, paths, &mut errors);
        // Further sessions have no number; the count has been reported.
        for (session, id) in sessions.iter().zip((1..).map_while(MirrorSessionId::new)) {
            plan.sessions.push(PlannedSession {
                id,
                name: session.id.clone(),
                sensors: session.sensors.clone(),
                identities: session.identities.clone(),
                interfaces: session.interfaces.clone(),
                value: entry(session, id),
            });
            errors.extend(plan.assign(session, id, sessions));
        }
        errors.extend(same_vni(mirror));
        errors.extend(check_paths(mirror, paths, frame_mtu));
        // Sessions that share a sensor share what is wrong with it.
        let mut seen = BTreeSet::new();
        errors.retain(|error| seen.insert(error.to_string()));
        plan.place_sensors();
        if errors.is_empty() { Ok(plan) } else { Err(errors) }
    }

    /// The entries, in the order of the configuration.
    #[must_use]
    pub fn sessions(&self) -> &[PlannedSession] {
        &self.sessions
    }

    /// The sensors that sessions use.
    #[must_use]
    pub fn sensors(&self) -> &[PlannedSensor] {
        &self.sensors
    }

    /// The entry of a session without those of its sensors that are out of order.
    #[must_use]
    pub fn entry_with(
        &self,
        session: &PlannedSession,
        is_up: impl Fn(&SensorName) -> bool,
    ) -> MirrorSession {
        let numbers = session.sensors.iter().filter(|name| is_up(name)).filter_map(|name| {
            let sensor = self.sensors.iter().find(|sensor| sensor.name == *name)?;
            Some(sensor.number)
        });
        let mut value = MirrorSession { sensors: Default::default(), ..session.value };
        for (place, number) in value.sensors.iter_mut().zip(numbers) {
            *place = number;
        }
        value
    }

    /// Identities by whose names anything is decided.
    pub fn identities(&self) -> impl Iterator<Item = &str> {
        let of_sessions = self.sessions.iter().flat_map(|session| &session.identities);
        of_sessions.chain(&self.never.identities).map(String::as_str)
    }

    /// What the kernel is told of the flows of a service that an identity dials: the [`mirror::claim`] of the session that
    /// copies them, 0 for none, or [`mirror::NEVER`]. `None` stands for all identities that are not among
    /// [`Self::identities`].
    #[must_use]
    pub fn claim_of(&self, service: &str, dialer: Option<&str>) -> u16 {
        let names = |list: &[String], name: &str| list.iter().any(|known| known == name);
        let never = &self.never;
        if names(&never.services, service) || dialer.is_some_and(|it| names(&never.identities, it))
        {
            return mirror::NEVER;
        }
        let takes = |index: &&usize| {
            let session = self.sessions.get(**index);
            session.is_some_and(|session| {
                let named = &session.identities;
                named.is_empty() || dialer.is_some_and(|dialer| names(named, dialer))
            })
        };
        let own = self.services.get(service).into_iter().flatten().find(takes);
        let first = own.into_iter().chain(self.of_all_services.iter().find(takes)).min();
        first.and_then(|index| self.claim(*index)).unwrap_or_default()
    }

    /// What the kernel is told of what a session's filter matches, by the session's index.
    #[must_use]
    pub fn claim(&self, index: usize) -> Option<u16> {
        let place = u16::try_from(index + 1).ok()?;
        Some(mirror::claim(place, self.sessions.get(index)?.id))
    }

    /// Gives sessions and sensors other numbers, in their order.
    pub(crate) fn renumber(
        &mut self,
        sessions: impl Iterator<Item = MirrorSessionId>,
        sensors: impl Iterator<Item = u8>,
    ) {
        for (session, id) in self.sessions.iter_mut().zip(sessions) {
            session.id = id;
        }
        for (sensor, number) in self.sensors.iter_mut().zip(sensors) {
            sensor.number = number;
        }
        self.place_sensors();
    }

    /// Writes the numbers of the sensors into the sessions.
    fn place_sensors(&mut self) {
        let values: Vec<_> =
            self.sessions.iter().map(|session| self.entry_with(session, |_| true)).collect();
        for (session, value) in self.sessions.iter_mut().zip(values) {
            session.value = value;
        }
    }

    /// Finds the entries of the sensors that sessions use.
    fn resolve_sensors(
        &mut self,
        mirror: &Mirror,
        paths: &BTreeMap<SensorName, SensorPath>,
        errors: &mut Vec<PlanError>,
    ) {
        let mut names: Vec<&SensorName> = Vec::new();
        for session in &mirror.sessions {
            for name in &session.sensors {
                if !mirror.sensors.contains_key(name) {
                    let (session, sensor) = (session.id.clone(), name.clone());
                    errors.push(PlanError::UnknownSensor { session, sensor });
                } else if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        if names.len() > usize::from(mirror::SENSORS) {
            errors.push(PlanError::TooManySensors { found: names.len() });
        }
        for (name, number) in names.into_iter().take(mirror::SENSORS.into()).zip(1..) {
            match resolve(name, &mirror.sensors[name], paths) {
                Ok(value) => {
                    self.sensors.push(PlannedSensor { number, name: name.clone(), value });
                }
                Err(error) => errors.push(error),
            }
        }
    }

    fn assign(
        &mut self,
        session: &Session,
        id: MirrorSessionId,
        sessions: &[Session],
    ) -> Vec<PlanError> {
        let mut errors = Vec::new();
        let index = usize::from(id.number()) - 1;
        for service in &session.services {
            let known = self.services.entry(service.clone()).or_default();
            // One that takes whoever dials leaves nothing for those after it.
            if let Some(first) = known.iter().find(|first| sessions[**first].identities.is_empty())
            {
                errors.push(PlanError::ServiceTwice {
                    service: service.clone(),
                    first: sessions[*first].id.clone(),
                    second: session.id.clone(),
                });
            }
            known.push(index);
        }
        if session.services.is_empty() && !session.identities.is_empty() {
            self.of_all_services.push(index);
        }
        errors
    }
}

/// The table entry of a sensor.
fn resolve(
    name: &SensorName,
    sensor: &Sensor,
    paths: &BTreeMap<SensorName, SensorPath>,
) -> Result<MirrorSensor, PlanError> {
    let path = paths.get(name).ok_or_else(|| PlanError::NoPath {
        sensor: name.clone(),
        interface: sensor.interface.clone(),
    })?;
    let address = |address: Option<IpAddr>| address.map_or(Address::UNSPECIFIED, Address::from);
    Ok(MirrorSensor {
        address: address(sensor.address),
        source: address(path.source),
        ifindex: path.ifindex,
        udp_port: sensor.udp_port.unwrap_or_default(),
        encapsulation: wrapping(sensor.encapsulation).number(),
        cuts: path.cuts.into(),
    })
}

/// The table entry of a session, without its sensors.
fn entry(session: &Session, id: MirrorSessionId) -> MirrorSession {
    const SECOND: u64 = 1_000_000_000;
    /// Frames of the largest segment that is cut into frames: 64 KiB in the smallest ones that are usual.
    const SEGMENT: u32 = 128;
    let rate = session.rate.map(|rate| {
        let burst = (rate.count / rate.seconds).max(SEGMENT);
        Rate::new(rate.count, u64::from(rate.seconds) * SECOND, burst)
    });
    MirrorSession {
        sensors: Default::default(),
        until: session.expires.map_or(0, |at| at.saturating_mul(SECOND)),
        cut_after: session.cut_after.unwrap_or_default(),
        rate: rate.unwrap_or_default(),
        vni: vni(session, id),
        snap: session.snap.unwrap_or_default(),
        one_in: session.sample.unwrap_or_default(),
        vlan: match session.vlan {
            Vlan::None => 0,
            Vlan::Number(vlan) => vlan,
            Vlan::Service => VLAN_BY_SERVICE,
        },
        directions: match session.direction {
            MirrorDirection::Both => directions::BOTH,
            MirrorDirection::Original => directions::ORIGINAL,
            MirrorDirection::Reply => directions::REPLY,
        },
        // What their numbers are, the host says when it is told of the session.
        interfaces: Default::default(),
        pad: [0; 3],
    }
}

fn wrapping(encapsulation: Encapsulation) -> Wrapping {
    match encapsulation {
        Encapsulation::Vxlan => Wrapping::Vxlan,
        Encapsulation::Geneve => Wrapping::Geneve,
        Encapsulation::Erspan => Wrapping::Erspan,
        Encapsulation::Gre => Wrapping::Gre,
        Encapsulation::Local => Wrapping::Local,
    }
}

/// The session's identifier in the encapsulation.
fn vni(session: &Session, id: MirrorSessionId) -> u32 {
    session.vni.unwrap_or_else(|| id.number().into())
}

fn check_paths(
    mirror: &Mirror,
    paths: &BTreeMap<SensorName, SensorPath>,
    frame_mtu: u32,
) -> Vec<PlanError> {
    let mut tagged: BTreeMap<&SensorName, bool> = BTreeMap::new();
    for session in &mirror.sessions {
        for sensor in &session.sensors {
            *tagged.entry(sensor).or_default() |= session.vlan != Vlan::None;
        }
    }
    tagged
        .into_iter()
        .filter_map(|(name, is_tagged)| {
            let tag = if is_tagged { TAG } else { 0 };
            let (sensor, path) = (mirror.sensors.get(name)?, *paths.get(name)?);
            check_path(name, sensor, path, (frame_mtu, tag))
        })
        .collect()
}

/// 802.1Q tag, bytes.
const TAG: u32 = 4;

fn check_path(
    name: &SensorName,
    sensor: &Sensor,
    path: SensorPath,
    (frame_mtu, tag): (u32, u32),
) -> Option<PlanError> {
    let mut expected = frame_mtu;
    if let (Some(address), Some(source)) = (sensor.address, path.source) {
        let family = Address::from(address).family();
        if Address::from(source).family() != family {
            return Some(PlanError::Family {
                sensor: name.clone(),
                interface: sensor.interface.clone(),
                address,
                source_address: source,
            });
        }
        expected += encapsulation::overhead(family, wrapping(sensor.encapsulation)) + tag;
    }
    (path.mtu < expected).then(|| PlanError::Mtu {
        sensor: name.clone(),
        interface: sensor.interface.clone(),
        found: path.mtu,
        expected,
        frame_mtu,
    })
}

fn same_vni(mirror: &Mirror) -> Vec<PlanError> {
    let mut first = BTreeMap::new();
    let mut errors = Vec::new();
    let is_numbered = |name: &&SensorName| {
        let sensor = mirror.sensors.get(*name);
        sensor.is_none_or(|sensor| sensor.encapsulation != Encapsulation::Local)
    };
    let sessions = mirror.sessions.iter().zip((1..).map_while(MirrorSessionId::new));
    for (session, id) in sessions {
        let vni = vni(session, id);
        for sensor in session.sensors.iter().filter(is_numbered) {
            let known: &Session = first.entry((sensor, vni)).or_insert(session);
            if known.id != session.id {
                errors.push(PlanError::SameVni {
                    first: known.id.clone(),
                    second: session.id.clone(),
                    sensor: sensor.clone(),
                    vni,
                });
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests;
