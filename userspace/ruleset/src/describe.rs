//! Packets in words.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use nightgate_abi::Address;
use nightgate_config::{Protocol, ZoneName};
use nightgate_packet::{PacketMeta, protocol, tcp_flags};

/// The first packet of a flow, as an operator describes it:
///
/// `PROTOCOL SOURCE > DESTINATION [from ZONE] [to ZONE] [syn|ack|fin|rst]... [type N] [code N]
/// [dscp N] [mac ADDRESS]`
///
/// The protocol is `tcp`, `udp`, `icmp`, `icmpv6`, another name that rules use, or a number. Ends are `10.1.0.5:40000` or
/// `[2001:db8::5]:40000` with TCP and UDP, where the source may leave its port out, and plain addresses
/// otherwise. An ICMP or ICMPv6 message without a type is an echo request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// The packet.
    pub packet: PacketMeta,
    /// Zone it comes from, if it is said.
    pub from: Option<ZoneName>,
    /// Zone it goes to, if it is said.
    pub to: Option<ZoneName>,
}

/// Words that describe no packet.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("packet: {found}; expected {expected}, such as {EXAMPLE:?}")]
pub struct DescriptionError {
    /// What is wrong.
    pub found: String,
    /// What would be right.
    pub expected: &'static str,
}

/// A whole description.
const EXAMPLE: &str = "tcp 10.1.0.5:40000 > 192.0.2.7:443 from lan to wan syn";
/// The port of a source that leaves it out: the first dynamic one (RFC 6335 section 6).
const SOME_PORT: u16 = 49_152;
/// Echo request (RFC 792), the type of an ICMP message that leaves it out.
const ECHO: u8 = 8;
/// Echo request (RFC 4443 section 4.1), the type of an ICMPv6 message that leaves it out.
const ECHO_V6: u8 = 128;
/// Largest code point of differentiated services (RFC 2474 section 3).
const DSCP_MAX: u8 = 63;
/// Names of TCP flags.
const FLAGS: [(&str, u8); 4] = [
    ("fin", tcp_flags::FIN),
    ("syn", tcp_flags::SYN),
    ("rst", tcp_flags::RST),
    ("ack", tcp_flags::ACK),
];

impl FromStr for Description {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        let spaced = text.replace('>', " > ");
        let mut words = spaced.split_whitespace();
        let protocol = protocol_number(words.next().unwrap_or_default())?;
        let has_ports = protocol == protocol::TCP || protocol == protocol::UDP;
        let source = end(words.next().unwrap_or_default(), has_ports.then_some(Some(SOME_PORT)))?;
        let arrow = words.next().unwrap_or_default();
        if arrow != ">" {
            return Err(wrong(arrow, "> between source and destination"));
        }
        let destination = end(words.next().unwrap_or_default(), has_ports.then_some(None))?;
        if source.ip().is_ipv4() != destination.ip().is_ipv4() {
            return Err(wrong("an IPv4 and an IPv6 address", "addresses of one family"));
        }
        let is_ipv4 = source.ip().is_ipv4();
        if (protocol == protocol::ICMP && !is_ipv4) || (protocol == protocol::ICMPV6 && is_ipv4) {
            return Err(wrong("ICMP of the other family", "icmp with IPv4 and icmpv6 with IPv6"));
        }
        let mut description =
            Self { packet: meta(protocol, source, destination), from: None, to: None };
        while let Some(word) = words.next() {
            description.add(word, &mut words)?;
        }
        Ok(description)
    }
}

impl Description {
    /// Takes what follows the destination.
    fn add<'a>(
        &mut self,
        word: &str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), DescriptionError> {
        let expected = "from ZONE, to ZONE, dscp N, mac ADDRESS, with tcp syn, ack, fin or rst, with icmp and icmpv6 type N or code N";
        if word == "dscp" {
            let number = words.next().unwrap_or_default();
            let value = number.parse().ok().filter(|value| *value <= DSCP_MAX);
            self.packet.dscp = value.ok_or_else(|| wrong(number, "a number to 63"))?;
            return Ok(());
        }
        if word == "mac" {
            let address = words.next().unwrap_or_default();
            self.packet.source_mac = mac(address)
                .ok_or_else(|| wrong(address, "an Ethernet address, 02:00:00:00:00:01"))?;
            return Ok(());
        }
        let is_icmp = [protocol::ICMP, protocol::ICMPV6].contains(&self.packet.protocol);
        if is_icmp && (word == "type" || word == "code") {
            let number = words.next().unwrap_or_default();
            let value = number.parse().map_err(|_not_a_number| wrong(number, "a number to 255"))?;
            *if word == "type" { &mut self.packet.icmp_type } else { &mut self.packet.icmp_code } =
                value;
            return Ok(());
        }
        if word == "from" || word == "to" {
            let name = words.next().unwrap_or_default();
            let zone = ZoneName::new(name).ok_or_else(|| wrong(name, "the name of a zone"))?;
            *if word == "from" { &mut self.from } else { &mut self.to } = Some(zone);
            return Ok(());
        }
        let flag = FLAGS.iter().find(|(name, _)| *name == word);
        let (_, bit) = flag
            .filter(|_| self.packet.protocol == protocol::TCP)
            .ok_or_else(|| wrong(word, expected))?;
        self.packet.tcp_flags |= bit;
        Ok(())
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = &self.packet;
        let has_ports = [protocol::TCP, protocol::UDP].contains(&packet.protocol);
        let end = |address: Address, port| match address.to_ip() {
            ip if has_ports => SocketAddr::new(ip, port).to_string(),
            ip => ip.to_string(),
        };
        let source = end(packet.source, packet.source_port);
        let destination = end(packet.destination, packet.destination_port);
        write!(f, "{} {source} > {destination}", Protocol::Number(packet.protocol))?;
        for (word, zone) in [("from", &self.from), ("to", &self.to)] {
            if let Some(zone) = zone {
                write!(f, " {word} {zone}")?;
            }
        }
        for (name, bit) in FLAGS {
            if packet.tcp_flags & bit != 0 {
                write!(f, " {name}")?;
            }
        }
        if [protocol::ICMP, protocol::ICMPV6].contains(&packet.protocol) {
            write!(f, " type {}", packet.icmp_type)?;
        }
        if packet.icmp_code != 0 {
            write!(f, " code {}", packet.icmp_code)?;
        }
        if packet.dscp != 0 {
            write!(f, " dscp {}", packet.dscp)?;
        }
        if packet.source_mac != [0; 6] {
            let bytes = packet.source_mac.map(|byte| format!("{byte:02x}"));
            write!(f, " mac {}", bytes.join(":"))?;
        }
        Ok(())
    }
}

