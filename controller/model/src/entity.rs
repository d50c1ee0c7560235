//! What the controller stores: identities, services, policies, edge routers, terminators.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    auth::{default_policy, policy_of_identity},
    id::{
        AuthPolicyId, CaId, ConfigId, ConfigTypeId, EdgeRouterPolicyId, IdentityId, PolicyId,
        RouterId, ServiceEdgeRouterPolicyId, ServiceId,
    },
};

/// What a policy allows and a session is for.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum Permission {
    /// To connect to a service.
    Dial,
    /// To host a service.
    Bind,
}

impl Permission {
    /// The word used on the wire and by people: `Dial` or `Bind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dial => "Dial",
            Self::Bind => "Bind",
        }
    }
}

/// What sort of endpoint an identity is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum IdentityKind {
    /// A person, a device or an application.
    Default,
    /// The identity of a gateway's own router.
    Router,
}

/// An endpoint that can authenticate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Identifier.
    pub id: IdentityId,
    /// Unique name.
    pub name: String,
    /// Sort of endpoint.
    #[serde(rename = "typeId")]
    pub kind: IdentityKind,
    /// May use the management API.
    pub is_admin: bool,
    /// Cannot authenticate, dial or host while set.
    pub disabled: bool,
    /// When it is enabled again by itself, in milliseconds since the Unix epoch; none if it is
    /// enabled, or disabled until somebody enables it.
    #[serde(default)]
    pub disabled_until: Option<i64>,
    /// Attributes that policies select by `#attribute`.
    pub role_attributes: BTreeSet<String>,
    /// SHA-1 of the DER of the certificate it enrolled with, lower-case hex; none before enrollment.
    pub fingerprint: Option<String>,
    /// How it may authenticate.
    #[serde(default = "default_policy", deserialize_with = "policy_of_identity")]
    pub auth_policy_id: AuthPolicyId,
}

pub use crate::{
    auth::AuthPolicy,
    terminator::{Precedence, Terminator, TerminatorSetting},
};

/// A certificate authority of others, whose certificates can stand for identities.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ca {
    /// Identifier. A certificate with this common name, signed by the authority, proves that whoever
    /// registered it holds its key.
    pub id: CaId,
    /// Unique name.
    pub name: String,
    /// Its certificate, PEM.
    pub cert_pem: String,
    /// That proof was given. Nothing else counts before.
    pub is_verified: bool,
    /// Identities may authenticate with its certificates.
    pub is_auth_enabled: bool,
    /// Whoever holds a certificate of it may enroll, as an identity that is made then.
    pub is_auto_ca_enrollment_enabled: bool,
    /// Identities may be made that enroll once with one of its certificates.
    pub is_ott_ca_enrollment_enabled: bool,
    /// Attributes of the identities that enroll by themselves.
    pub identity_roles: BTreeSet<String>,
    /// Their names; see [`crate::ca::identity_name`].
    pub identity_name_format: String,
}

/// Something that can be dialed and hosted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Identifier.
    pub id: ServiceId,
    /// Unique name.
    pub name: String,
    /// Attributes that policies select by `#attribute`.
    pub role_attributes: BTreeSet<String>,
    /// Both ends must encrypt end to end.
    pub encryption_required: bool,
    /// Configuration documents of its own by type name (`intercept.v1`, `host.v1`); see
    /// [`crate::configs`]. Clients and routers find those of [`Self::configs`] among them.
    pub config: BTreeMap<String, serde_json::Value>,
    /// Configs that it shares with other services; at most one document of a type, own and shared.
    #[serde(default)]
    pub configs: BTreeSet<ConfigId>,
    /// Which of its terminators a dial reaches.
    #[serde(default)]
    pub terminator_strategy: TerminatorStrategy,
    /// What operators decide about its terminators; at most one setting for an identity and an instance.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub terminators: BTreeSet<TerminatorSetting>,
}

/// Which terminator a dial reaches, among those of the best precedence that links lead to. A terminator's cost is that
/// of the path, its own, and what circuits and failed dials add.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TerminatorStrategy {
    /// The one of the least cost.
    #[default]
    SmartRouting,
    /// A random one, the more often the less it costs.
    Weighted,
    /// A random one.
    Random,
    /// The one that the identity's last dial through the same router reached, while it is there; else the one of
    /// the least cost.
    Sticky,
}

impl TerminatorStrategy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::SmartRouting, Self::Weighted, Self::Random, Self::Sticky];

    /// The word that OpenZiti and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SmartRouting => "smartrouting",
            Self::Weighted => "weighted",
            Self::Random => "random",
            Self::Sticky => "sticky",
        }
    }
}

