//! `host:port`, as others reach us or a router.

use std::{fmt, str::FromStr};

use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

/// A host name or address, and a port. IPv6 addresses are written in brackets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct Address {
    host: ServerName<'static>,
    port: u16,
}

/// Text that is not `host:port`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("address {0:?}: expected HOST:PORT, for example ctrl.example:443 or [2001:db8::1]:443")]
pub struct AddressError(String);

impl Address {
    /// The host.
    pub fn host(&self) -> &ServerName<'static> {
        &self.host
    }

    /// The port, not 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).ok_or_else(|| AddressError(text.into()))
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.to_str();
        if host.contains(':') {
            write!(f, "[{host}]:{}", self.port)
        } else {
            write!(f, "{host}:{}", self.port)
        }
    }
}

fn parse(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port != 0)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(host) if host.contains(':') => host,
        None if !host.contains(':') => host,
        Some(_) | None => return None,
    };
    let host = ServerName::try_from(host).ok()?.to_owned();
    Some(Address { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_both_families_survive() {
        for text in ["ctrl.example:443", "192.0.2.1:1280", "[2001:db8::1]:443"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "host",
            "host:",
            ":443",
            "host:0",
            "host:70000",
            "2001:db8::1:443",
            "[host]:1",
            "a b:1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
