//! What rules ask for beside networks, protocols and ports, and packets for it.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv6Addr};

use super::{ANY, Header, ICMP, ICMPV6, Network, Numbers, Rule, TCP};

/// What a rule asks for besides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extras {
    source: Membership,
    destination: Membership,
    destination_ports: Membership,
    message: Option<Message>,
    flags: Option<&'static str>,
    dscp: Option<u8>,
    host: Option<u8>,
}

/// What a packet carries beside addresses, protocol and ports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// Type and code of an ICMP or ICMPv6 message.
    pub message: [u8; 2],
    /// TCP flags.
    pub flags: u8,
    /// Code point of differentiated services.
    pub dscp: u8,
    /// Last byte of the source's MAC address.
    pub host: u8,
}

/// How a rule names a network or a range of ports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Membership {
    /// By itself.
    #[default]
    Plain,
    /// As what must not be.
    Not,
    /// As one of a set.
    Among(usize),
    /// As one of a set that it must not be in.
    NotAmong(usize),
}

/// A type, with any code or one.
type Message = (u8, Option<u8>);

/// Sets of each kind.
const SETS: usize = 8;
/// Types and codes that are no errors, of ICMP (RFC 792) and ICMPv6 (RFC 4443, RFC 8335). Errors go by their flow.
const MESSAGES: [[[u8; 2]; 4]; 2] =
    [[[8, 0], [0, 0], [13, 1], [10, 0]], [[128, 0], [129, 0], [160, 1], [200, 3]]];
/// Flags that connections bring forth (RFC 9293), with and without ECE (RFC 3168).
const FLAGS: [u8; 6] = [0x02, 0x02, 0x42, 0x12, 0x10, 0x11];
const CODE_POINTS: [u8; 4] = [0, 8, 46, 63];
const HOSTS: u8 = 4;

impl Extras {
    /// Gives some rules more to ask for, and makes some count only.
    pub(super) fn add(rule: &mut Rule, numbers: &mut Numbers) {
        let is_v4 = rule.family().unwrap_or_else(|| numbers.below(2) == 0);
        if !is_v4 && numbers.below(2) == 0 {
            rule.source = Some(Network { address: Ipv6Addr::UNSPECIFIED.into(), length: 0 });
        }
        let mut extras = Self::default();
        if numbers.below(8) == 0 {
            rule.protocol = Some(if is_v4 { ICMP } else { ICMPV6 });
            rule.ports = [ANY; 2];
            let [kind, code] = MESSAGES[usize::from(!is_v4)][numbers.below(4)];
            let code = (numbers.below(2) == 0).then_some(code);
            extras.message = (numbers.below(4) != 0).then_some((kind, code));
        }
        extras.source = Membership::of(rule.source.is_some(), numbers);
        extras.destination = Membership::of(rule.destination.is_some(), numbers);
        extras.destination_ports = Membership::of(rule.ports[1] != ANY, numbers);
        if rule.protocol == Some(TCP) && numbers.below(6) == 0 {
            extras.flags = Some(["syn,!ack", "ack,!fin", "!ece", "syn"][numbers.below(4)]);
        }
        if numbers.below(10) == 0 {
            extras.dscp = Some(CODE_POINTS[numbers.below(CODE_POINTS.len())]);
        }
        if numbers.below(10) == 0 {
            extras.host = Some(numbers.byte(HOSTS));
        }
        match numbers.below(10) {
            0 => rule.action = "count",
            1 => rule.action = "reject",
            _ => {}
        }
        rule.extras = Some(extras);
    }

    /// What stands under a key for which the rule would name `value` by itself.
    pub(super) fn value(&self, key: &str, value: &str) -> String {
        let (membership, set) = match key {
            "source" => (self.source, "source"),
            "destination" => (self.destination, "destination"),
            "destination_ports" => (self.destination_ports, "ports"),
            _ => (Membership::Plain, ""),
        };
        match membership {
            Membership::Plain => value.to_owned(),
            Membership::Not => format!("{{ not: {value} }}"),
            Membership::Among(number) => format!("${set}-{number}"),
            Membership::NotAmong(number) => format!("{{ not: ${set}-{number} }}"),
        }
    }