/// A strategy that there is not.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("terminator strategy {0:?}: expected smartrouting, weighted, random or sticky")]
pub struct StrategyError(String);

impl std::fmt::Display for TerminatorStrategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for TerminatorStrategy {
    type Err = StrategyError;

    fn from_str(word: &str) -> Result<Self, StrategyError> {
        let known = Self::ALL.into_iter().find(|strategy| strategy.as_str() == word);
        known.ok_or_else(|| StrategyError(word.into()))
    }
}

/// A document that services share.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Identifier.
    pub id: ConfigId,
    /// Unique name.
    pub name: String,
    /// Its type.
    pub config_type_id: ConfigTypeId,
    /// The document, as the schema of the type demands.
    pub data: serde_json::Value,
}

/// What documents of one type have to look like.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigType {
    /// Identifier.
    pub id: ConfigTypeId,
    /// Unique name, by which clients ask for documents.
    pub name: String,
    /// A JSON schema.
    pub schema: serde_json::Value,
}

/// How several `#attribute` roles of one policy combine. `@id` roles always match.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum Semantic {
    /// The entity has every attribute.
    AllOf,
    /// The entity has at least one of the attributes.
    AnyOf,
}

/// Selects entities in a policy: `#all`, `#attribute` or `@id`.
#[derive(
    Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(into = "String", try_from = "String")]
pub enum Role {
    /// Every entity.
    All,
    /// Entities that carry the attribute.
    Attribute(String),
    /// The one entity with this id.
    Id(String),
}

/// A role that is neither `#all`, `#attribute` nor `@id`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("role {0:?}: expected #all, #attribute or @id")]
pub struct RoleError(String);

impl TryFrom<String> for Role {
    type Error = RoleError;

    fn try_from(text: String) -> Result<Self, RoleError> {
        match text.split_at_checked(1) {
            Some(("#", "all")) => Ok(Self::All),
            Some(("#", attribute)) if !attribute.is_empty() => {
                Ok(Self::Attribute(attribute.into()))
            }
            Some(("@", id)) if !id.is_empty() => Ok(Self::Id(id.into())),
            Some(_) | None => Err(RoleError(text)),
        }
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.to_string()
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("#all"),
            Self::Attribute(attribute) => write!(f, "#{attribute}"),
            Self::Id(id) => write!(f, "@{id}"),
        }
    }
}

/// Allows the selected identities to dial or bind the selected services.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePolicy {
    /// Identifier.
    pub id: PolicyId,
    /// Unique name.
    pub name: String,
    /// What it allows.
    #[serde(rename = "type")]
    pub permission: Permission,
    /// How `#attribute` roles combine, on both sides.
    pub semantic: Semantic,
    /// Selects identities.
    pub identity_roles: Vec<Role>,
    /// Selects services.
    pub service_roles: Vec<Role>,
}

/// Lets the selected identities use the selected edge routers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRouterPolicy {
    /// Identifier.
    pub id: EdgeRouterPolicyId,
    /// Unique name.
    pub name: String,
    /// How `#attribute` roles combine, on both sides.
    pub semantic: Semantic,
    /// Selects identities.
    pub identity_roles: Vec<Role>,
    /// Selects edge routers.
    pub edge_router_roles: Vec<Role>,
}

/// Lets the selected edge routers carry the selected services.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEdgeRouterPolicy {
    /// Identifier.
    pub id: ServiceEdgeRouterPolicyId,
    /// Unique name.
    pub name: String,
    /// How `#attribute` roles combine, on both sides.
    pub semantic: Semantic,
    /// Selects services.
    pub service_roles: Vec<Role>,
    /// Selects edge routers.
    pub edge_router_roles: Vec<Role>,
}

/// A router that clients and other routers reach, or a private one that only dials out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRouter {
    /// Identifier.
    pub id: RouterId,
    /// Unique name.
    pub name: String,
    /// Has an identity of its own with the same id, and so may dial and host (a gateway).
    pub is_tunneler_enabled: bool,
    /// Carries nothing while set.
    pub disabled: bool,
    /// Attributes of the router. Its own identity is made with the same, and keeps its own after.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
    /// SHA-1 of the DER of the certificate it enrolled with, lower-case hex; none before enrollment.
    pub fingerprint: Option<String>,
    /// `host:port` where it accepts clients and links; none for a router that only dials out.
    pub address: Option<String>,
    /// What a path through it costs at least, besides its links. 10 counts where it is less.
    #[serde(default)]
    pub cost: u16,
    /// Circuits begin and end at it, and none passes through.
    #[serde(default)]
    pub no_traversal: bool,
}