fn meta(protocol: u8, source: SocketAddr, destination: SocketAddr) -> PacketMeta {
    let [source, destination] =
        [source, destination].map(|end| (Address::from(end.ip()), end.port()));
    let icmp_type = match protocol {
        protocol::ICMP => ECHO,
        protocol::ICMPV6 => ECHO_V6,
        _ => 0,
    };
    PacketMeta { icmp_type, ..PacketMeta::between(protocol, source, destination) }
}

fn protocol_number(word: &str) -> Result<u8, DescriptionError> {
    match Protocol::named(word) {
        Some(Protocol::Number(number)) => Ok(number),
        Some(Protocol::Any) | None => word.parse().map_err(|_not_a_number| {
            wrong(word, "tcp, udp, icmp, icmpv6, another name that rules use, or a number first")
        }),
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok()).flatten())
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

/// An end, with the port that it gets if it leaves it out; `port` is `None` for a protocol without ports.
fn end(word: &str, port: Option<Option<u16>>) -> Result<SocketAddr, DescriptionError> {
    let plain = || {
        let word = word.strip_prefix('[').and_then(|w| w.strip_suffix(']')).unwrap_or(word);
        word.parse::<IpAddr>().ok()
    };
    match port {
        None => plain()
            .map(|ip| SocketAddr::new(ip, 0))
            .ok_or_else(|| wrong(word, "an address without a port")),
        Some(default) => {
            let with_port = word.parse::<SocketAddr>().ok();
            let without = || Some(SocketAddr::new(plain()?, default?));
            with_port.or_else(without).ok_or_else(|| {
                wrong(word, "an address and a port, 192.0.2.7:443 or [2001:db8::7]:443")
            })
        }
    }
}

fn wrong(found: &str, expected: &'static str) -> DescriptionError {
    let found = if found.is_empty() { "the end".into() } else { format!("{found:?}") };
    DescriptionError { found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_comes_back_in_the_same_words() {
        for text in [
            "tcp 10.1.0.5:40000 > 192.0.2.7:443",
            "tcp 10.1.0.5:40000 > 192.0.2.7:443 from lan to wan syn ack",
            "udp [2001:db8::5]:5000 > [2001:db8::7]:53 from lan",
            "icmp 10.1.0.5 > 192.0.2.7 to local type 8",
            "icmp 10.1.0.5 > 192.0.2.7 type 3 code 4",
            "icmpv6 2001:db8::5 > 2001:db8::7 type 128",
            "gre 10.1.0.5 > 192.0.2.7",
            "udp 10.1.0.5:1 > 192.0.2.7:2 from lan dscp 46 mac 02:00:5e:00:53:01",
        ] {
            assert_eq!(text.parse::<Description>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_source_may_leave_its_port_out_and_spaces_do_not_matter() {
        let short: Description = "tcp 10.1.0.5>192.0.2.7:443".parse().unwrap();
        assert_eq!(short.to_string(), "tcp 10.1.0.5:49152 > 192.0.2.7:443");
        let v6: Description = "udp 2001:db8::5 > [2001:db8::7]:53".parse().unwrap();
        assert_eq!(v6.packet.source_port, SOME_PORT);
    }

    #[test]
    fn what_is_no_packet_is_refused_with_what_would_be() {
        for (text, part) in [
            ("", "tcp, udp"),
            ("http 10.0.0.1 > 10.0.0.2", "tcp, udp"),
            ("tcp 10.0.0.1:1 10.0.0.2:2", "between"),
            ("tcp 10.0.0.1:1 > 10.0.0.2", "a port"),
            ("icmp 10.0.0.1:1 > 10.0.0.2", "without a port"),
            ("tcp 10.0.0.1:1 > [::1]:2", "one family"),
            ("icmpv6 10.0.0.1 > 10.0.0.2", "icmpv6 with IPv6"),
            ("udp 10.0.0.1:1 > 10.0.0.2:2 syn", "with tcp"),
            ("udp 10.0.0.1:1 > 10.0.0.2:2 type 8", "with icmp"),
            ("icmp 10.0.0.1 > 10.0.0.2 type 256", "a number to 255"),
            ("tcp 10.0.0.1:1 > 10.0.0.2:2 from", "a zone"),
            ("tcp 10.0.0.1:1 > 10.0.0.2:70000", "a port"),
            ("udp 10.0.0.1:1 > 10.0.0.2:2 dscp 64", "to 63"),
            ("udp 10.0.0.1:1 > 10.0.0.2:2 mac 02:00", "Ethernet"),
            ("256 10.0.0.1 > 10.0.0.2", "a number first"),
        ] {
            let error = text.parse::<Description>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
