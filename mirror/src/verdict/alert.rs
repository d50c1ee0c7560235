//! What a sensor says.

use std::net::SocketAddr;

use serde::Serialize;

/// Longest text of an alert that is kept, in bytes: signatures are shorter, and outsiders write some.
const TEXT_MAX: usize = 512;

/// An alert of an intrusion detection system.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Alert {
    /// When, in the sensor's words; empty if it says nothing.
    pub at: String,
    /// Number of the signature; 0 if it has none.
    pub signature_id: u32,
    /// The signature, for people.
    pub signature: String,
    /// Category, in the sensor's words.
    pub category: String,
    /// 1 is the gravest, 255 the least.
    pub severity: u8,
    /// The flow it is about.
    #[serde(flatten)]
    pub ends: Ends,
}

/// A flow as a sensor sees it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
pub struct Ends {
    /// IP protocol number.
    pub protocol: u8,
    /// Who began the flow, as far as the sensor knows. Port 0 for protocols without ports.
    pub client: SocketAddr,
    /// The other end.
    pub server: SocketAddr,
}

/// A text that is no alert.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// It is no JSON, or lacks a field.
    #[error("read the alert: {0}")]
    Json(#[from] serde_json::Error),
    /// A field says nothing that can be used.
    #[error("read the alert: {field}: found {found:?}, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// The IP protocol number of a name (IANA) or a number.
pub(super) fn protocol(name: &str) -> Result<u8, AlertError> {
    match name.to_ascii_uppercase().as_str() {
        "TCP" => Ok(6),
        "UDP" => Ok(17),
        "ICMP" => Ok(1),
        "IPV6-ICMP" | "ICMPV6" => Ok(58),
        "SCTP" => Ok(132),
        number => number.parse().map_err(|_no_number| AlertError::Field {
            field: "proto",
            found: kept(name),
            expected: "TCP, UDP, ICMP, IPv6-ICMP, SCTP or a number up to 255",
        }),
    }
}

/// A severity as sensors write it; what is beyond the range counts as the least.
pub(super) fn severity(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX).max(1)
}

/// A text of outsiders, without what would disturb a terminal or a log, and not too long.
pub(super) fn kept(text: &str) -> String {
    let mut kept = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if kept.len() + character.len_utf8() > TEXT_MAX {
            break;
        }
        kept.push(character);
    }
    kept
}
