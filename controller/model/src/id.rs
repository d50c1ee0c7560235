//! Identifiers: one newtype for each kind of entity.

use serde::{Deserialize, Serialize};

/// An identifier of one kind of entity.
pub trait Identifier: Clone + std::fmt::Debug + Ord {
    /// Wraps the text of an identifier.
    fn from_text(text: &str) -> Self;

    /// The identifier's text.
    fn text(&self) -> &str;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Eq, Hash, schemars::JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps the text of an identifier.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Identifier for $name {
            fn from_text(text: &str) -> Self {
                Self::new(text)
            }

            fn text(&self) -> &str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// Identifies an identity: a person, a device, an application, or a router that dials and hosts.
    IdentityId;
    /// Identifies a service.
    ServiceId;
    /// Identifies a service policy.
    PolicyId;
    /// Identifies an edge-router policy.
    EdgeRouterPolicyId;
    /// Identifies a service-edge-router policy.
    ServiceEdgeRouterPolicyId;
    /// Identifies a config: a document that services share.
    ConfigId;
    /// Identifies a config type. A built-in type has its name as its id.
    ConfigTypeId;
    /// Identifies an auth policy. The one of identities that have no other has the id `default`.
    AuthPolicyId;
    /// Identifies a certificate authority of others. Also the text that proves it is theirs to register.
    CaId;
    /// Identifies an edge router. A gateway's router and its identity carry the same text.
    RouterId;
    /// Identifies a terminator: one place where a service is hosted.
    TerminatorId;
    /// Identifies an API session: one authenticated client.
    ApiSessionId;
}

impl RouterId {
    /// The identity under which a gateway's own router dials and hosts.
    pub fn as_identity(&self) -> IdentityId {
        IdentityId::new(self.as_str())
    }
}
