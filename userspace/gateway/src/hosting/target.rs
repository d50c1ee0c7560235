//! Which server a dial is for: what the configuration fixes, and what it lets the dialing end choose.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use nightgate_model::configs::{
    AddressPattern, Choice, DialedAddresses, HostV1, PortRange, Protocol,
};
use serde_json::{Map, Value};

/// What the dialing end tells of the connection that it carries: OpenZiti's application data of tunnelers, JSON
/// with text values.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DialData {
    protocol: Option<String>,
    hostname: Option<String>,
    ip: Option<String>,
    port: Option<String>,
    source: Option<String>,
    source_port: Option<String>,
}

/// A server to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// By which protocol.
    pub protocol: Protocol,
    /// Where it is: a name or an IP address.
    pub address: String,
    /// At which port.
    pub port: u16,
    /// Source address and port that the connection gets, and port 0 for any; the host's own if absent.
    pub source: Option<SocketAddr>,
}

/// A dial for a server that the configuration does not let it choose.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// The dialing end did not say what it wants.
    #[error("the dial names no {0}, expected a dialer that tells what it carries")]
    Missing(&'static str),
    /// It wants something else than it may.
    #[error("the dial is for {what} {found}, which {key} does not allow")]
    Forbidden {
        /// What it chooses.
        what: &'static str,
        /// What it wants.
        found: String,
        /// What decides.
        key: &'static str,
    },
}

impl DialData {
    /// Reads what a dialer told; what cannot be read counts as not told.
    pub fn read(app_data: &[u8]) -> Self {
        let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(app_data) else {
            return Self::default();
        };
        let text = |key: &str| {
            let text = fields.get(key)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        Self {
            protocol: text("dst_protocol"),
            hostname: text("dst_hostname"),
            ip: text("dst_ip"),
            port: text("dst_port"),
            source: text("source_addr"),
            source_port: text("src_port"),
        }
    }

    /// The source that it asks for. IPv6 addresses may come with a port but without brackets, so a port at the
    /// end is one if it is that of the client.
    fn source(&self) -> Option<Option<SocketAddr>> {
        let text = self.source.as_deref()?;
        let client = self.source_port.as_deref().and_then(|port| {
            let address = text.strip_suffix(port)?.strip_suffix(':')?;
            let address = address.trim_start_matches('[').trim_end_matches(']');
            Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
        });
        let address = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0));
        Some(client.or_else(|| text.parse().ok()).or_else(address))
    }
}

