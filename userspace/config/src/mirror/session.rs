//! Sessions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Encapsulation, FilterEntry, Known, Sense, Sensor, filter};
use crate::{
    decode::{self, Malformed},
    instant,
    limit::FlowRate,
    names::{InterfaceName, SensorName, SessionName},
    node::{Node, Value},
    reader::{Reader, Section},
    rule,
};

/// Largest VLAN of a tag (IEEE 802.1Q: 0 and 4095 are reserved).
const VLAN_MAX: i64 = 4094;

/// Largest number of interfaces of a session.
const INTERFACES_MAX: usize = 4;

/// Copies of some services and flows to one sensor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// Unique name.
    pub id: SessionName,
    /// Names of the services; with none, those of all services if there are identities.
    pub services: Vec<String>,
    /// Names of identities: only what these dial of the services; none for whoever dials.
    pub identities: Vec<String>,
    /// Other flows.
    pub filter: Vec<FilterEntry>,
    /// Sensors of [`Mirror::sensors`](super::Mirror::sensors), 1 to 8, which share its flows.
    pub sensors: Vec<SensorName>,
    /// Identifier in the encapsulation, up to the sensor's [`Encapsulation::id_max`]; `None` for the session's number.
    pub vni: Option<u32>,
    /// The tag that copies get.
    pub vlan: Vlan,
    /// Which packets of a flow are copied.
    pub direction: MirrorDirection,
    /// Interfaces at which packets are copied, up to 4; none for any.
    pub interfaces: Vec<InterfaceName>,
    /// One flow of so many is copied, at least 1; `None` for each.
    pub sample: Option<u16>,
    /// Bytes of a frame that are copied, 64 to 65,535; `None` for all.
    pub snap: Option<u32>,
    /// Bytes of a flow after which it is copied no more, at least 1; `None` for all of it.
    pub cut_after: Option<u64>,
    /// How many frames are copied in a time; `None` for all.
    pub rate: Option<FlowRate>,
    /// When it ends: seconds since 1970, UTC; `None` for never.
    pub expires: Option<u64>,
}

/// Which packets of a flow are copied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MirrorDirection {
    /// All.
    #[default]
    Both,
    /// Those of its originator.
    Original,
    /// Those to its originator.
    Reply,
}

/// The 802.1Q tag that copies get.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Vlan {
    /// None.
    #[default]
    None,
    /// This one, 1 to 4094.
    Number(u16),
    /// One that says the service: its tag, from 1 on, as far as there are VLANs.
    Service,
}

/// Decodes a session. `seen` holds the names of those before, and their lines.
pub(super) fn decode(
    reader: &mut Reader<'_>,
    node: Node,
    &Known { sensors, filters }: &Known<'_>,
    seen: &mut BTreeMap<SessionName, u32>,
) -> Option<Session> {
    let mut section = reader.section(node)?;
    let line = section.line_of("vni");
    let id = reader.required(&mut section, "id", |reader, node| {
        let wanted = ("a session name of its own", "rename one of the two");
        decode::unique(reader, node, seen, wanted, SessionName::decode)
    });
    let services = rule::list(reader, &mut section, "services", decode::text);
    let identities = rule::list(reader, &mut section, "identities", decode::text);
    let interfaces = interfaces(reader, &mut section);
    let filter = rule::list(reader, &mut section, "filter", |reader, node| {
        filter_entry(reader, node, filters)
    });
    let names =
        reader.required(&mut section, "sensor", |reader, node| sensor_names(reader, node, sensors));
    let max = i64::from(Encapsulation::Vxlan.id_max());
    let vni =
        reader.optional(&mut section, "vni", |r, node| decode::integer::<u32>(r, node, 0, max));
    let vlan = reader.optional(&mut section, "vlan", vlan);
    let direction = reader.optional(&mut section, "direction", direction);
    let sample = reader
        .optional(&mut section, "sample", |r, node| decode::integer(r, node, 1, u16::MAX.into()));
    let snap = reader
        .optional(&mut section, "snap", |r, node| decode::integer(r, node, 64, u16::MAX.into()));
    let cut_after =
        reader.optional(&mut section, "cut_after", |r, node| decode::integer(r, node, 1, i64::MAX));
    let rate = reader.optional(&mut section, "rate", FlowRate::decode);
    let expires = reader.optional(&mut section, "expires", instant::decode);
    reader.close(section);
    let (vni, names) = (vni?, names?);
    for sensor in names.iter().filter_map(|name| sensors?.get(name)) {
        check_vni(reader, line, vni, sensor.encapsulation);
    }
    let (services, identities, filter) = (services?, identities?, filter?);
    let has_services = !services.is_empty() || !identities.is_empty();
    if !has_services && filter.iter().all(|entry| entry.sense == Sense::Skip) {
        let remedy = "add the key services, identities or filter";
        reader.report(
            line,
            "nothing to copy",
            "services, identities, a filter, or several",
            remedy,
        );
    }
    Some(Session {
        id: id?,
        services,
        identities,
        filter,
        sensors: names,
        vni,
        vlan: vlan?.unwrap_or_default(),
        direction: direction?.unwrap_or_default(),
        interfaces: interfaces?,
        sample: sample?,
        snap: snap?,
        cut_after: cut_after?,
        rate: rate?,
        expires: expires?,
    })
}

