//! What translated ends become.

use std::net::IpAddr;

use super::{DestinationRule, has_ports, report_ports};
use crate::{
    decode::{self, Malformed},
    node::Node,
    ports::PortRange,
    prefix::Prefix,
    reader::{Reader, Section},
};

/// Whom a flow that comes in reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NewDestination {
    /// Whom it names.
    Unchanged,
    /// Another host.
    Host {
        /// Its address.
        address: IpAddr,
        /// Its ports, for as many destination ports, in order; none to keep the port.
        ports: Option<PortRange>,
    },
}

/// Whom a flow that leaves appears to come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NewSource {
    /// Whom it comes from.
    Unchanged,
    /// The interface that it leaves by.
    Masquerade {
        /// Ports to choose from; none for all.
        ports: Option<PortRange>,
    },
    /// Addresses of a range, the same for all flows of a host.
    Addresses {
        /// The first.
        low: IpAddr,
        /// The last, of the same family; of IPv6 with the same first 64 bits.
        high: IpAddr,
        /// Ports to choose from; none for all.
        ports: Option<PortRange>,
    },
}

impl NewDestination {
    /// Whether the new address is IPv4; none if there is none.
    pub fn is_ipv4(&self) -> Option<bool> {
        match self {
            Self::Unchanged => None,
            Self::Host { address, .. } => Some(address.is_ipv4()),
        }
    }
}

impl NewSource {
    /// Whether the new address is IPv4; none if it can be both.
    pub fn is_ipv4(&self) -> Option<bool> {
        match self {
            Self::Unchanged | Self::Masquerade { .. } => None,
            Self::Addresses { low, .. } => Some(low.is_ipv4()),
        }
    }

    /// Ports to choose from.
    pub fn ports(&self) -> Option<PortRange> {
        match self {
            Self::Unchanged => None,
            Self::Masquerade { ports } | Self::Addresses { ports, .. } => *ports,
        }
    }
}

pub(super) fn destination(
    reader: &mut Reader<'_>,
    section: &mut Section,
) -> Option<NewDestination> {
    let becomes = reader.required(section, "becomes", |reader, node| {
        decode::checked(reader, node, |text| match text {
            "unchanged" => Ok(None),
            text => host(text).map(Some).ok_or_else(|| {
                Malformed::new("the address of a host, or unchanged", "write such as 10.1.0.10")
            }),
        })
    });
    let (line, ports) = ports(reader, section);
    match (becomes?, ports?) {
        (Some(address), ports) => Some(NewDestination::Host { address, ports }),
        (None, None) => Some(NewDestination::Unchanged),
        (None, Some(_)) => superfluous_ports(reader, line),
    }
}

pub(super) fn source(reader: &mut Reader<'_>, section: &mut Section) -> Option<NewSource> {
    let becomes = reader.required(section, "becomes", new_source);
    let (line, ports) = ports(reader, section);
    match (becomes?, ports?) {
        (NewSource::Unchanged, None) => Some(NewSource::Unchanged),
        (NewSource::Unchanged, Some(_)) => superfluous_ports(reader, line),
        (NewSource::Masquerade { .. }, ports) => Some(NewSource::Masquerade { ports }),
        (NewSource::Addresses { low, high, .. }, ports) => {
            Some(NewSource::Addresses { low, high, ports })
        }
    }
}

/// Reports new ports that are not as many as the old ones.
pub(super) fn check_port_sizes(reader: &mut Reader<'_>, line: u32, rule: &DestinationRule) {
    let NewDestination::Host { ports: Some(new), .. } = rule.becomes else {
        return;
    };
    if !has_ports(rule.matching.protocol) {
        report_ports(reader, line, "becomes_ports", rule.matching.protocol);
        return;
    }
    let size = |range: PortRange| u32::from(range.high() - range.low()) + 1;
    let (found, remedy) = match rule.matching.destination_ports.as_slice() {
        [old] if size(*old) == size(new) => return,
        [old] => (
            format!("{} ports for the {} of {old}", size(new), size(*old)),
            "write ranges of one size: ports keep their place in the range",
        ),
        [] => (
            format!("{} ports for all ports", size(new)),
            "write which destination_ports become these",
        ),
        others => (
            format!("one range for {} of destination_ports", others.len()),
            "write a rule for each range",
        ),
    };
    reader.under("becomes_ports", |reader| {
        reader.report(line, found, "as many ports as destination_ports", remedy);
    });
}

fn ports(reader: &mut Reader<'_>, section: &mut Section) -> (u32, Option<Option<PortRange>>) {
    let line = section.line_of("becomes_ports");
    (line, reader.optional(section, "becomes_ports", PortRange::decode))
}

fn superfluous_ports<T>(reader: &mut Reader<'_>, line: u32) -> Option<T> {
    reader.under("becomes_ports", |reader| {
        reader.report(line, "ports beside unchanged", "no ports", "remove becomes_ports");
    });
    None
}

fn new_source(reader: &mut Reader<'_>, node: Node) -> Option<NewSource> {
    decode::checked(reader, node, |text| {
        let malformed = || {
            Malformed::new(
                "masquerade, unchanged, an address, a prefix or a range low-high of addresses",
                "write such as 198.51.100.8, 198.51.100.8/29 or 198.51.100.8-198.51.100.11",
            )
        };
        let (low, high) = match text {
            "masquerade" => return Ok(NewSource::Masquerade { ports: None }),
            "unchanged" => return Ok(NewSource::Unchanged),
            text => match text.split_once('-') {
                Some((low, high)) => (host(low.trim()), host(high.trim())),
                None if text.contains('/') => ends(&Prefix::check(text)?),
                None => (host(text), host(text)),
            },
        };
        let (low, high) = low.zip(high).ok_or_else(malformed)?;
        if is_range(low, high) {
            Ok(NewSource::Addresses { low, high, ports: None })
        } else {
            Err(Malformed::new(
                "a range of one family that ends behind its start, of IPv6 within one /64",
                "correct the range",
            ))
        }
    })
}

/// First and last address of a prefix, if they can be hosts'.
fn ends(prefix: &Prefix) -> (Option<IpAddr>, Option<IpAddr>) {
    let last = match prefix.address() {
        IpAddr::V4(low) => {
            let hosts = u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
            IpAddr::from((low.to_bits() | hosts).to_be_bytes())
        }
        IpAddr::V6(low) => {
            let hosts = u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
            IpAddr::from((low.to_bits() | hosts).to_be_bytes())
        }
    };
    let can_be = |address: IpAddr| can_be_host(address).then_some(address);
    (can_be(prefix.address()), can_be(last))
}

fn is_range(low: IpAddr, high: IpAddr) -> bool {
    match (low, high) {
        (IpAddr::V4(low), IpAddr::V4(high)) => low <= high,
        (IpAddr::V6(low), IpAddr::V6(high)) => {
            low <= high && low.to_bits() >> 64 == high.to_bits() >> 64
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn host(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|address| can_be_host(*address))
}

fn can_be_host(address: IpAddr) -> bool {
    let is_mapped = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || is_mapped)
}
