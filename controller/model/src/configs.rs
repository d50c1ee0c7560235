//! The built-in service configurations: `intercept.v1`, `host.v1` and `host.v2` in OpenZiti's shapes, and our own
//! `end-to-end.v1` and `mirror.v1`.

mod check;
mod duration;
mod host;
mod pattern;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::entity::Service;

pub use check::{Check, Effect, HealthAction, HttpMethod, HttpProbe, MIN_INTERVAL, Probe, Trigger};
pub use host::{Choice, DialedAddresses, HostV1, HostV2, ListenOptions, Translation};
pub use pattern::{AddressPattern, AddressPatternError, IpPrefix};

/// Names and JSON schemas (draft 7) of the built-in config types.
pub const BUILT_IN: [(&str, &str); 5] = [
    (InterceptV1::TYPE, include_str!("schema/intercept.v1.json")),
    (HostV1::TYPE, include_str!("schema/host.v1.json")),
    (HostV2::TYPE, include_str!("schema/host.v2.json")),
    (EndToEndV1::TYPE, include_str!("schema/end-to-end.v1.json")),
    (MirrorV1::TYPE, include_str!("schema/mirror.v1.json")),
];

/// Copies of a service's plaintext for a sensor of the gateways and tunnelers that intercept or host it: config type
/// `mirror.v1`. Its keys are those of a session in their own files, which read it; `expires` is required, `gateways` and
/// `tunnelers` name those that it is for.
#[derive(Clone, Copy, Debug)]
pub struct MirrorV1;

impl MirrorV1 {
    /// Config type name.
    pub const TYPE: &'static str = "mirror.v1";

    const GATEWAYS: &'static str = "gateways";
    const TUNNELERS: &'static str = "tunnelers";

    /// What a document says to a gateway of this name; `None` if it is not for that: it names others, or tunnelers alone.
    pub fn for_gateway(document: &Value, name: &str) -> Option<Map<String, Value>> {
        let document = document.as_object()?;
        let is_for = match document.get(Self::GATEWAYS) {
            Some(gateways) => names(gateways, name),
            None => !document.contains_key(Self::TUNNELERS),
        };
        is_for.then(|| Self::without_names(document))
    }

    /// What a document says to the tunneler of an identity of this name; `None` if it does not name that.
    pub fn for_tunneler(document: &Value, name: &str) -> Option<Map<String, Value>> {
        let document = document.as_object()?;
        let is_for = names(document.get(Self::TUNNELERS)?, name);
        is_for.then(|| Self::without_names(document))
    }

    fn without_names(document: &Map<String, Value>) -> Map<String, Value> {
        let mut document = document.clone();
        document.remove(Self::GATEWAYS);
        document.remove(Self::TUNNELERS);
        document
    }
}

fn names(list: &Value, name: &str) -> bool {
    list.as_array().into_iter().flatten().any(|known| known == name)
}

/// Transport protocol of an intercepted or hosted service.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// IP protocol number (IANA).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// First port.
    pub low: u16,
    /// Last port; not below `low`.
    pub high: u16,
}

/// Where a tunneler or gateway intercepts a service: config type `intercept.v1`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InterceptV1 {
    /// Intercepted protocols.
    pub protocols: Vec<Protocol>,
    /// Host names and wildcards (answered by the private DNS), addresses and CIDRs.
    pub addresses: Vec<String>,
    /// Intercepted ports.
    pub port_ranges: Vec<PortRange>,
    /// How the service is dialed.
    #[serde(default, skip_serializing_if = "DialOptions::is_default")]
    pub dial_options: DialOptions,
    /// Template of what the host is told as the client's address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<String>,
    /// Addresses and CIDRs of the clients that may use the service by this intercept; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_source_addresses: Vec<String>,
}

/// How an intercepted service is dialed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DialOptions {
    /// Template of the instance name that terminators have to have; none for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Seconds until a dial is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_seconds: Option<u32>,
}

impl DialOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl InterceptV1 {
    /// Config type name.
    pub const TYPE: &'static str = "intercept.v1";
}

/// Which methods of end-to-end encryption the ends of a service take: config type `end-to-end.v1`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EndToEndV1 {
    /// The method.
    pub method: EndToEndMethod,
    /// Whether a dial may carry data, which the host may get a second time when the dial is tried again.
    #[serde(default)]
    pub early_data: bool,
}

/// Our own method of end-to-end encryption, as clients that speak it name it when they authenticate.
pub const NATIVE_METHOD: &str = "nightgate-e2e-1";

