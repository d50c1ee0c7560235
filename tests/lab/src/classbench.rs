//! Rule sets with the character of ClassBench's three families, and packets that meet their rules.
//!
//! Everything follows from a seed. Sources are 11.0.0.0 to 63.255.255.255 or 2400::/16, destinations 64.0.0.0 to
//! 119.255.255.255 or 2600::/16, so that no packet is the answer to another.

mod extras;

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use extras::Extras;
pub use extras::{Facts, sets};

/// A family of rule sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// Long prefixes on both sides, one destination port.
    AccessList,
    /// Many wildcards and port ranges.
    Firewall,
    /// Prefixes of every length, nested, few ports.
    IpChain,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AccessList, Self::Firewall, Self::IpChain];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessList => "acl",
            Self::Firewall => "fw",
            Self::IpChain => "ipc",
        }
    }
}

/// A generated rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    from: &'static str,
    source: Option<Network>,
    destination: Option<Network>,
    protocol: Option<u8>,
    ports: [(u16, u16); 2],
    action: &'static str,
    /// Present in sets of [`every_dimension`].
    extras: Option<Extras>,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Zone it comes from: `lan` or `wan`.
    pub from: &'static str,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number: TCP, UDP, GRE, ICMP or ICMPv6.
    pub protocol: u8,
    /// Source and destination port.
    pub ports: [u16; 2],
    /// What else it carries, if rules ask for more.
    pub facts: Facts,
}

#[derive(Clone, Copy, Debug)]
struct Network {
    address: IpAddr,
    length: u8,
}

/// Numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

/// Every port.
const ANY: (u16, u16) = (0, u16::MAX);
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;

/// Generates rules.
pub fn rules(family: Family, count: usize, seed: u64) -> Vec<Rule> {
    let mut numbers = Numbers(seed);
    (0..count).map(|_| rule(family, count, &mut numbers)).collect()
}

/// Generates rules that beside that name sets and what must not be, ask for ICMP messages, TCP flags, code points and
/// MAC addresses, reject, and only count.
pub fn every_dimension(family: Family, count: usize, seed: u64) -> Vec<Rule> {
    let mut rules = rules(family, count, seed);
    let mut numbers = Numbers(!seed);
    rules.iter_mut().for_each(|rule| Extras::add(rule, &mut numbers));
    rules
}

/// The rules as lines of YAML; ids begin with `prefix`. All go to `wan`. The [`sets`] that they name go behind.
pub fn yaml(rules: &[Rule], prefix: &str) -> String {
    let mut text = String::new();
    for (number, rule) in rules.iter().enumerate() {
        let mut line = format!("- {{ id: {prefix}{number}, from: {}, to: wan, ", rule.from);
        for (key, network) in [("source", rule.source), ("destination", rule.destination)] {
            if let Some(network) = network {
                _ = write!(line, "{key}: {}, ", rule.value(key, &network.yaml()));
            }
        }
        if let Some(protocol) = rule.protocol {
            _ = write!(line, "protocol: {}, ", protocol_name(protocol));
        }
        for (key, range) in [("source_ports", rule.ports[0]), ("destination_ports", rule.ports[1])]
        {
            if range != ANY {
                _ = write!(line, "{key}: {}, ", rule.value(key, &ports_yaml(range)));
            }
        }
        let extras = rule.extras.map(|extras| extras.keys()).unwrap_or_default();
        _ = writeln!(text, "{line}{extras}action: {} }}", rule.action);
    }
    text
}

/// A packet that a rule of the set matches, if no other does before; now and then one that hardly any does.
pub fn header(rules: &[Rule], numbers: &mut Numbers) -> Header {
    let rule = rules[numbers.below(rules.len())];
    let is_v4 = rule.family().unwrap_or_else(|| numbers.below(4) != 0);
    let elsewhere = if rule.extras.is_some_and(|extras| extras.turns_away()) { 2 } else { 10 };
    let mut end = |network: Option<Network>, end| {
        let network = network.filter(|_| numbers.below(elsewhere) != 0);
        let any = Network { address: address(numbers, is_v4, end), length: 0 };
        inside(network.unwrap_or(any), any.address)
    };
    let (source, destination) =
        (end(rule.source, End::Source), end(rule.destination, End::Destination));
    let protocol = rule.protocol.unwrap_or_else(|| [TCP, UDP, GRE][numbers.below(3)]);
    let ports = rule.ports.map(|(low, high)| low + numbers.small(usize::from(high - low) + 1));
    let ports = if protocol == GRE { [0; 2] } else { ports };
    let from = if rule.from == "lan" || (rule.from != "wan" && numbers.below(2) == 0) {
        "lan"
    } else {
        "wan"
    };
    let facts = rule.extras.map(|extras| extras.facts(protocol, numbers)).unwrap_or_default();
    Header { from, source, destination, protocol, ports, facts }
}

impl Rule {
    /// The address family of its packets, if that is certain: `true` for IPv4.
    fn family(&self) -> Option<bool> {
        let network = self.source.or(self.destination);
        let by_protocol = match self.protocol {
            Some(ICMP) => Some(true),
            Some(ICMPV6) => Some(false),
            Some(_) | None => None,
        };
        network.map(|network| network.address.is_ipv4()).or(by_protocol)
    }

    /// What stands under a key.
    fn value(&self, key: &str, value: &str) -> String {
        self.extras.map_or_else(|| value.to_owned(), |extras| extras.value(key, value))
    }
}

