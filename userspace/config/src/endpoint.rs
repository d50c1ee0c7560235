//! Host and port.

use std::fmt;

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

/// A host name or address, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port, not 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
        decode::checked(reader, node, |text| {
            Self::check(text).ok_or_else(|| {
                Malformed::new(
                    "a host name or address and a port",
                    "write router.example:443, 192.0.2.1:443 or [2001:db8::1]:443",
                )
            })
        })
    }

    fn check(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']')?;
                inner.parse::<std::net::Ipv6Addr>().ok()?;
                inner
            }
            None => host,
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_host = !host.is_empty() && (host.chars().all(is_name) || text.starts_with('['));
        is_host.then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_both_families_are_told_apart() {
        for (text, host) in [
            ("a.example:443", "a.example"),
            ("192.0.2.1:1", "192.0.2.1"),
            ("[2001:db8::1]:9", "2001:db8::1"),
        ] {
            let endpoint = Endpoint::check(text).unwrap();
            assert_eq!(endpoint.host(), host);
            assert_eq!(endpoint.to_string(), text);
        }
        for text in ["a.example", "a:0", ":443", "2001:db8::1:443", "[x]:1", "a b:1", "a:70000"] {
            assert_eq!(Endpoint::check(text), None, "{text}");
        }
    }
}