fn filter_entry(
    reader: &mut Reader<'_>,
    node: Node,
    known: &rule::Known<'_>,
) -> Option<FilterEntry> {
    let mut section = reader.section(node)?;
    let entry = filter::decode(reader, &mut section, known);
    let skip = reader.optional(&mut section, "skip", decode::boolean);
    reader.close(section);
    let sense = if skip?.unwrap_or_default() { Sense::Skip } else { Sense::Copy };
    Some(FilterEntry { sense, ..entry? })
}

/// Largest number of sensors that share a session.
const SENSORS_MAX: usize = 8;

fn sensor_names(
    reader: &mut Reader<'_>,
    node: Node,
    sensors: Option<&BTreeMap<SensorName, Sensor>>,
) -> Option<Vec<SensorName>> {
    let line = node.line;
    let names = reader.one_or_more(node, |reader, node| {
        let line = node.line;
        let name = SensorName::decode(reader, node)?;
        if sensors.is_some_and(|sensors| !sensors.contains_key(&name)) {
            let found = format!("the unknown sensor {name}");
            reader.report(line, found, "a name under mirror.sensors", "add the sensor there");
        }
        Some(name)
    })?;
    let distinct: BTreeSet<_> = names.iter().collect();
    if names.is_empty() || names.len() > SENSORS_MAX || distinct.len() < names.len() {
        let found = format!("{} sensors, {} of them different", names.len(), distinct.len());
        let expected = format!("1 to {SENSORS_MAX} sensors, each once");
        reader.report(line, found, expected, "correct the list");
        return None;
    }
    Some(names)
}

fn interfaces(reader: &mut Reader<'_>, section: &mut Section) -> Option<Vec<InterfaceName>> {
    let line = section.line_of("interfaces");
    let names = rule::list(reader, section, "interfaces", InterfaceName::decode)?;
    let distinct: BTreeSet<_> = names.iter().collect();
    if names.len() > INTERFACES_MAX || distinct.len() < names.len() {
        let found = format!("{} interfaces, {} of them different", names.len(), distinct.len());
        let expected = format!("up to {INTERFACES_MAX} interfaces, each once");
        reader.under("interfaces", |reader| {
            reader.report(line, found, expected, "correct the list, or use a filter by zones");
        });
        return None;
    }
    Some(names)
}

fn direction(reader: &mut Reader<'_>, node: Node) -> Option<MirrorDirection> {
    decode::checked(reader, node, |text| match text {
        "both" => Ok(MirrorDirection::Both),
        "original" => Ok(MirrorDirection::Original),
        "reply" => Ok(MirrorDirection::Reply),
        _ => Err(Malformed::new(
            "both, original or reply",
            "write original for what comes from who began the flow",
        )),
    })
}

/// Reports an identifier that the encapsulation cannot carry.
fn check_vni(reader: &mut Reader<'_>, line: u32, vni: Option<u32>, encapsulation: Encapsulation) {
    let Some(vni) = vni else { return };
    let is_local = encapsulation == Encapsulation::Local;
    if !is_local && vni <= encapsulation.id_max() {
        return;
    }
    let (expected, remedy) = if is_local {
        ("none with encapsulation local".into(), "remove the key, use vlan to tell sessions apart")
    } else {
        (format!("at most {}", encapsulation.id_max()), "choose a smaller number")
    };
    reader.under("vni", |reader| {
        let found = format!("{vni} with encapsulation {encapsulation}");
        reader.report(line, found, expected, remedy);
    });
}

fn vlan(reader: &mut Reader<'_>, node: Node) -> Option<Vlan> {
    if let Value::Integer(_) = node.value {
        return decode::integer(reader, node, 1, VLAN_MAX).map(Vlan::Number);
    }
    decode::checked(reader, node, |text| match text {
        "service" => Ok(Vlan::Service),
        _ => Err(Malformed::new("a VLAN from 1 to 4094, or service", "correct the VLAN")),
    })
}