/// Methods of end-to-end encryption.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndToEndMethod {
    /// Our own between ends that have it, OpenZiti's with others.
    Negotiated,
    /// Our own alone: both ends refuse circuits whose other end proves no identity.
    Native,
    /// Our own between ends that have it; with hosts that do not, OpenZiti's in the form for clients that were
    /// started with AES-GCM, which cannot be recognised by anything they say.
    AesGcm,
}

impl EndToEndV1 {
    /// Config type name.
    pub const TYPE: &'static str = "end-to-end.v1";

    /// The method that the configs of a service, by type, ask for. A document that cannot be read asks for our
    /// own alone, for it was meant to restrict.
    pub fn method_of(configs: &BTreeMap<String, Value>) -> EndToEndMethod {
        configs.get(Self::TYPE).map_or(EndToEndMethod::Negotiated, |document| {
            Self::deserialize(document).map_or(EndToEndMethod::Native, |config| config.method)
        })
    }

    /// Whether the configs of a service, by type, let a dial carry data.
    pub fn allows_early_data(configs: &BTreeMap<String, Value>) -> bool {
        let config = configs.get(Self::TYPE).map(Self::deserialize);
        config.is_some_and(|config| config.is_ok_and(|config| config.early_data))
    }
}

/// A configuration document that does not have the shape of its type.
#[derive(Debug, thiserror::Error)]
#[error("service {service}: config {kind}: {source}")]
pub struct ConfigShapeError {
    service: String,
    kind: &'static str,
    source: serde_json::Error,
}

impl Service {
    /// The service's `intercept.v1`, if it has one.
    ///
    /// # Errors
    /// The document does not have the shape of the type.
    pub fn intercept(&self) -> Result<Option<InterceptV1>, ConfigShapeError> {
        self.typed_config(InterceptV1::TYPE)
    }

    /// The servers that the service is hosted at: [`hosts`].
    ///
    /// # Errors
    /// The document does not have the shape of the type.
    pub fn hosts(&self) -> Result<Vec<HostV1>, ConfigShapeError> {
        hosts(&self.name, &self.config)
    }

    fn typed_config<T: DeserializeOwned>(
        &self,
        kind: &'static str,
    ) -> Result<Option<T>, ConfigShapeError> {
        typed(&self.name, &self.config, kind)
    }
}

/// The servers that a service of this name and these documents by type is hosted at, each with a terminator of its own:
/// those of its `host.v2`, or the one of its `host.v1`; empty if it has neither.
///
/// # Errors
/// The document does not have the shape of the type.
pub fn hosts(
    service: &str,
    config: &BTreeMap<String, Value>,
) -> Result<Vec<HostV1>, ConfigShapeError> {
    if let Some(host) = typed::<HostV2>(service, config, HostV2::TYPE)? {
        return Ok(host.terminators);
    }
    Ok(typed(service, config, HostV1::TYPE)?.into_iter().collect())
}

fn typed<T: DeserializeOwned>(
    service: &str,
    config: &BTreeMap<String, Value>,
    kind: &'static str,
) -> Result<Option<T>, ConfigShapeError> {
    config
        .get(kind)
        .map(|document| serde_json::from_value(document.clone()))
        .transpose()
        .map_err(|source| ConfigShapeError { service: service.to_owned(), kind, source })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_cannot_be_read_restricts() {
        let method = |document: Value| {
            EndToEndV1::method_of(&[(EndToEndV1::TYPE.to_owned(), document)].into())
        };
        assert_eq!(EndToEndV1::method_of(&BTreeMap::new()), EndToEndMethod::Negotiated);
        assert_eq!(method(json!({ "method": "negotiated" })), EndToEndMethod::Negotiated);
        assert_eq!(method(json!({ "method": "native" })), EndToEndMethod::Native);
        assert_eq!(method(json!({ "method": "aes-gcm" })), EndToEndMethod::AesGcm);
        assert_eq!(method(json!({ "method": "of the future" })), EndToEndMethod::Native);
        assert_eq!(method(json!(7)), EndToEndMethod::Native);
        let early = |document: Value| {
            EndToEndV1::allows_early_data(&[(EndToEndV1::TYPE.to_owned(), document)].into())
        };
        assert!(early(json!({ "method": "native", "earlyData": true })));
        for document in [
            json!({ "method": "native" }),
            json!({ "method": "native", "earlyData": 1 }),
            json!({ "method": "of the future", "earlyData": true }),
        ] {
            assert!(!early(document));
        }
    }
}
