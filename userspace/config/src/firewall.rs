//! Zones.

use std::collections::BTreeMap;

use crate::{
    decode::Malformed,
    ether::EtherType,
    guard::{self, Guard},
    mss::ClampMss,
    names::{InterfaceName, SetName, ZoneName},
    node::{Key, Node},
    reader::Reader,
    sets::Set,
};

/// Protocols beside IP and ARP that a zone lets pass at most.
const MOST_TYPES: usize = 8;

/// A set of interfaces that rules name together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone {
    /// Its interfaces; at least one, and none in two zones.
    pub interfaces: Vec<InterfaceName>,
    /// What it guards itself against, before any rule.
    pub guard: Guard,
    /// Protocols beside IP and ARP that may pass, in both directions.
    pub pass_through: Vec<EtherType>,
    /// Bound of the segments of forwarded TCP connections that come or go by the zone; none if there is none.
    pub clamp_mss: Option<ClampMss>,
}

/// Decodes the zones. `sets` are the configured sets, or `None` if those are wrong.
pub(crate) fn decode(
    reader: &mut Reader<'_>,
    node: Node,
    sets: Option<&BTreeMap<SetName, Set>>,
) -> Option<BTreeMap<ZoneName, Zone>> {
    let mut zones = BTreeMap::new();
    let mut owners = BTreeMap::new();
    let mut is_complete = true;
    for (key, node) in reader.entries(node)? {
        let entry = reader.under(&key.text, |reader| {
            let name = name(reader, &key);
            let zone = zone(reader, node, (&key.text, sets), &mut owners);
            Some((name?, zone?))
        });
        is_complete &= entry.is_some();
        zones.extend(entry);
    }
    is_complete.then_some(zones)
}

fn name(reader: &mut Reader<'_>, key: &Key) -> Option<ZoneName> {
    let malformed = match ZoneName::check(&key.text) {
        Ok(name) if !name.is_reserved() => return Some(name),
        Ok(_) => Malformed::new("a name that is not reserved", "rename the zone"),
        Err(malformed) => malformed,
    };
    reader.report(
        key.line,
        format!("the key {:?}", key.text),
        malformed.expected,
        malformed.remedy,
    );
    None
}

fn zone(
    reader: &mut Reader<'_>,
    node: Node,
    (name, sets): (&str, Option<&BTreeMap<SetName, Set>>),
    owners: &mut BTreeMap<InterfaceName, String>,
) -> Option<Zone> {
    let mut section = reader.section(node)?;
    let interfaces = reader.required(&mut section, "interfaces", |reader, node| {
        let line = node.line;
        let interfaces = reader.one_or_more(node, InterfaceName::decode)?;
        for interface in &interfaces {
            if let Some(owner) = owners.insert(interface.clone(), name.to_owned()) {
                let found = format!("interface {interface}, which zone {owner} has");
                reader.report(line, found, "each interface once", "remove it from one of the two");
            }
        }
        Some(interfaces)
    });
    let guard = guard::decode(reader, &mut section, sets);
    let pass_through = reader.optional(&mut section, "pass_through", |reader, node| {
        let line = node.line;
        let types = reader.one_or_more(node, EtherType::decode)?;
        if types.len() > MOST_TYPES {
            let found = format!("{} protocols", types.len());
            reader.report(line, found, format!("at most {MOST_TYPES}"), "remove some");
        }
        Some(types)
    });
    let clamp_mss = reader.optional(&mut section, "clamp_mss", ClampMss::decode);
    reader.close(section);
    Some(Zone {
        interfaces: interfaces?,
        guard: guard?,
        pass_through: pass_through?.unwrap_or_default(),
        clamp_mss: clamp_mss?,
    })
}
