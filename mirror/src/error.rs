use std::net::IpAddr;

use nightgate_abi::mirror;
use nightgate_config::{InterfaceName, SensorName, SessionName};

/// What is wrong with the mirror's configuration, with the session or sensor it is about.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// More sessions than the kernel table has room for.
    #[error("mirror: {found} sessions, expected at most {}", mirror::SESSIONS)]
    TooManySessions {
        /// Sessions configured.
        found: usize,
    },
    /// More sensors in use than the kernel table has room for.
    #[error("mirror: {found} sensors, expected at most {}", mirror::SENSORS)]
    TooManySensors {
        /// Sensors that sessions use.
        found: usize,
    },
    /// A session names a sensor that is not configured.
    #[error(
        "mirror session {session}: sensor {sensor} is not configured; add it to mirror.sensors"
    )]
    UnknownSensor {
        /// The session.
        session: SessionName,
        /// The name.
        sensor: SensorName,
    },
    /// Two sessions reach one sensor under one network identifier, so that it could not tell them apart.
    #[error(
        "mirror sessions {first} and {second}: both use vni {vni} on sensor {sensor}, expected different ones"
    )]
    SameVni {
        /// The session that comes first.
        first: SessionName,
        /// The other one.
        second: SessionName,
        /// The sensor.
        sensor: SensorName,
        /// The network identifier.
        vni: u32,
    },
    /// A service in two sessions: a packet is copied once.
    #[error("service {service}: in mirror sessions {first} and {second}, expected one")]
    ServiceTwice {
        /// The service.
        service: String,
        /// The session that comes first.
        first: SessionName,
        /// The other one.
        second: SessionName,
    },
    /// The host has not said how a sensor is reached.
    #[error(
        "mirror sensor {sensor}: no way by interface {interface} is known, expected a route by it"
    )]
    NoPath {
        /// The sensor.
        sensor: SensorName,
        /// The interface towards it.
        interface: InterfaceName,
    },
    /// The source address is of another family than the sensor's.
    #[error(
        "mirror sensor {sensor}: source {source_address} for {address}, expected the same family; give interface {interface} an address of it"
    )]
    Family {
        /// The sensor.
        sensor: SensorName,
        /// The interface towards it.
        interface: InterfaceName,
        /// Its address.
        address: IpAddr,
        /// The address the host would send from.
        source_address: IpAddr,
    },
    /// Full-size frames would not reach the sensor.
    #[error(
        "mirror sensor {sensor}: interface {interface} has an MTU of {found}, expected at least {expected} for copies of {frame_mtu}-byte packets; raise it, also on the sensor"
    )]
    Mtu {
        /// The sensor.
        sensor: SensorName,
        /// The interface towards it.
        interface: InterfaceName,
        /// Its MTU, bytes.
        found: u32,
        /// The smallest that is enough, bytes.
        expected: u32,
        /// Largest IP packet that is copied, bytes.
        frame_mtu: u32,
    },
}
