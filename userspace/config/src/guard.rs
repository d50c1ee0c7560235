//! What a zone guards itself against, before any rule.

use std::collections::BTreeMap;

use crate::{
    limit::FlowRate,
    node::Node,
    prefix::Prefix,
    reader::{Reader, Section},
};

/// Blocked sources and floods.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Guard {
    /// Sources whose packets are refused.
    pub block: Vec<Prefix>,
    /// Sources whose packets are not looked at here. Of two prefixes, the longer decides.
    pub allow: Vec<Prefix>,
    /// How fast one source may send.
    pub flood: FloodLimits,
}

/// How fast one source may send packets of a kind; any number without a limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FloodLimits {
    /// TCP segments that open connections.
    pub syn: Option<FlowRate>,
    /// UDP.
    pub udp: Option<FlowRate>,
    /// ICMP and ICMPv6, neighbour discovery aside.
    pub icmp: Option<FlowRate>,
}

impl Guard {
    /// Whether there is anything to guard against.
    pub fn is_asked_for(&self) -> bool {
        let FloodLimits { syn, udp, icmp } = self.flood;
        !self.block.is_empty() || syn.is_some() || udp.is_some() || icmp.is_some()
    }
}

/// Decodes the keys `block`, `allow` and `flood` of a zone.
pub(crate) fn decode(reader: &mut Reader<'_>, section: &mut Section) -> Option<Guard> {
    let mut seen = BTreeMap::new();
    let block = prefixes(reader, section, "block", &mut seen);
    let line = section.line_of("allow");
    let allow = prefixes(reader, section, "allow", &mut seen);
    let flood = reader.optional(section, "flood", flood);
    let guard = Guard { block: block?, allow: allow?, flood: flood?.unwrap_or_default() };
    if !guard.allow.is_empty() && !guard.is_asked_for() {
        reader.under("allow", |reader| {
            let remedy = "add block or flood, or remove the key";
            reader.report(line, "sources that nothing blocks", "block or flood beside it", remedy);
        });
    }
    Some(guard)
}

/// A list in which no prefix stands twice, nor in the other list.
fn prefixes(
    reader: &mut Reader<'_>,
    section: &mut Section,
    key: &'static str,
    seen: &mut BTreeMap<String, u32>,
) -> Option<Vec<Prefix>> {
    let found = reader.optional(section, key, |reader, node| {
        // Decoding may run on a shared borrow, so the repetitions are looked for afterwards.
        let lines: Vec<u32> = node.elements().iter().map(|node| node.line).collect();
        let prefixes = reader.one_or_more(node, Prefix::decode)?;
        for (prefix, line) in prefixes.iter().zip(lines) {
            if let Some(first) = seen.insert(prefix.to_string(), line) {
                let found = format!("{prefix} again, first on line {first}");
                reader.report(line, found, "each prefix once", "remove one of the two");
            }
        }
        Some(prefixes)
    });
    found.map(Option::unwrap_or_default)
}

fn flood(reader: &mut Reader<'_>, node: Node) -> Option<FloodLimits> {
    let mut section = reader.section(node)?;
    let [syn, udp, icmp] =
        ["syn", "udp", "icmp"].map(|key| reader.optional(&mut section, key, FlowRate::decode));
    reader.close(section);
    Some(FloodLimits { syn: syn?, udp: udp?, icmp: icmp? })
}
