//! Where services are hosted, and what operators decide about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    entity::Service,
    id::{IdentityId, RouterId, ServiceId, TerminatorId},
};

/// Longest name of an instance in bytes; every router keeps it.
pub const MAX_INSTANCE: usize = 1024;

/// Longest secret of an instance in bytes.
pub const MAX_SECRET: usize = 1024;

/// A place where a service is hosted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminator {
    /// Identifier, chosen by the router that holds the hosting endpoint.
    pub id: TerminatorId,
    /// The hosted service.
    pub service: ServiceId,
    /// The router the hosting endpoint is connected to.
    pub router: RouterId,
    /// The identity that hosts.
    pub host: IdentityId,
    /// Instance name for addressed dials; empty for none.
    #[serde(default)]
    pub instance: String,
    /// The [`seal`] of the secret that it shows to host under that name; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub secret: String,
    /// What the host says of itself, before any cost counts.
    #[serde(default)]
    pub precedence: Precedence,
    /// Cost as the host sees it now, 0 to 65535; lower is preferred.
    #[serde(default)]
    pub cost: u16,
}

impl Terminator {
    /// Whether an identity that shows this [`seal`] of a secret may host under the same name of an instance: the name belongs to
    /// whoever shows the secret; without one, to the identity.
    pub fn admits(&self, identity: &IdentityId, secret: &str) -> bool {
        match secret {
            "" => self.secret.is_empty() && self.host == *identity,
            secret => self.secret == secret,
        }
    }
}

/// What routers tell each other of a terminator's secret: SHA-256, in lower-case hex, over the service, the
/// instance and the secret, each after its length in bytes (u64, little endian). Empty for no secret.
pub fn seal(service: &ServiceId, instance: &str, secret: &[u8]) -> String {
    if secret.is_empty() {
        return String::new();
    }
    let mut hash = Sha256::new();
    for part in [service.as_str().as_bytes(), instance.as_bytes(), secret] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which terminators of a service are taken first: one of a later kind only where there is none of an
/// earlier one.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Precedence {
    /// Before all others.
    Required,
    /// As usual.
    #[default]
    Default,
    /// Its host takes its server for dead: after all others.
    Failed,
}

impl Precedence {
    /// The word that OpenZiti and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Default => "default",
            Self::Failed => "failed",
        }
    }
}

/// A precedence that there is not.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("precedence {0:?}: expected required, default or failed")]
pub struct PrecedenceError(String);

impl std::str::FromStr for Precedence {
    type Err = PrecedenceError;

    fn from_str(word: &str) -> Result<Self, PrecedenceError> {
        let all = [Self::Required, Self::Default, Self::Failed];
        let known = all.into_iter().find(|precedence| precedence.as_str() == word);
        known.ok_or_else(|| PrecedenceError(word.into()))
    }
}

/// What operators decide about the terminators that one identity has under one instance name, whatever
/// it says itself. It stays when the host goes and comes back.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TerminatorSetting {
    /// The identity that hosts; in a network file by name.
    pub identity: IdentityId,
    /// Instance name; empty for terminators without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// Which terminators of the service are taken first; none leaves it to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precedence: Option<Precedence>,
    /// Cost, 0 to 65535; none leaves it to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u16>,
}

impl TerminatorSetting {
    /// Leaves everything to the host.
    pub fn none(identity: IdentityId, instance: &str) -> Self {
        Self { identity, instance: instance.to_owned(), precedence: None, cost: None }
    }

    /// Whether it leaves everything to the host.
    pub fn is_none(&self) -> bool {
        self.precedence.is_none() && self.cost.is_none()
    }
}

impl Service {
    /// What operators decide about the terminators of this identity and instance.
    pub fn setting(&self, identity: &IdentityId, instance: &str) -> TerminatorSetting {
        let known = self.decided(identity, instance).cloned();
        known.unwrap_or_else(|| TerminatorSetting::none(identity.clone(), instance))
    }

    fn decided(&self, identity: &IdentityId, instance: &str) -> Option<&TerminatorSetting> {
        self.terminators.iter().find(|it| it.identity == *identity && it.instance == instance)
    }

    /// Decides anew about the terminators of an identity and instance.
    pub fn decide(&mut self, setting: TerminatorSetting) {
        let before = self.setting(&setting.identity, &setting.instance);
        self.terminators.remove(&before);
        if !setting.is_none() {
            self.terminators.insert(setting);
        }
    }
}

impl Terminator {
    /// As dialers take it: what operators decide, which its service says, stands in the place of what its host says.
    #[must_use]
    pub fn settled(&self, service: Option<&Service>) -> Self {
        let mut settled = self.clone();
        if let Some(setting) = service.and_then(|it| it.decided(&self.host, &self.instance)) {
            settled.precedence = setting.precedence.unwrap_or(settled.precedence);
            settled.cost = setting.cost.unwrap_or(settled.cost);
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn terminator(instance: &str) -> Terminator {
        Terminator {
            id: TerminatorId::new("t"),
            secret: String::new(),
            service: ServiceId::new("s"),
            router: RouterId::new("r"),
            host: IdentityId::new("bob"),
            instance: instance.into(),
            precedence: Precedence::Failed,
            cost: 7,
        }
    }

    #[test]
    fn a_seal_tells_secrets_of_one_instance_apart_and_says_nothing_of_none() {
        let seal = |instance, secret: &str| {
            let sealed = seal(&ServiceId::new("s"), instance, secret.as_bytes());
            assert_eq!(sealed.len(), 64);
            sealed
        };
        assert_eq!(seal("a", "1234"), seal("a", "1234"));
        assert_ne!(seal("a", "1234"), seal("a", "4321"));
        assert_ne!(seal("ab", "c"), seal("a", "bc"));
        assert_eq!(super::seal(&ServiceId::new("s"), "a", b""), "");
    }

    #[test]
    fn what_operators_decide_stands_in_the_place_of_what_the_host_says_until_it_is_taken_back() {
        let mut service: Service = serde_json::from_value(json!({
            "id": "s", "name": "web", "roleAttributes": [], "encryptionRequired": true, "config": {},
        }))
        .unwrap();
        let (bob, blue) = (terminator(""), terminator("blue"));
        let said = |service: &Service, terminator: &Terminator| {
            let seen = terminator.settled(Some(service));
            (seen.precedence, seen.cost)
        };
        assert_eq!(said(&service, &bob), (Precedence::Failed, 7));
        let none = TerminatorSetting::none(bob.host.clone(), "");
        service.decide(TerminatorSetting { cost: Some(9), ..none.clone() });
        service.decide(TerminatorSetting {
            precedence: Some(Precedence::Required),
            ..TerminatorSetting::none(bob.host.clone(), "blue")
        });
        assert_eq!(said(&service, &bob), (Precedence::Failed, 9));
        assert_eq!(said(&service, &blue), (Precedence::Required, 7));
        service.decide(TerminatorSetting { cost: Some(0), ..none.clone() });
        assert_eq!(said(&service, &bob), (Precedence::Failed, 0));
        service.decide(none);
        assert_eq!(said(&service, &bob), (Precedence::Failed, 7));
        assert_eq!(service.terminators.len(), 1);
    }
}
