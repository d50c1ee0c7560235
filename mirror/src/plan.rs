use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use nightgate_abi::{
    Address, Family,
    mirror::{self, MirrorSession, MirrorSessionId, VXLAN_PORT},
};
use nightgate_packet::vxlan;

use crate::error::PlanError;

/// A sensor as configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sensor {
    /// Where it listens.
    pub address: IpAddr,
    /// Name of the interface towards it. Copies leave by no other.
    pub interface: String,
}

/// A mirror session as configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// Its name, distinct.
    pub id: String,
    /// Names of the services whose packets are copied.
    pub services: Vec<String>,
    /// Name of the sensor.
    pub sensor: String,
    /// VXLAN network identifier by which the sensor knows the session.
    pub vni: u32,
}

/// What the host says about the way to a sensor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SensorPath {
    /// Index of the sensor's interface.
    pub ifindex: u32,
    /// Largest IP packet that interface carries, bytes.
    pub mtu: u32,
    /// Address that packets to the sensor are sent from.
    pub source: IpAddr,
}

/// The kernel's session table and which service uses which entry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    sessions: Vec<PlannedSession>,
    services: BTreeMap<String, MirrorSessionId>,
}

/// One entry of the kernel's session table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedSession {
    /// The session's number: its place in the configuration, from 1.
    pub id: MirrorSessionId,
    /// The session's name.
    pub name: String,
    /// The entry.
    pub value: MirrorSession,
}

impl Plan {
    /// Plans the sessions.
    ///
    /// `paths` holds what the host says, by sensor name; sensors no session uses need none. `frame_mtu` is the
    /// largest MTU of the interfaces whose packets are copied, in bytes.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the configuration.
    pub fn new(
        sensors: &BTreeMap<String, Sensor>,
        sessions: &[Session],
        paths: &BTreeMap<String, SensorPath>,
        frame_mtu: u32,
    ) -> Result<Self, Vec<PlanError>> {
        let host = Host { sensors, paths, frame_mtu };
        let mut errors = Vec::new();
        let mut plan = Self::default();
        if sessions.len() > usize::from(mirror::SESSIONS) {
            errors.push(PlanError::TooManySessions { found: sessions.len() });
        }
        // Further sessions have no number; the count has been reported.
        for (session, id) in sessions.iter().zip((1..).map_while(MirrorSessionId::new)) {
            if let Some(value) = host.resolve(session, &mut errors) {
                plan.sessions.push(PlannedSession { id, name: session.id.clone(), value });
            }
            errors.extend(plan.assign(session, id, sessions));
        }
        errors.extend(same_vni(sessions));
        errors.extend(host.check_sensors(sessions));
        if errors.is_empty() { Ok(plan) } else { Err(errors) }
    }

    /// The entries, by number.
    #[must_use]
    pub fn sessions(&self) -> &[PlannedSession] {
        &self.sessions
    }

    /// The session that copies a service's packets, if one does.
    #[must_use]
    pub fn session_of(&self, service: &str) -> Option<MirrorSessionId> {
        self.services.get(service).copied()
    }

    fn assign(
        &mut self,
        session: &Session,
        id: MirrorSessionId,
        sessions: &[Session],
    ) -> Vec<PlanError> {
        let mut errors = Vec::new();
        for service in &session.services {
            let first = *self.services.entry(service.clone()).or_insert(id);
            if first != id {
                let first = &sessions[usize::from(first.number()) - 1];
                errors.push(PlanError::ServiceTwice {
                    service: service.clone(),
                    first: first.id.clone(),
                    second: session.id.clone(),
                });
            }
        }
        errors
    }
}

struct Host<'a> {
    sensors: &'a BTreeMap<String, Sensor>,
    paths: &'a BTreeMap<String, SensorPath>,
    frame_mtu: u32,
}

impl Host<'_> {
    /// The entry of a session. What is wrong with the sensor itself is said once, by `check_sensors`.
    fn resolve(&self, session: &Session, errors: &mut Vec<PlanError>) -> Option<MirrorSession> {
        if session.vni > mirror::VNI_MAX {
            errors.push(PlanError::Vni { session: session.id.clone(), found: session.vni });
        }
        let Some(sensor) = self.sensors.get(&session.sensor) else {
            errors.push(PlanError::UnknownSensor {
                session: session.id.clone(),
                sensor: session.sensor.clone(),
            });
            return None;
        };
        let path = self.paths.get(&session.sensor)?;
        Some(MirrorSession {
            sensor: Address::from(sensor.address),
            source: Address::from(path.source),
            ifindex: path.ifindex,
            vni: session.vni,
            udp_port: VXLAN_PORT,
            pad: [0; 6],
        })
    }

    fn check_sensors(&self, sessions: &[Session]) -> Vec<PlanError> {
        let used: BTreeSet<&str> = sessions.iter().map(|session| session.sensor.as_str()).collect();
        used.into_iter()
            .filter_map(|name| self.sensors.get_key_value(name))
            .filter_map(|(name, sensor)| self.check_sensor(name, sensor))
            .collect()
    }

    fn check_sensor(&self, name: &str, sensor: &Sensor) -> Option<PlanError> {
        let (name, interface) = (name.to_owned(), sensor.interface.clone());
        let Some(path) = self.paths.get(&name) else {
            return Some(PlanError::NoPath { sensor: name, address: sensor.address });
        };
        let family = Address::from(sensor.address).family();
        if Address::from(path.source).family() != family {
            return Some(PlanError::Family {
                sensor: name,
                interface,
                address: sensor.address,
                source_address: path.source,
            });
        }
        let expected = self.frame_mtu + overhead(family);
        (path.mtu < expected).then_some(PlanError::Mtu {
            sensor: name,
            interface,
            found: path.mtu,
            expected,
            frame_mtu: self.frame_mtu,
        })
    }
}

