//! Rules proposed for flows that have been seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use nightgate_config::{PortRange, Prefix, Protocol, ZoneName};

/// A flow that has been seen, without the port of the end that began it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Observed {
    /// Zone it came from.
    pub from: ZoneName,
    /// Zone it went to.
    pub to: ZoneName,
    /// IP protocol number.
    pub protocol: u8,
    /// Port it went to; 0 if the protocol has none.
    pub port: u16,
    /// The end that began it.
    pub source: IpAddr,
    /// The other end.
    pub destination: IpAddr,
}

/// A rule that accepts flows which have been seen, and with any source port no others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proposal {
    from: ZoneName,
    to: ZoneName,
    protocol: u8,
    ports: Vec<PortRange>,
    source: Vec<Prefix>,
    destination: Vec<Prefix>,
}

/// What flows between the same ends have in common.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Ends {
    from: ZoneName,
    to: ZoneName,
    protocol: u8,
    source: BTreeSet<IpAddr>,
    destination: BTreeSet<IpAddr>,
}

/// Few rules that accept exactly the flows that have been seen.
pub fn propose(observed: &BTreeSet<Observed>) -> Vec<Proposal> {
    let mut sources: BTreeMap<(&ZoneName, &ZoneName, u8, u16, IpAddr), BTreeSet<IpAddr>> =
        BTreeMap::new();
    for flow in observed {
        let key = (&flow.from, &flow.to, flow.protocol, flow.port, flow.destination);
        sources.entry(key).or_default().insert(flow.source);
    }
    // Destinations that the same sources go to are one rule; so are ports between the same ends.
    let mut destinations: BTreeMap<_, BTreeSet<IpAddr>> = BTreeMap::new();
    for ((from, to, protocol, port, destination), source) in sources {
        let key = (from.clone(), to.clone(), protocol, port, source, destination.is_ipv4());
        destinations.entry(key).or_default().insert(destination);
    }
    let mut ports: BTreeMap<Ends, BTreeSet<u16>> = BTreeMap::new();
    for ((from, to, protocol, port, source, _), destination) in destinations {
        let ends = Ends { from, to, protocol, source, destination };
        ports.entry(ends).or_default().insert(port);
    }
    ports.into_iter().map(|(ends, ports)| Proposal::new(ends, &ports)).collect()
}

impl Proposal {
    fn new(ends: Ends, ports: &BTreeSet<u16>) -> Self {
        let has_ports = [Protocol::TCP, Protocol::UDP].contains(&Protocol::Number(ends.protocol));
        Self {
            ports: if has_ports { ranges(ports) } else { Vec::new() },
            source: cover(&ends.source),
            destination: cover(&ends.destination),
            from: ends.from,
            to: ends.to,
            protocol: ends.protocol,
        }
    }

    /// The rule in the form of a configuration file, as an element of `rules`.
    pub fn yaml(&self, id: &str) -> String {
        let list = |prefixes: &[Prefix]| {
            let words: Vec<_> = prefixes.iter().map(|prefix| format!("'{prefix}'")).collect();
            words.join(", ")
        };
        let mut text = format!("- id: {id}\n  from: {}\n  to: {}\n", self.from, self.to);
        let lines = [("source", list(&self.source)), ("destination", list(&self.destination))];
        for (key, value) in lines {
            // A string takes everything.
            let _always_written = writeln!(text, "  {key}: [{value}]");
        }
        if self.protocol != 0 {
            let _always_written = writeln!(text, "  protocol: {}", Protocol::Number(self.protocol));
        }
        if !self.ports.is_empty() {
            let port = |range: &PortRange| {
                if range.low() == range.high() { range.to_string() } else { format!("'{range}'") }
            };
            let ports: Vec<_> = self.ports.iter().map(port).collect();
            let _always_written = writeln!(text, "  destination_ports: [{}]", ports.join(", "));
        }
        text + "  action: accept\n"
    }
}

/// The fewest prefixes that hold exactly these addresses, which are of one family.
fn cover(addresses: &BTreeSet<IpAddr>) -> Vec<Prefix> {
    let mut prefixes: Vec<Prefix> = Vec::new();
    for address in addresses {
        let mut next = Prefix::new(*address, if address.is_ipv4() { 32 } else { 128 });
        while let Some(prefix) = next {
            let joined = prefixes.last().and_then(|last| joined(*last, prefix));
            if joined.is_some() {
                prefixes.pop();
            } else {
                prefixes.push(prefix);
            }
            next = joined;
        }
    }
    prefixes
}

/// The prefix that two halves make up.
fn joined(low: Prefix, high: Prefix) -> Option<Prefix> {
    let whole = Prefix::new(low.address(), low.length().checked_sub(1)?)?;
    let is_other_half =
        low.length() == high.length() && low != high && whole.contains(high.address());
    is_other_half.then_some(whole)
}

fn ranges(ports: &BTreeSet<u16>) -> Vec<PortRange> {
    let mut ranges: Vec<PortRange> = Vec::new();
    for port in ports {
        let last = ranges.last().filter(|last| last.high().checked_add(1) == Some(*port)).copied();
        let low = match last {
            Some(last) => {
                ranges.pop();
                last.low()
            }
            None => *port,
        };
        ranges.extend(PortRange::new(low, *port));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_prefixes_and_ranges_and_nothing_else_is_in_them() {
        let addresses: BTreeSet<IpAddr> = (1..8).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        let texts: Vec<_> = cover(&addresses).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/30"]);
        let texts: Vec<_> =
            ranges(&[80, 81, 82, 443, 65_535].into()).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["80-82", "443", "65535"]);
    }

    #[test]
    fn flows_of_the_same_ends_are_one_rule() {
        let flow = |source: u8, destination: u8, port| Observed {
            from: ZoneName::new("lan").unwrap(),
            to: ZoneName::new("wan").unwrap(),
            protocol: 6,
            port,
            source: IpAddr::from([10, 0, 0, source]),
            destination: IpAddr::from([192, 0, 2, destination]),
        };
        let seen = [flow(2, 4, 80), flow(3, 4, 80), flow(2, 5, 80), flow(3, 5, 80), flow(9, 7, 22)];
        let same_ends = [flow(2, 4, 443), flow(2, 5, 443), flow(3, 4, 443), flow(3, 5, 443)];
        let proposals = propose(&seen.into_iter().chain(same_ends).collect());

        assert_eq!(proposals.len(), 2, "{proposals:#?}");
        let text = proposals[0].yaml("learned-1");
        assert!(text.contains("source: ['10.0.0.2/31']"), "{text}");
        assert!(text.contains("destination: ['192.0.2.4/31']"), "{text}");
        assert!(text.contains("destination_ports: [80, 443]"), "{text}");
    }
}
