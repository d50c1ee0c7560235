//! How an intercepted service is dialed: what its templates become for one connection.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use nightgate_model::configs::{InterceptV1, Protocol};

use crate::names::HostName;

/// How a service is dialed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DialPlan {
    identity: Option<String>,
    source: Option<String>,
    timeout: Option<Duration>,
}

/// An intercepted connection or flow of datagrams.
#[derive(Clone, Debug)]
pub struct Passage {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who sent its first packet.
    pub client: SocketAddr,
    /// Where that was sent to.
    pub destination: SocketAddr,
    /// The name behind that address, if it is a synthetic one.
    pub name: Option<HostName>,
    /// Name of the identity that dials.
    pub caller: String,
}

/// Until a dial is given up, where the service says nothing else.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that a service may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

impl DialPlan {
    /// As a service's `intercept.v1` wants it.
    pub fn new(intercept: &InterceptV1) -> Self {
        let options = &intercept.dial_options;
        let seconds = options.connect_timeout_seconds.filter(|seconds| *seconds > 0);
        Self {
            identity: options.identity.clone().filter(|identity| !identity.is_empty()),
            source: intercept.source_ip.clone().filter(|source| !source.is_empty()),
            timeout: seconds.map(|seconds| Duration::from_secs(seconds.into()).min(TIMEOUT_MAX)),
        }
    }

    /// Until a dial is given up.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// The instance name that the terminator has to have; empty for any.
    pub fn instance(&self, passage: &Passage) -> String {
        self.identity.as_ref().map_or_else(String::new, |template| passage.expand(template))
    }

    /// What OpenZiti's hosting tunnelers read: JSON with text values only.
    pub fn app_data(&self, passage: &Passage) -> Bytes {
        let mut data = serde_json::Map::new();
        for variable in VARIABLES.iter().filter(|name| !name.contains('.')) {
            if let Some(value) = passage.variable(variable) {
                data.insert((*variable).to_owned(), value.into());
            }
        }
        if let Some(template) = &self.source {
            data.insert("source_addr".to_owned(), passage.expand(template).into());
        }
        Bytes::from(serde_json::Value::Object(data).to_string())
    }
}

/// What templates may name, each behind a `$`. None is the beginning of another.
const VARIABLES: [&str; 8] = [
    "dst_protocol",
    "dst_ip",
    "dst_port",
    "dst_hostname",
    "src_protocol",
    "src_ip",
    "src_port",
    "tunneler_id.name",
];

impl Passage {
    fn variable(&self, name: &str) -> Option<String> {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        Some(match name {
            "dst_protocol" | "src_protocol" => protocol.to_owned(),
            "dst_ip" => self.destination.ip().to_canonical().to_string(),
            "dst_port" => self.destination.port().to_string(),
            "dst_hostname" => return self.name.as_ref().map(ToString::to_string),
            "src_ip" => self.client.ip().to_canonical().to_string(),
            "src_port" => self.client.port().to_string(),
            "tunneler_id.name" => self.caller.clone(),
            _ => return None,
        })
    }

    /// Puts values in the place of variables. One without a value becomes nothing; what is no variable stays.
    fn expand(&self, template: &str) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, behind)) = rest.split_once('$') {
            text.push_str(before);
            match VARIABLES.iter().find(|name| behind.starts_with(**name)) {
                Some(name) => {
                    text.push_str(&self.variable(name).unwrap_or_default());
                    rest = &behind[name.len()..];
                }
                None => {
                    text.push('$');
                    rest = behind;
                }
            }
        }
        text.push_str(rest);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let plan = plan(Some("$dst_hostname:$dst_port"), Some("$src_ip:$src_port"), Some(7));
        assert_eq!(plan.instance(&passage()), "db.corp:5432");
        assert_eq!(plan.timeout(), Duration::from_secs(7));
        let data: serde_json::Value = serde_json::from_slice(&plan.app_data(&passage())).unwrap();
        assert_eq!(
            data,
            serde_json::json!({
                "dst_protocol": "tcp", "dst_ip": "100.64.0.7", "dst_port": "5432", "dst_hostname": "db.corp",
                "src_protocol": "tcp", "src_ip": "10.1.2.3", "src_port": "40000", "source_addr": "10.1.2.3:40000",
            })
        );
    }

    #[test]
    fn what_is_no_variable_stays_and_what_has_no_value_goes() {
        let mut passage = passage();
        passage.name = None;
        let instance = |template| plan(Some(template), None, None).instance(&passage);
        assert_eq!(instance("a$dst_hostname$b$$dst_protocol-$tunneler_id.name$"), "a$b$tcp-gw$");
        assert_eq!(plan(Some(""), None, Some(0)).instance(&passage), "");
        assert_eq!(plan(None, None, Some(0)).timeout(), TIMEOUT);
    }

    fn plan(identity: Option<&str>, source: Option<&str>, seconds: Option<u32>) -> DialPlan {
        let intercept = serde_json::json!({
            "protocols": ["tcp"], "addresses": ["db.corp"], "portRanges": [], "sourceIp": source,
            "dialOptions": { "identity": identity, "connectTimeoutSeconds": seconds },
        });
        DialPlan::new(&serde_json::from_value(intercept).unwrap())
    }

    fn passage() -> Passage {
        Passage {
            protocol: Protocol::Tcp,
            client: "10.1.2.3:40000".parse().unwrap(),
            destination: "100.64.0.7:5432".parse().unwrap(),
            name: Some(HostName::try_from("db.corp").unwrap()),
            caller: "gw".into(),
        }
    }
}