/// By how much the path to the sensor has to exceed the mirrored interface, bytes.
fn overhead(family: Family) -> u32 {
    match family {
        Family::V4 => vxlan::OVERHEAD_V4,
        Family::V6 => vxlan::OVERHEAD_V6,
    }
}

fn same_vni(sessions: &[Session]) -> Vec<PlanError> {
    let mut first = BTreeMap::new();
    let mut errors = Vec::new();
    for session in sessions {
        let known = *first.entry((&session.sensor, session.vni)).or_insert(session);
        if known.id != session.id {
            errors.push(PlanError::SameVni {
                first: known.id.clone(),
                second: session.id.clone(),
                sensor: session.sensor.clone(),
                vni: session.vni,
            });
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensor(address: &str, interface: &str) -> Sensor {
        Sensor { address: address.parse().unwrap(), interface: interface.to_owned() }
    }

    fn session(id: &str, services: &[&str], sensor: &str, vni: u32) -> Session {
        Session {
            id: id.to_owned(),
            services: services.iter().map(|&service| service.to_owned()).collect(),
            sensor: sensor.to_owned(),
            vni,
        }
    }

    fn path(ifindex: u32, mtu: u32, source: &str) -> SensorPath {
        SensorPath { ifindex, mtu, source: source.parse().unwrap() }
    }

    fn sensors() -> BTreeMap<String, Sensor> {
        [("ids", sensor("10.9.0.2", "mon0")), ("ids6", sensor("fd09::2", "mon1"))]
            .map(|(name, sensor)| (name.to_owned(), sensor))
            .into()
    }

    fn paths() -> BTreeMap<String, SensorPath> {
        [("ids", path(7, 1_550, "10.9.0.1")), ("ids6", path(8, 1_570, "fd09::1"))]
            .map(|(name, path)| (name.to_owned(), path))
            .into()
    }

    #[test]
    fn sessions_are_numbered_in_order_and_services_point_to_them() {
        let sessions =
            [session("web", &["web", "api"], "ids", 42), session("db", &["db"], "ids6", 43)];
        let plan = Plan::new(&sensors(), &sessions, &paths(), 1_500).unwrap();
        let [web, db] = plan.sessions() else { panic!("{plan:?}") };
        assert_eq!((web.id.number(), web.name.as_str()), (1, "web"));
        assert_eq!(
            db.value,
            MirrorSession {
                sensor: Address::from("fd09::2".parse::<IpAddr>().unwrap()),
                source: Address::from("fd09::1".parse::<IpAddr>().unwrap()),
                ifindex: 8,
                vni: 43,
                udp_port: 4_789,
                pad: [0; 6],
            }
        );
        assert_eq!(plan.session_of("api"), Some(web.id));
        assert_eq!(plan.session_of("db"), Some(db.id));
        assert_eq!(plan.session_of("mail"), None);
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let sessions = [
            session("web", &["web"], "ids", 42),
            session("again", &["web"], "ids", 42),
            session("wide", &["api"], "ids", 0x0100_0000),
            session("lost", &["db"], "idz", 1),
        ];
        let errors = Plan::new(&sensors(), &sessions, &paths(), 1_500).unwrap_err();
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "service web: in mirror sessions web and again, expected one",
                "mirror session wide: vni 16777216, expected 0 to 16777215",
                "mirror session lost: sensor idz is not configured; add it to mirror.sensors",
                "mirror sessions web and again: both use vni 42 on sensor ids, expected different \
                 ones",
            ]
        );
    }

    #[test]
    fn a_path_too_narrow_for_full_frames_is_refused_by_family() {
        for (name, mtu, expected) in [("ids", 1_549, 1_550), ("ids6", 1_569, 1_570)] {
            let mut paths = paths();
            paths.get_mut(name).unwrap().mtu = mtu;
            let sessions = [session("web", &["web"], name, 42)];
            let errors = Plan::new(&sensors(), &sessions, &paths, 1_500).unwrap_err();
            assert!(
                matches!(errors[..], [PlanError::Mtu { expected: found, .. }] if found == expected),
                "{errors:?}"
            );
        }
    }

    #[test]
    fn a_sensor_without_a_path_is_named_once_and_only_if_it_is_used() {
        let sessions = [session("web", &["web"], "ids", 42), session("api", &["api"], "ids", 43)];
        let mut paths = paths();
        paths.remove("ids6");
        assert!(Plan::new(&sensors(), &sessions, &paths, 1_500).is_ok());
        paths.remove("ids");
        let errors = Plan::new(&sensors(), &sessions, &paths, 1_500).unwrap_err();
        assert!(matches!(&errors[..], [PlanError::NoPath { .. }]), "{errors:?}");
    }

    #[test]
    fn a_source_of_the_other_family_is_refused() {
        let paths = BTreeMap::from([("ids".to_owned(), path(7, 9_000, "fd09::1"))]);
        let sessions = [session("web", &["web"], "ids", 42)];
        let errors = Plan::new(&sensors(), &sessions, &paths, 1_500).unwrap_err();
        assert!(matches!(&errors[..], [PlanError::Family { .. }]), "{errors:?}");
    }

    #[test]
    fn more_sessions_than_the_table_holds_are_refused() {
        let sessions: Vec<_> = (0..65).map(|n| session(&n.to_string(), &[], "ids", n)).collect();
        assert!(Plan::new(&sensors(), &sessions[..64], &paths(), 1_500).is_ok());
        let errors = Plan::new(&sensors(), &sessions, &paths(), 1_500).unwrap_err();
        assert_eq!(errors, [PlanError::TooManySessions { found: 65 }]);
    }
}
