//! How identities may authenticate.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::id::AuthPolicyId;

/// Id of the policy of identities that have no other; it is there from the start and stays.
pub const DEFAULT: &str = "default";

/// Name of that policy, which stays too.
pub const DEFAULT_NAME: &str = "Default";

/// Shortest password that any policy may accept, in bytes.
pub const SHORTEST_PASSWORD: u16 = 10;

/// Longest password, in bytes.
pub const LONGEST_PASSWORD: u16 = 1024;

/// Most failures in a row that any policy may bear.
const MOST_ATTEMPTS: u32 = 100;

/// Longest time that a name may be refused after too many failures, in minutes: a day.
const LONGEST_LOCKOUT: u32 = 24 * 60;

/// Says by what its identities may authenticate.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthPolicy {
    /// Identifier.
    pub id: AuthPolicyId,
    /// Unique name.
    pub name: String,
    /// By what they may begin an API session.
    pub primary: PrimaryAuth,
    /// What else they have to show.
    #[serde(default)]
    pub secondary: SecondaryAuth,
}

/// By what an API session may begin.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PrimaryAuth {
    /// A certificate.
    pub cert: CertAuth,
    /// A name and a password.
    pub updb: PasswordAuth,
    /// A token of somebody else: never.
    pub ext_jwt: TokenAuth,
}

/// Authentication by certificate.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CertAuth {
    /// Whether it may be used.
    pub allowed: bool,
    /// Whether it may be used after its end, at the controller: to be followed by another. Routers refuse it.
    pub allow_expired_certs: bool,
}

/// Authentication by name and password.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PasswordAuth {
    /// Whether it may be used.
    pub allowed: bool,
    /// Shortest new password, in bytes: [`SHORTEST_PASSWORD`] to [`LONGEST_PASSWORD`].
    pub min_password_length: u16,
    /// New passwords have a character that is neither letter nor digit.
    pub require_special_char: bool,
    /// New passwords have a digit.
    pub require_number_char: bool,
    /// New passwords have an upper-case and a lower-case letter.
    pub require_mixed_case: bool,
    /// Failures in a row after which the name is refused for a while, 1 to 100.
    pub max_attempts: u32,
    /// For how long, in minutes, 1 to 1440.
    pub lockout_duration_minutes: u32,
}

/// Authentication by a token of somebody else.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenAuth {
    /// Must be false.
    pub allowed: bool,
    /// Must be empty.
    #[serde(deserialize_with = "nothing_as_default")]
    pub allowed_signers: Vec<String>,
}

/// What an identity has to show besides.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SecondaryAuth {
    /// A code of a second factor, once in each API session; without a factor, one has to be enrolled first.
    pub require_totp: bool,
    /// Must be none.
    pub required_ext_jwt_signer: Option<String>,
}

impl Default for CertAuth {
    fn default() -> Self {
        Self { allowed: true, allow_expired_certs: false }
    }
}

impl Default for PasswordAuth {
    fn default() -> Self {
        Self {
            allowed: true,
            min_password_length: SHORTEST_PASSWORD,
            require_special_char: false,
            require_number_char: false,
            require_mixed_case: false,
            max_attempts: 5,
            lockout_duration_minutes: 5,
        }
    }
}

impl AuthPolicy {
    /// What of it this controller does not do: the field, and what it has to be.
    pub fn unsupported(&self) -> Option<String> {
        let PrimaryAuth { cert: _, updb, ext_jwt } = &self.primary;
        if !(SHORTEST_PASSWORD..=LONGEST_PASSWORD).contains(&updb.min_password_length) {
            let bounds = format!("{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} bytes");
            Some(format!("primary.updb.minPasswordLength: expected {bounds}"))
        } else if !(1..=MOST_ATTEMPTS).contains(&updb.max_attempts) {
            Some(format!("primary.updb.maxAttempts: expected 1 to {MOST_ATTEMPTS}"))
        } else if !(1..=LONGEST_LOCKOUT).contains(&updb.lockout_duration_minutes) {
            Some(format!(
                "primary.updb.lockoutDurationMinutes: expected 1 to {LONGEST_LOCKOUT}; with one that does not end, \
                 strangers could shut people out"
            ))
        } else if *ext_jwt != TokenAuth::default() {
            Some("primary.extJwt: only {allowed: false, allowedSigners: []}".into())
        } else if self.secondary.required_ext_jwt_signer.is_some() {
            Some("secondary.requiredExtJwtSigner: only null".into())
        } else {
            None
        }
    }
}

impl PasswordAuth {
    /// What a new password lacks.
    pub fn lacking(&self, password: &str) -> Option<String> {
        let has = |is: fn(char) -> bool| password.chars().any(is);
        if password.len() < usize::from(self.min_password_length) {
            return Some(format!("at least {} bytes", self.min_password_length));
        }
        if self.require_special_char && !has(|c| !c.is_alphanumeric()) {
            return Some("a character that is neither letter nor digit".into());
        }
        if self.require_number_char && !has(char::is_numeric) {
            return Some("a digit".into());
        }
        if self.require_mixed_case && !(has(char::is_uppercase) && has(char::is_lowercase)) {
            return Some("an upper-case and a lower-case letter".into());
        }
        None
    }
}

/// The policy of identities that have no other.
pub fn default_policy() -> AuthPolicyId {
    AuthPolicyId::new(DEFAULT)
}

/// Reads the policy of an identity: null and nothing, which OpenZiti's clients send, are the default one.
pub(crate) fn policy_of_identity<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<AuthPolicyId, D::Error> {
    let id = Option::<AuthPolicyId>::deserialize(deserializer)?;
    Ok(id.filter(|id| !id.as_str().is_empty()).unwrap_or_else(default_policy))
}

/// Reads null as the default.
fn nothing_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_lacks_what_its_policy_asks_for() {
        let strict = PasswordAuth {
            min_password_length: 12,
            require_special_char: true,
            require_number_char: true,
            require_mixed_case: true,
            ..PasswordAuth::default()
        };
        for bad in ["Sh0rt!", "Nospecial1234", "No-digits-here", "no-capital-123"] {
            assert!(strict.lacking(bad).is_some(), "{bad}");
        }
        assert_eq!(strict.lacking("Correct-Horse-7"), None);
        assert_eq!(PasswordAuth::default().lacking("correct horse"), None);
    }

    #[test]
    fn what_openziti_sends_is_understood_and_more_is_said_to_be_too_much() {
        let read = |fields: &str| {
            serde_json::from_str::<AuthPolicy>(&format!(r#"{{"id":"p","name":"p",{fields}}}"#))
                .unwrap()
        };
        assert_eq!(read(r#""primary":{}"#).unsupported(), None);
        let sent = r#""primary":{"cert":{"allowed":true,"allowExpiredCerts":true},
            "updb":{"allowed":false},"extJwt":{"allowed":false,"allowedSigners":null}},
            "secondary":{"requireTotp":false,"requiredExtJwtSigner":null}"#;
        assert_eq!(read(sent).unsupported(), None);
        assert_eq!(read(r#""primary":{},"secondary":{"requireTotp":true}"#).unsupported(), None);
        for more in [
            r#""primary":{"updb":{"minPasswordLength":5}}"#,
            r#""primary":{"updb":{"maxAttempts":0}}"#,
            r#""primary":{"updb":{"lockoutDurationMinutes":0}}"#,
            r#""primary":{"extJwt":{"allowed":true}}"#,
            r#""primary":{},"secondary":{"requiredExtJwtSigner":"s"}"#,
        ] {
            assert!(read(more).unsupported().is_some(), "{more}");
        }
    }
}
