//! What the numbers in a bank mean, written down for the process that comes after this one.

use std::{collections::BTreeMap, fs, io, path::Path};

use nightgate_abi::{Counter, Hits, ZoneId};
use nightgate_ruleset::{RuleId, ZoneName};
use serde::{Deserialize, Serialize};

use crate::{bank::Committed, error::PinError, pins::failed};

/// The file of a bank. It is written before the bank comes in force, so that the note of the bank in force is
/// always there.
#[derive(Debug, Deserialize, Serialize)]
struct Note {
    /// Number by zone.
    zones: BTreeMap<String, u8>,
    /// Rules in order.
    rules: Vec<String>,
    /// Packets, bytes and the last one's time by rule, from banks that were in force before.
    past: BTreeMap<String, [u64; 3]>,
}

/// Writes the note of a bank; a reader sees the old one or the new.
pub(crate) fn write(
    path: &Path,
    committed: &Committed,
    past: &BTreeMap<RuleId, Hits>,
) -> Result<(), PinError> {
    let zones = committed.zones.iter();
    let note = Note {
        zones: zones.map(|(zone, number)| (zone.to_string(), number.number())).collect(),
        rules: committed.rules.iter().map(ToString::to_string).collect(),
        past: past.iter().map(|(rule, hits)| (rule.to_string(), words(hits))).collect(),
    };
    let new = path.with_extension("new");
    serde_json::to_vec(&note)
        .map_err(io::Error::from)
        .and_then(|text| fs::write(&new, text))
        .and_then(|()| fs::rename(&new, path))
        .map_err(failed("write", path))
}

/// Reads the note of a bank.
pub(crate) fn read(path: &Path) -> Result<(Committed, BTreeMap<RuleId, Hits>), PinError> {
    let text = fs::read(path).map_err(failed("read", path))?;
    let note: Note =
        serde_json::from_slice(&text).map_err(io::Error::from).map_err(failed("read", path))?;
    let foreign = || failed("read", path)(io::ErrorKind::InvalidData.into());
    let zones =
        note.zones.iter().map(|(zone, number)| Some((ZoneName::new(zone)?, ZoneId::new(*number)?)));
    let past = note.past.iter().map(|(rule, [packets, bytes, last_seen])| {
        let counter = Counter { packets: *packets, bytes: *bytes };
        Some((RuleId::new(rule)?, Hits { counter, last_seen: *last_seen }))
    });
    let committed = Committed {
        since: 0,
        zones: zones.collect::<Option<_>>().ok_or_else(foreign)?,
        rules: note
            .rules
            .iter()
            .map(|rule| RuleId::new(rule))
            .collect::<Option<_>>()
            .ok_or_else(foreign)?,
    };
    Ok((committed, past.collect::<Option<_>>().ok_or_else(foreign)?))
}

fn words(hits: &Hits) -> [u64; 3] {
    [hits.counter.packets, hits.counter.bytes, hits.last_seen]
}
