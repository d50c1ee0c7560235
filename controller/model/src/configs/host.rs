//! `host.v1` and `host.v2`: where the hosting end of a service connects to.

use std::{fmt, time::Duration};

use serde::Deserialize;

use super::{AddressPattern, AddressPatternError, Check, IpPrefix, PortRange, Protocol, duration};
use crate::entity::Precedence;

/// One server, or a range of servers that the dialer chooses from: config type `host.v1`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Document")]
pub struct HostV1 {
    /// Protocol to the server.
    pub protocol: Choice<Protocol, Vec<Protocol>>,
    /// Host name or address of the server.
    pub address: Choice<String, DialedAddresses>,
    /// Port of the server.
    pub port: Choice<u16, Vec<PortRange>>,
    /// Source addresses that the dialing end may ask for; empty if the host uses its own.
    pub sources: Vec<AddressPattern>,
    /// How it is hosted.
    pub listen: ListenOptions,
    /// `host:port` of an HTTP proxy (CONNECT, RFC 9110 section 9.3.6) through which servers are connected.
    pub proxy: Option<String>,
    /// What tells whether the server is well.
    pub checks: Vec<Check>,
}

/// Who decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Choice<F, D> {
    /// This configuration.
    Fixed(F),
    /// The dialing end, among these.
    Dialed(D),
}

/// Addresses that a dialing end may choose from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DialedAddresses {
    /// What it may ask for.
    pub allowed: Vec<AddressPattern>,
    /// What is connected instead; the first that fits.
    pub translations: Vec<Translation>,
}

/// Addresses that stand for others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Translation {
    /// What was dialed.
    pub from: IpPrefix,
    /// Whose first bits the address gets.
    pub to: std::net::IpAddr,
}

/// How a server is hosted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenOptions {
    /// Cost while the server is well, 0 to 65535.
    #[serde(default)]
    pub cost: u16,
    /// Precedence while the server is well.
    #[serde(default)]
    pub precedence: Precedence,
    /// At how many routers a client hosts it, 1 to 65535.
    #[serde(default)]
    pub max_connections: Option<u16>,
    /// Longest wait for the server.
    #[serde(default, deserialize_with = "duration::deserialize_option")]
    pub connect_timeout: Option<Duration>,
    /// The same in seconds; counts if [`Self::connect_timeout`] is absent.
    #[serde(default)]
    pub connect_timeout_seconds: Option<u32>,
    /// Instance name; `$tunneler_id.name` in it stands for the name of the hosting identity.
    #[serde(default)]
    pub identity: Option<String>,
    /// The instance name is that of the hosting identity.
    #[serde(default)]
    pub bind_using_edge_identity: bool,
}

/// Several servers, each with a terminator of its own: config type `host.v2`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct HostV2 {
    /// The servers.
    pub terminators: Vec<HostV1>,
}

/// A `host.v1` whose fields do not go together.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error(
        "{fixed}, {forward} and {allowed}: expected {fixed} alone, or {forward} true and {allowed}"
    )]
    Choice { fixed: &'static str, forward: &'static str, allowed: &'static str },
    #[error("{key}: {source}")]
    Address { key: &'static str, source: AddressPatternError },
    #[error(
        "forwardAddressTranslations: {from} to {to} with prefixLength {length}, expected two addresses of one \
         family and a length that they have"
    )]
    Translation { from: String, to: String, length: u8 },
    #[error("{key}: {detail}")]
    Check { key: &'static str, detail: String },
}

impl HostV1 {
    /// Config type name.
    pub const TYPE: &'static str = "host.v1";

    /// The document of a host with one server.
    pub fn document(protocol: Protocol, address: &str, port: u16) -> serde_json::Value {
        serde_json::json!({ "protocol": protocol, "address": address, "port": port })
    }
}

impl fmt::Display for HostV1 {
    /// `address:port`, with an IPv6 address in brackets; `*` for what the dialing end chooses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Choice::Fixed(address) if address.contains(':') => write!(f, "[{address}]")?,
            Choice::Fixed(address) => f.write_str(address)?,
            Choice::Dialed(_) => f.write_str("*")?,
        }
        match &self.port {
            Choice::Fixed(port) => write!(f, ":{port}"),
            Choice::Dialed(_) => f.write_str(":*"),
        }
    }
}

impl HostV2 {
    /// Config type name.
    pub const TYPE: &'static str = "host.v2";
}

impl ListenOptions {
    /// Longest wait for the server, if one is given.
    pub fn timeout(&self) -> Option<Duration> {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        self.connect_timeout.or_else(|| self.connect_timeout_seconds.map(seconds))
    }

    /// The instance name under which `identity` hosts; empty for none.
    pub fn instance(&self, identity: &str) -> String {
        match &self.identity {
            _ if self.bind_using_edge_identity => identity.to_owned(),
            Some(name) => name.replace("$tunneler_id.name", identity),
            None => String::new(),
        }
    }
}

