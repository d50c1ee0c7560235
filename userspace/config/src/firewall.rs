//! Zones.

use std::collections::BTreeMap;

use crate::{
    decode::Malformed,
    names::{InterfaceName, ZoneName},
    node::{Key, Node},
    reader::Reader,
};

/// A set of interfaces that rules name together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone {
    /// Its interfaces; at least one, and none in two zones.
    pub interfaces: Vec<InterfaceName>,
}

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<BTreeMap<ZoneName, Zone>> {
    let mut zones = BTreeMap::new();
    let mut owners = BTreeMap::new();
    let mut is_complete = true;
    for (key, node) in reader.entries(node)? {
        let entry = reader.under(&key.text, |reader| {
            let name = name(reader, &key);
            let zone = zone(reader, node, &key.text, &mut owners);
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
    name: &str,
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
    reader.close(section);
    Some(Zone { interfaces: interfaces? })
}