    /// The keys that only rules with extras have.
    pub(super) fn keys(&self) -> String {
        let mut text = String::new();
        if let Some((kind, code)) = self.message {
            let code = code.map(|code| format!("/{code}")).unwrap_or_default();
            _ = write!(text, "icmp_types: ['{kind}/0', {kind}{code}], ");
        }
        if let Some(flags) = self.flags {
            _ = write!(text, "tcp_flags: '{flags}', ");
        }
        if let Some(dscp) = self.dscp {
            _ = write!(text, "dscp: {dscp}, ");
        }
        if let Some(host) = self.host {
            _ = write!(text, "source_mac: '02:00:00:00:00:{host:02x}', ");
        }
        text
    }

    /// Whether a packet of the rule is likely to be one that its own values do not name.
    pub(super) fn turns_away(&self) -> bool {
        let is_not = |membership| matches!(membership, Membership::Not | Membership::NotAmong(_));
        is_not(self.source) || is_not(self.destination)
    }

    /// What a packet carries for the rule; now and then something else.
    pub(super) fn facts(&self, protocol: u8, numbers: &mut Numbers) -> Facts {
        let list = MESSAGES[usize::from(protocol == ICMPV6)];
        let any = list[numbers.below(list.len())];
        let message = match self.message {
            Some((kind, code)) if numbers.below(4) != 0 => [kind, code.unwrap_or(any[1])],
            Some(_) | None => any,
        };
        let is_other = numbers.below(4) == 0;
        let dscp = CODE_POINTS[numbers.below(CODE_POINTS.len())];
        let host = numbers.byte(HOSTS);
        Facts {
            message,
            flags: FLAGS[numbers.below(FLAGS.len())],
            dscp: self.dscp.filter(|_| !is_other).unwrap_or(dscp),
            host: self.host.filter(|_| !is_other).unwrap_or(host),
        }
    }
}

impl Membership {
    fn of(is_named: bool, numbers: &mut Numbers) -> Self {
        let set = numbers.below(SETS);
        match numbers.below(12) {
            0 if is_named => Self::Not,
            1 | 2 if is_named => Self::Among(set),
            3 if is_named => Self::NotAmong(set),
            _ => Self::Plain,
        }
    }

    fn set(self) -> Option<usize> {
        match self {
            Self::Plain | Self::Not => None,
            Self::Among(set) | Self::NotAmong(set) => Some(set),
        }
    }
}

/// The sets that rules name, as lines of YAML behind them: what the rules that name a set would name by themselves.
pub fn sets(rules: &[Rule]) -> String {
    let mut sets: BTreeMap<(&str, &str, usize), Vec<String>> = BTreeMap::new();
    for (rule, extras) in rules.iter().filter_map(|rule| Some((rule, rule.extras?))) {
        let mut add = |kind, name, membership: Membership, value: Option<String>| {
            if let (Some(set), Some(value)) = (membership.set(), value) {
                let values = sets.entry((kind, name, set)).or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        };
        let addresses = "addresses";
        add(addresses, "source", extras.source, rule.source.map(|network| network.yaml()));
        add(
            addresses,
            "destination",
            extras.destination,
            rule.destination.map(|network| network.yaml()),
        );
        let ports = super::ports_yaml(rule.ports[1]);
        add("ports", "ports", extras.destination_ports, Some(ports));
    }
    let line = |((kind, name, number), values): (&(&str, &str, usize), &Vec<String>)| {
        format!("  {name}-{number}: {{ {kind}: [{}] }}\n", values.join(", "))
    };
    let lines: String = sets.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("sets:\n{lines}") }
}

impl Header {
    /// The message of an ICMP or ICMPv6 packet; `None` for another.
    pub fn message(&self) -> Option<[u8; 2]> {
        [ICMP, ICMPV6].contains(&self.protocol).then_some(self.facts.message)
    }
}