impl Target {
    /// The server of `host` that a dial with this data is for.
    ///
    /// # Errors
    /// The dial wants what it may not, or does not say what it wants.
    pub fn choose(host: &HostV1, data: &DialData) -> Result<Self, TargetError> {
        Ok(Self {
            protocol: protocol(&host.protocol, data)?,
            address: address(&host.address, data)?,
            port: port(&host.port, data)?,
            source: source(&host.sources, data)?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port, .. } = self;
        if address.contains(':') {
            write!(f, "[{address}]:{port}")
        } else {
            write!(f, "{address}:{port}")
        }
    }
}

fn protocol(
    choice: &Choice<Protocol, Vec<Protocol>>,
    data: &DialData,
) -> Result<Protocol, TargetError> {
    let allowed = match choice {
        Choice::Fixed(protocol) => return Ok(*protocol),
        Choice::Dialed(allowed) => allowed,
    };
    let found = data.protocol.as_deref().ok_or(TargetError::Missing("dst_protocol"))?;
    let wanted = match found {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    };
    wanted
        .filter(|wanted| allowed.contains(wanted))
        .ok_or_else(|| forbidden("protocol", found, "allowedProtocols"))
}

/// A name that was dialed goes before the address that it has at the dialing end, which means nothing here.
fn address(
    choice: &Choice<String, DialedAddresses>,
    data: &DialData,
) -> Result<String, TargetError> {
    let DialedAddresses { allowed, translations } = match choice {
        Choice::Fixed(address) => return Ok(address.clone()),
        Choice::Dialed(addresses) => addresses,
    };
    let dialed = data.hostname.as_deref().or(data.ip.as_deref());
    let dialed = dialed.ok_or(TargetError::Missing("dst_hostname or dst_ip"))?;
    let refused = || forbidden("address", dialed, "allowedAddresses");
    let Ok(address) = dialed.parse::<IpAddr>() else {
        let name = dialed.strip_suffix('.').unwrap_or(dialed);
        return match allowed.iter().any(|pattern| pattern.matches_name(name)) {
            true => Ok(name.to_ascii_lowercase()),
            false => Err(refused()),
        };
    };
    if !allowed.iter().any(|pattern| pattern.matches_ip(address)) {
        return Err(refused());
    }
    let translated = translations.iter().find_map(|it| it.from.onto(address, it.to));
    Ok(translated.unwrap_or(address).to_string())
}

fn port(choice: &Choice<u16, Vec<PortRange>>, data: &DialData) -> Result<u16, TargetError> {
    let ranges = match choice {
        Choice::Fixed(port) => return Ok(*port),
        Choice::Dialed(ranges) => ranges,
    };
    let found = data.port.as_deref().ok_or(TargetError::Missing("dst_port"))?;
    let port = found.parse::<u16>().ok();
    port.filter(|port| ranges.iter().any(|range| (range.low..=range.high).contains(port)))
        .ok_or_else(|| forbidden("port", found, "allowedPortRanges"))
}

fn source(allowed: &[AddressPattern], data: &DialData) -> Result<Option<SocketAddr>, TargetError> {
    // Without a list, hosts connect from their own address whatever the dialer would like.
    let (Some(source), false) = (data.source(), allowed.is_empty()) else { return Ok(None) };
    let found = data.source.as_deref().unwrap_or_default();
    source
        .filter(|source| allowed.iter().any(|pattern| pattern.matches_ip(source.ip())))
        .map(Some)
        .ok_or_else(|| forbidden("source address", found, "allowedSourceAddresses"))
}

fn forbidden(what: &'static str, found: &str, key: &'static str) -> TargetError {
    // The dialer's words go into logs.
    let found = found.chars().take(255).collect::<String>().escape_debug().to_string();
    TargetError::Forbidden { what, found, key }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dialed() -> HostV1 {
        serde_json::from_value(json!({
            "forwardProtocol": true, "allowedProtocols": ["tcp"],
            "forwardAddress": true, "allowedAddresses": ["10.0.0.0/8", "fd00::/16", "*.corp"],
            "forwardAddressTranslations":
                [{ "from": "10.1.0.0", "to": "192.168.0.0", "prefixLength": 16 }],
            "forwardPort": true, "allowedPortRanges": [{ "low": 80, "high": 90 }],
            "allowedSourceAddresses": ["10.9.0.0/16", "fd09::/16"],
        }))
        .unwrap()
    }

    fn choose(data: Value) -> Result<Target, TargetError> {
        Target::choose(&dialed(), &DialData::read(data.to_string().as_bytes()))
    }

    #[test]
    fn a_fixed_server_needs_nothing_from_the_dialer() {
        let document = HostV1::document(Protocol::Udp, "fd00::2", 53);
        let host = serde_json::from_value(document).unwrap();
        for data in [&b""[..], b"not JSON", b"[1]", br#"{"dst_port":"7","dst_ip":"1.1.1.1"}"#] {
            let target = Target::choose(&host, &DialData::read(data)).unwrap();
            assert_eq!(
                (target.protocol, target.to_string().as_str()),
                (Protocol::Udp, "[fd00::2]:53")
            );
            assert_eq!(target.source, None);
        }
    }

    #[test]
    fn the_dialer_chooses_what_is_allowed() {
        for (key, address, expected) in [
            ("dst_ip", "10.7.0.1", "10.7.0.1:80"),
            ("dst_ip", "10.1.2.3", "192.168.2.3:80"),
            ("dst_ip", "fd00::2", "[fd00::2]:80"),
            ("dst_hostname", "Db.Corp.", "db.corp:80"),
        ] {
            let target = choose(json!({ "dst_protocol": "tcp", key: address, "dst_port": "80" }));
            assert_eq!(target.unwrap().to_string(), expected);
        }
    }

    #[test]
    fn and_nothing_else() {
        let with = |key: &str, value: &str| {
            let mut data = json!({ "dst_protocol": "tcp", "dst_ip": "10.7.0.1", "dst_port": "80" });
            data[key] = value.into();
            choose(data).unwrap_err().to_string()
        };
        assert!(with("dst_protocol", "udp").contains("allowedProtocols"));
        assert!(with("dst_ip", "11.0.0.1").contains("address 11.0.0.1"));
        assert!(with("dst_hostname", "db.elsewhere").contains("allowedAddresses"));
        assert!(with("dst_port", "91").contains("allowedPortRanges"));
        assert!(with("dst_port", "-1").contains("allowedPortRanges"));
        assert!(with("source_addr", "11.0.0.1").contains("allowedSourceAddresses"));
        assert!(with("source_addr", "\n").contains("allowedSourceAddresses"));
        assert_eq!(choose(json!({})), Err(TargetError::Missing("dst_protocol")));
    }

    #[test]
    fn the_source_may_come_with_the_clients_port() {
        let source = |address: &str| {
            let target = choose(json!({
                "dst_protocol": "tcp", "dst_ip": "10.7.0.1", "dst_port": "80",
                "source_addr": address, "src_port": "4711",
            }));
            target.unwrap().source.unwrap().to_string()
        };
        assert_eq!(source("10.9.0.1"), "10.9.0.1:0");
        assert_eq!(source("10.9.0.1:4711"), "10.9.0.1:4711");
        assert_eq!(source("10.9.0.1:99"), "10.9.0.1:99");
        assert_eq!(source("fd09::1"), "[fd09::1]:0");
        assert_eq!(source("fd09::1:4711"), "[fd09::1]:4711");
        assert_eq!(source("[fd09::1]:4711"), "[fd09::1]:4711");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_reach_a_server_outside_of_the_lists(
            ip in proptest::prelude::any::<IpAddr>(), port: u16, name in ".{0,12}", named: bool,
        ) {
            let key = if named { "dst_hostname" } else { "dst_ip" };
            let address = if named { name } else { ip.to_string() };
            let data = json!({ "dst_protocol": "tcp", key: address, "dst_port": port.to_string() });
            if let Ok(target) = choose(data) {
                proptest::prop_assert!((80..=90).contains(&target.port));
                let inside = match target.address.parse::<IpAddr>() {
                    Ok(IpAddr::V4(v4)) => v4.octets()[0] == 10 || v4.octets()[..2] == [192, 168],
                    Ok(IpAddr::V6(v6)) => v6.segments()[0] == 0xfd00,
                    Err(_) => target.address.ends_with(".corp"),
                };
                proptest::prop_assert!(inside, "{target}");
            }
        }
    }
}