impl Network {
    fn yaml(self) -> String {
        format!("'{}/{}'", self.address, self.length)
    }
}

fn ports_yaml((low, high): (u16, u16)) -> String {
    format!("'{low}-{high}'")
}

impl Numbers {
    /// A number below a bound above zero.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }

    fn small(&mut self, bound: usize) -> u16 {
        u16::try_from(self.below(bound)).unwrap_or(0)
    }

    fn byte(&mut self, bound: u8) -> u8 {
        u8::try_from(self.below(bound.into())).unwrap_or(0)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }
}

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

fn rule(family: Family, count: usize, numbers: &mut Numbers) -> Rule {
    // Wildcards of 100.
    let (no_source, no_destination) = match family {
        Family::AccessList => (5, 2),
        Family::Firewall => (45, 35),
        Family::IpChain => (12, 12),
    };
    let is_v4 = numbers.below(100) < 85;
    let mut network = |end, wildcards| {
        let is_wildcard = numbers.below(100) < wildcards;
        (!is_wildcard).then(|| network(family, count, numbers, is_v4, end))
    };
    let source = network(End::Source, no_source);
    let destination = network(End::Destination, no_destination);
    let protocol = match (family, numbers.below(100)) {
        (Family::AccessList, 0..80) | (Family::Firewall, 0..60) | (Family::IpChain, 0..40) => {
            Some(TCP)
        }
        (_, 0..85) => Some(UDP),
        (_, 85..90) => Some(GRE),
        (_, _) => None,
    };
    let has_ports = matches!(protocol, Some(TCP | UDP));
    let ports = if has_ports { ports(family, numbers) } else { [ANY; 2] };
    Rule {
        from: ["lan", "lan", "lan", "wan", "[lan, wan]"][numbers.below(5)],
        source,
        destination,
        protocol,
        ports,
        action: if numbers.below(3) == 0 { "drop" } else { "accept" },
        extras: None,
    }
}

fn ports(family: Family, numbers: &mut Numbers) -> [(u16, u16); 2] {
    let one = |numbers: &mut Numbers| {
        let port = [53, 80, 443, 25, 22, 123, 8_080, 1_433, 3_306, 5_060][numbers.below(10)];
        (port, port)
    };
    let range = |numbers: &mut Numbers| {
        let low = numbers.small(60_000);
        (low, low + numbers.small(5_000))
    };
    let (source, destination) = (numbers.below(100), numbers.below(100));
    match family {
        Family::AccessList => match destination {
            0..70 => [ANY, one(numbers)],
            70..85 => [ANY, range(numbers)],
            _ => [ANY, ANY],
        },
        Family::Firewall => [
            if source < 25 { (1_024, u16::MAX) } else { ANY },
            match destination {
                0..50 => one(numbers),
                50..70 => range(numbers),
                70..80 => (1_024, u16::MAX),
                _ => ANY,
            },
        ],
        Family::IpChain => [
            if source < 10 { one(numbers) } else { ANY },
            if destination < 30 { one(numbers) } else { ANY },
        ],
    }
}

/// A network below one of a pool of sites, so that networks nest.
fn network(family: Family, count: usize, numbers: &mut Numbers, is_v4: bool, end: End) -> Network {
    let site = Numbers(numbers.below(4 + count / 16) as u64).next();
    let inner = address(&mut Numbers(site), is_v4, end);
    let length = match (family, numbers.below(10)) {
        (Family::AccessList, 0..6) => 32,
        (Family::AccessList, 6..9) => 24 + numbers.below(8),
        (Family::Firewall, 0..5) => 32,
        (Family::Firewall, 5..8) => 20 + numbers.below(9),
        (Family::IpChain, 0..4) => 32,
        (Family::IpChain, 4..8) => 16 + numbers.below(16),
        (_, _) => 8 + numbers.below(16),
    };
    let length = u8::try_from(length).unwrap_or(32);
    let far = address(numbers, is_v4, end);
    // The site's first two bytes, hosts of its own.
    let inner = inside(Network { address: inner, length: 16 }, far);
    let length = if is_v4 { length } else { 32 + length * 3 };
    let address = inside(Network { address: inner, length }, zero(is_v4));
    Network { address, length }
}

/// The network's bits, then those of another address.
fn inside(network: Network, host: IpAddr) -> IpAddr {
    match (network.address, host) {
        (IpAddr::V4(address), IpAddr::V4(host)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(network.length)).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask | u32::from(host) & !mask).into()
        }
        (IpAddr::V6(address), IpAddr::V6(host)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(network.length)).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask | u128::from(host) & !mask).into()
        }
        (address, _) => address,
    }
}

fn zero(is_v4: bool) -> IpAddr {
    if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn address(numbers: &mut Numbers, is_v4: bool, end: End) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = numbers.next().to_le_bytes();
    if is_v4 {
        let first = match end {
            End::Source => 11 + a % 53,
            End::Destination => 64 + a % 56,
        };
        return Ipv4Addr::new(first, b, c, d).into();
    }
    let first = match end {
        End::Source => 0x24,
        End::Destination => 0x26,
    };
    Ipv6Addr::from([first, 0, a, b, c, d, e, f, g, h, a, b, c, d, e, 1]).into()
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        TCP => "tcp".into(),
        UDP => "udp".into(),
        ICMP => "icmp".into(),
        ICMPV6 => "icmpv6".into(),
        number => number.to_string(),
    }
}