/// The document as OpenZiti writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    protocol: Option<Protocol>,
    #[serde(default)]
    forward_protocol: bool,
    allowed_protocols: Option<Vec<Protocol>>,
    address: Option<String>,
    #[serde(default)]
    forward_address: bool,
    allowed_addresses: Option<Vec<String>>,
    #[serde(default)]
    forward_address_translations: Vec<TranslationDocument>,
    port: Option<u16>,
    #[serde(default)]
    forward_port: bool,
    allowed_port_ranges: Option<Vec<PortRange>>,
    #[serde(default)]
    allowed_source_addresses: Vec<String>,
    #[serde(default)]
    listen_options: ListenOptions,
    proxy: Option<ProxyDocument>,
    #[serde(default)]
    port_checks: Vec<super::check::PortDocument>,
    #[serde(default)]
    http_checks: Vec<super::check::HttpDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TranslationDocument {
    from: String,
    to: String,
    prefix_length: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProxyDocument {
    #[serde(rename = "type")]
    _type: ProxyType,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProxyType {
    Http,
}

impl TryFrom<Document> for HostV1 {
    type Error = HostError;

    fn try_from(document: Document) -> Result<Self, HostError> {
        let addresses = document
            .allowed_addresses
            .map(|allowed| patterns("allowedAddresses", &allowed))
            .transpose()?;
        let translations = document.forward_address_translations.iter();
        let translations = translations.map(Translation::try_from).collect::<Result<_, _>>()?;
        let addresses = addresses.map(|allowed| DialedAddresses { allowed, translations });
        let protocols = document.allowed_protocols;
        let ports = document.allowed_port_ranges;
        let checks = super::check::checks(document.port_checks, document.http_checks)
            .map_err(|(key, detail)| HostError::Check { key, detail })?;
        Ok(Self {
            protocol: choice(
                (document.protocol, document.forward_protocol, protocols),
                ["protocol", "forwardProtocol", "allowedProtocols"],
            )?,
            address: choice(
                (document.address, document.forward_address, addresses),
                ["address", "forwardAddress", "allowedAddresses"],
            )?,
            port: choice(
                (document.port, document.forward_port, ports),
                ["port", "forwardPort", "allowedPortRanges"],
            )?,
            sources: patterns("allowedSourceAddresses", &document.allowed_source_addresses)?,
            listen: document.listen_options,
            proxy: document.proxy.map(|proxy| proxy.address),
            checks,
        })
    }
}

fn choice<F, D>(
    values: (Option<F>, bool, Option<D>),
    [fixed, forward, allowed]: [&'static str; 3],
) -> Result<Choice<F, D>, HostError> {
    match values {
        (Some(fixed), false, None) => Ok(Choice::Fixed(fixed)),
        (None, true, Some(allowed)) => Ok(Choice::Dialed(allowed)),
        _ => Err(HostError::Choice { fixed, forward, allowed }),
    }
}

fn patterns(key: &'static str, texts: &[String]) -> Result<Vec<AddressPattern>, HostError> {
    let parse = |text: &String| AddressPattern::parse(text);
    texts
        .iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .map_err(|source| HostError::Address { key, source })
}

impl TryFrom<&TranslationDocument> for Translation {
    type Error = HostError;

    fn try_from(document: &TranslationDocument) -> Result<Self, HostError> {
        let TranslationDocument { from, to, prefix_length: length } = document;
        let wrong =
            || HostError::Translation { from: from.clone(), to: to.clone(), length: *length };
        let address = |text: &str| text.parse::<std::net::IpAddr>().ok();
        let (first, to) = address(from).zip(address(to)).ok_or_else(wrong)?;
        let from = IpPrefix::new(first, *length).ok_or_else(wrong)?;
        from.onto(first, to).ok_or_else(wrong)?;
        Ok(Self { from, to })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(document: Value) -> Result<HostV1, String> {
        serde_json::from_value(document).map_err(|error| error.to_string())
    }

    #[test]
    fn a_fixed_server_is_read() {
        let host = read(HostV1::document(Protocol::Tcp, "db.corp", 5432)).unwrap();

        assert_eq!(host.protocol, Choice::Fixed(Protocol::Tcp));
        assert_eq!(host.address, Choice::Fixed("db.corp".to_owned()));
        assert_eq!(host.port, Choice::Fixed(5432));
        assert_eq!(host.listen, ListenOptions::default());
    }

    #[test]
    fn every_form_is_read() {
        let host = read(json!({
            "forwardProtocol": true, "allowedProtocols": ["tcp", "udp"],
            "forwardAddress": true, "allowedAddresses": ["10.0.0.0/8", "*.corp"],
            "forwardAddressTranslations":
                [{ "from": "10.1.0.0", "to": "192.168.0.0", "prefixLength": 16 }],
            "forwardPort": true, "allowedPortRanges": [{ "low": 1, "high": 1024 }],
            "allowedSourceAddresses": ["10.9.0.0/16"],
            "listenOptions": {
                "cost": 7, "precedence": "required", "connectTimeoutSeconds": 3,
                "identity": "at-$tunneler_id.name",
            },
            "proxy": { "type": "http", "address": "proxy.corp:3128" },
        }))
        .unwrap();

        let Choice::Dialed(addresses) = &host.address else { panic!("{host:?}") };
        assert_eq!((addresses.allowed.len(), addresses.translations.len()), (2, 1));
        assert_eq!(host.sources.len(), 1);
        assert_eq!(host.listen.timeout(), Some(Duration::from_secs(3)));
        assert_eq!(host.listen.instance("paris"), "at-paris");
        assert_eq!(host.proxy.as_deref(), Some("proxy.corp:3128"));
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_name() {
        let with = |key: &str, value: Value| {
            let mut document = HostV1::document(Protocol::Tcp, "10.0.0.1", 80);
            document[key] = value;
            read(document).unwrap_err()
        };
        assert!(with("forwardPort", json!(true)).contains("allowedPortRanges"));
        assert!(with("allowedAddresses", json!(["10.0.0.1"])).contains("forwardAddress"));
        assert!(with("allowedSourceAddresses", json!(["*"])).contains("allowedSourceAddresses"));
        assert!(with("adress", json!("x")).contains("adress"));
        let mixed = json!([{ "from": "10.0.0.0", "to": "fd00::", "prefixLength": 8 }]);
        assert!(with("forwardAddressTranslations", mixed).contains("one family"));
    }
}
