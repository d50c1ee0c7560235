//! Mirroring to sensors.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    decode::{self, Malformed},
    names::{InterfaceName, SensorName, SessionName},
    node::Node,
    reader::Reader,
};

/// Copies of services' plaintext for intrusion detection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Sensors by name.
    pub sensors: BTreeMap<SensorName, Sensor>,
    /// What is copied to which sensor.
    pub sessions: Vec<Session>,
}

/// Where copies go, in VXLAN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sensor {
    /// Address of the sensor.
    pub address: IpAddr,
    /// Interface towards it.
    pub interface: InterfaceName,
}

/// Copies of some services to one sensor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// Unique name.
    pub id: SessionName,
    /// Names of the services; at least one.
    pub services: Vec<String>,
    /// A sensor of [`Mirror::sensors`].
    pub sensor: SensorName,
    /// VXLAN network identifier, 0 to 2^24 - 1 (RFC 7348 section 5).
    pub vni: u32,
}

/// Largest VXLAN network identifier.
const VNI_MAX: i64 = (1 << 24) - 1;

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Mirror> {
    let mut section = reader.section(node)?;
    let sensors = reader.required(&mut section, "sensors", sensors);
    // No session is blamed for wrong sensors.
    let names: Option<BTreeSet<SensorName>> =
        sensors.as_ref().map(|sensors| sensors.keys().cloned().collect());
    let mut seen = BTreeMap::new();
    let sessions = reader.required(&mut section, "sessions", |reader, node| {
        reader.list(node, |reader, node| session(reader, node, names.as_ref(), &mut seen))
    });
    reader.close(section);
    Some(Mirror { sensors: sensors?, sessions: sessions? })
}

fn sensors(reader: &mut Reader<'_>, node: Node) -> Option<BTreeMap<SensorName, Sensor>> {
    let mut sensors = BTreeMap::new();
    let mut is_complete = true;
    for (key, node) in reader.entries(node)? {
        let entry = reader.under(&key.text, |reader| {
            let name = match SensorName::check(&key.text) {
                Ok(name) => Some(name),
                Err(Malformed { expected, remedy }) => {
                    reader.report(key.line, format!("the key {:?}", key.text), expected, remedy);
                    None
                }
            };
            let sensor = sensor(reader, node);
            Some((name?, sensor?))
        });
        is_complete &= entry.is_some();
        sensors.extend(entry);
    }
    is_complete.then_some(sensors)
}

fn sensor(reader: &mut Reader<'_>, node: Node) -> Option<Sensor> {
    let mut section = reader.section(node)?;
    let address = reader.required(&mut section, "address", |reader, node| {
        decode::checked(reader, node, |text| {
            text.parse().map_err(|_not_an_address| {
                Malformed::new("an IP address", "write 192.0.2.1 or 2001:db8::1")
            })
        })
    });
    let interface = reader.required(&mut section, "interface", InterfaceName::decode);
    reader.close(section);
    Some(Sensor { address: address?, interface: interface? })
}

fn session(
    reader: &mut Reader<'_>,
    node: Node,
    sensors: Option<&BTreeSet<SensorName>>,
    seen: &mut BTreeMap<SessionName, u32>,
) -> Option<Session> {
    let mut section = reader.section(node)?;
    let id = reader.required(&mut section, "id", |reader, node| {
        let line = node.line;
        let id = SessionName::decode(reader, node)?;
        if let Some(first) = seen.insert(id.clone(), line) {
            let found = format!("{id} again, first on line {first}");
            reader.report(line, found, "a session name of its own", "rename one of the two");
        }
        Some(id)
    });
    let services = reader
        .required(&mut section, "services", |reader, node| reader.one_or_more(node, decode::text));
    let sensor = reader.required(&mut section, "sensor", |reader, node| {
        let line = node.line;
        let name = SensorName::decode(reader, node)?;
        if sensors.is_some_and(|sensors| !sensors.contains(&name)) {
            let found = format!("the unknown sensor {name}");
            reader.report(line, found, "a name under mirror.sensors", "add the sensor there");
        }
        Some(name)
    });
    let vni = reader.required(&mut section, "vni", |r, node| decode::integer(r, node, 0, VNI_MAX));
    reader.close(section);
    Some(Session { id: id?, services: services?, sensor: sensor?, vni: vni? })
}
