//! Alerts of other sensors, in a format of our own.

use std::net::SocketAddr;

use serde::Deserialize;

use super::alert::{Alert, AlertError, Ends, kept, protocol, severity};

/// Body of a call: what happened, and between whom.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    #[serde(default)]
    at: String,
    #[serde(default)]
    signature_id: u32,
    signature: String,
    #[serde(default)]
    category: String,
    severity: u64,
    protocol: String,
    client: SocketAddr,
    server: SocketAddr,
}

impl Alert {
    /// Reads the body of a call of the webhook.
    ///
    /// # Errors
    /// It is no alert.
    pub fn from_webhook(body: &str) -> Result<Self, AlertError> {
        let call: Call = serde_json::from_str(body)?;
        Ok(Self {
            at: kept(&call.at),
            signature_id: call.signature_id,
            signature: kept(&call.signature),
            category: kept(&call.category),
            severity: severity(call.severity),
            ends: Ends {
                protocol: protocol(&call.protocol)?,
                client: call.client,
                server: call.server,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_call_says_what_happened_between_whom() {
        let body = r#"{"signature":"odd","severity":1,"protocol":"tcp","client":"10.1.0.2:4","server":"[fd77::1]:80"}"#;
        let alert = Alert::from_webhook(body).unwrap();
        assert_eq!((alert.signature.as_str(), alert.severity, alert.ends.protocol), ("odd", 1, 6));
        assert_eq!(alert.ends.client, "10.1.0.2:4".parse().unwrap());
        let error = Alert::from_webhook(&body.replace("severity", "gravity")).unwrap_err();
        assert!(error.to_string().contains("gravity"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_an_alert_or_an_error(text: String) {
            drop(Alert::from_webhook(&text));
        }
    }
}
