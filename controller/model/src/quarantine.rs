//! Identities that are cut off for a while.

use serde::{Deserialize, Serialize};

use crate::id::IdentityId;

/// Longest quarantine, in seconds: 30 days. Longer than this somebody should have looked.
pub const LONGEST: u64 = 30 * 86_400;

/// Longest text of a field that says why, in bytes.
pub const LONGEST_TEXT: usize = 1_024;

/// An identity in quarantine: it is disabled until then, or until it has shown its second factor again, and this says why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    /// Which identity.
    pub identity: IdentityId,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: i64,
    /// Until when, in milliseconds since the Unix epoch.
    pub until: i64,
    /// Why, for people.
    pub reason: String,
    /// Name of the router or administrator that asked for it.
    pub by: String,
    /// A code of its second factor ends it; it can authenticate meanwhile, and nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second_factor: bool,
    /// The alert that it followed from; none if a person decided.
    pub evidence: Option<Evidence>,
}

/// An alert, and what the router that acted on it knows of the flow.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// When, in the sensor's words.
    pub at: String,
    /// Number of the signature.
    pub signature_id: u32,
    /// The signature, for people.
    pub signature: String,
    /// Category, in the sensor's words.
    pub category: String,
    /// 1 is the gravest.
    pub severity: u8,
    /// Name of the service that the flow was of.
    pub service: String,
    /// The circuit that carried it, sixteen hexadecimal digits.
    pub circuit: String,
    /// Who began the flow: `address:port` as the sensor saw it.
    pub client: String,
    /// The other end: `address:port`.
    pub server: String,
}

/// A router's wish to put an identity in quarantine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineRequest {
    /// Which identity.
    pub identity: IdentityId,
    /// For how long, in seconds; at most [`LONGEST`].
    pub seconds: u64,
    /// Why, for people.
    pub reason: String,
    /// If the identity has a second factor, a code of it ends the quarantine, and nothing else does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second_factor: bool,
    /// The alert.
    pub evidence: Option<Evidence>,
}

impl QuarantineRequest {
    /// What comes of it if it begins `now`, in milliseconds since the Unix epoch. Too long texts are cut, a too
    /// long time is shortened.
    pub fn begun(self, now: i64, by: &str) -> Quarantine {
        let seconds = self.seconds.clamp(1, LONGEST);
        let until = now.saturating_add(i64::try_from(seconds * 1_000).unwrap_or(i64::MAX));
        Quarantine {
            identity: self.identity,
            since: now,
            until,
            reason: cut(self.reason),
            second_factor: false,
            by: by.to_owned(),
            evidence: self.evidence.map(Evidence::cut),
        }
    }
}

impl Evidence {
    fn cut(self) -> Self {
        let Self {
            at,
            signature_id,
            signature,
            category,
            severity,
            service,
            circuit,
            client,
            server,
        } = self;
        Self {
            at: cut(at),
            signature_id,
            signature: cut(signature),
            category: cut(category),
            severity,
            service: cut(service),
            circuit: cut(circuit),
            client: cut(client),
            server: cut(server),
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_router_asks_for_is_bounded() {
        let request = QuarantineRequest {
            identity: IdentityId::new("i"),
            seconds: u64::MAX,
            reason: "ä".repeat(1_000),
            second_factor: false,
            evidence: Some(Evidence { signature: "x".repeat(5_000), ..Evidence::default() }),
        };
        let quarantine = request.begun(1_000, "gw");
        assert_eq!(quarantine.until, 1_000 + 30 * 86_400_000);
        assert_eq!(quarantine.reason.len(), 1_024);
        assert_eq!(quarantine.evidence.unwrap().signature.len(), 1_024);
    }
}
