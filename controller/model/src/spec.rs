//! What operators decide about entities: bodies of the management API and of network files.
//!
//! A spec holds every field that an operator may set, and nothing that the controller finds out.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::{
    auth::{default_policy, policy_of_identity},
    entity::{EdgeRouter, Identity, IdentityKind, Service, TerminatorSetting, TerminatorStrategy},
    id::{AuthPolicyId, ConfigId, Identifier, IdentityId, RouterId, ServiceId},
    kind::EntityKind,
};

mod auth;
mod ca;
mod config;
mod policy;

pub use auth::AuthPolicySpec;
pub use ca::CaSpec;
pub use config::{ConfigSpec, ConfigTypeSpec};
pub use policy::{EdgeRouterPolicySpec, ServiceEdgeRouterPolicySpec, ServicePolicySpec};

/// An entity that operators manage.
pub trait Entity: Clone + DeserializeOwned + PartialEq + Serialize {
    /// Its identifier.
    type Id: Identifier;
    /// What operators decide about it.
    type Spec: Clone + DeserializeOwned + JsonSchema + PartialEq + Serialize;
    /// Its kind.
    const KIND: EntityKind;

    /// Its identifier.
    fn id(&self) -> &Self::Id;

    /// Its name, unique among its kind.
    fn name(&self) -> &str;

    /// A new one.
    fn new(id: Self::Id, spec: Self::Spec) -> Self;

    /// What was decided about it.
    fn spec(&self) -> Self::Spec;

    /// Decides anew.
    fn set(&mut self, spec: Self::Spec);
}

/// What operators decide about an [`Identity`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IdentitySpec {
    /// Unique name.
    pub name: String,
    /// May use the management API.
    #[serde(default)]
    pub is_admin: bool,
    /// Cannot authenticate, dial or host while set.
    #[serde(default)]
    pub disabled: bool,
    /// Attributes.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
    /// How it may authenticate; in a network file by name, or `default`.
    #[serde(default = "default_policy", deserialize_with = "policy_of_identity")]
    pub auth_policy_id: AuthPolicyId,
}

/// What operators decide about an [`EdgeRouter`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EdgeRouterSpec {
    /// Unique name.
    pub name: String,
    /// Gets an identity of its own, so that it may dial and host (a gateway). Cannot be changed.
    #[serde(default)]
    pub is_tunneler_enabled: bool,
    /// Carries nothing while set.
    #[serde(default)]
    pub disabled: bool,
    /// Attributes, also of its new identity.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
    /// What a path through it costs, 0 to 65535; 10 counts where it is less.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cost: u16,
    /// Circuits begin and end at it, and none passes through.
    #[serde(default, deserialize_with = "null_as_default")]
    pub no_traversal: bool,
}

/// What operators decide about a [`Service`].
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Unique name.
    pub name: String,
    /// Attributes.
    #[serde(default)]
    pub role_attributes: BTreeSet<String>,
    /// Both ends must encrypt end to end. Default true.
    #[serde(default = "required")]
    pub encryption_required: bool,
    /// Configuration documents by type name.
    #[serde(default)]
    pub config: BTreeMap<String, serde_json::Value>,
    /// Configs that it shares with other services; in a network file by name.
    #[serde(default)]
    pub configs: BTreeSet<ConfigId>,
    /// Which of its terminators a dial reaches: `smartrouting` (default), `weighted`, `random` or `sticky`.
    #[serde(default, deserialize_with = "strategy")]
    pub terminator_strategy: TerminatorStrategy,
    /// What is decided about its terminators, whatever their hosts say.
    #[serde(default, deserialize_with = "null_as_default")]
    pub terminators: BTreeSet<TerminatorSetting>,
}

impl Entity for Identity {
    type Id = IdentityId;
    type Spec = IdentitySpec;
    const KIND: EntityKind = EntityKind::Identity;

    fn id(&self) -> &IdentityId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: IdentityId, spec: IdentitySpec) -> Self {
        let IdentitySpec { name, is_admin, disabled, role_attributes, auth_policy_id } = spec;
        Self {
            id,
            name,
            kind: IdentityKind::Default,
            is_admin,
            disabled,
            disabled_until: None,
            role_attributes,
            fingerprint: None,
            auth_policy_id,
        }
    }

    fn spec(&self) -> IdentitySpec {
        IdentitySpec {
            name: self.name.clone(),
            is_admin: self.is_admin,
            disabled: self.disabled,
            role_attributes: self.role_attributes.clone(),
            auth_policy_id: self.auth_policy_id.clone(),
        }
    }

    fn set(&mut self, spec: IdentitySpec) {
        let IdentitySpec { name, is_admin, disabled, role_attributes, auth_policy_id } = spec;
        self.name = name;
        self.is_admin = is_admin;
        self.disabled = disabled;
        self.disabled_until = self.disabled_until.filter(|_| disabled);
        self.role_attributes = role_attributes;
        self.auth_policy_id = auth_policy_id;
    }
}

impl Entity for EdgeRouter {
    type Id = RouterId;
    type Spec = EdgeRouterSpec;
    const KIND: EntityKind = EntityKind::EdgeRouter;

    fn id(&self) -> &RouterId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: RouterId, spec: EdgeRouterSpec) -> Self {
        let mut router = Self {
            id,
            name: String::new(),
            is_tunneler_enabled: spec.is_tunneler_enabled,
            disabled: false,
            role_attributes: BTreeSet::new(),
            fingerprint: None,
            address: None,
            cost: 0,
            no_traversal: false,
        };
        router.set(spec);
        router
    }

    fn spec(&self) -> EdgeRouterSpec {
        EdgeRouterSpec {
            name: self.name.clone(),
            is_tunneler_enabled: self.is_tunneler_enabled,
            disabled: self.disabled,
            role_attributes: self.role_attributes.clone(),
            cost: self.cost,
            no_traversal: self.no_traversal,
        }
    }

    fn set(&mut self, spec: EdgeRouterSpec) {
        let EdgeRouterSpec {
            name,
            is_tunneler_enabled,
            disabled,
            role_attributes,
            cost,
            no_traversal,
        } = spec;
        self.name = name;
        self.is_tunneler_enabled = is_tunneler_enabled;
        self.disabled = disabled;
        self.role_attributes = role_attributes;
        self.cost = cost;
        self.no_traversal = no_traversal;
    }
}

impl Entity for Service {
    type Id = ServiceId;
    type Spec = ServiceSpec;
    const KIND: EntityKind = EntityKind::Service;

    fn id(&self) -> &ServiceId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: ServiceId, spec: ServiceSpec) -> Self {
        let ServiceSpec {
            name,
            role_attributes,
            encryption_required,
            config,
            configs,
            terminator_strategy,
            terminators,
        } = spec;
        Self {
            id,
            name,
            role_attributes,
            encryption_required,
            config,
            configs,
            terminator_strategy,
            terminators,
        }
    }

    fn spec(&self) -> ServiceSpec {
        let own = self.clone();
        ServiceSpec {
            name: own.name,
            role_attributes: own.role_attributes,
            encryption_required: own.encryption_required,
            config: own.config,
            configs: own.configs,
            terminator_strategy: own.terminator_strategy,
            terminators: own.terminators,
        }
    }

    fn set(&mut self, spec: ServiceSpec) {
        *self = Self::new(self.id.clone(), spec);
    }
}

fn required() -> bool {
    true
}

/// Reads null as the default.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a strategy; null and nothing as the default, as clients of OpenZiti send it.
fn strategy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TerminatorStrategy, D::Error> {
    let word = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if word.is_empty() {
        return Ok(TerminatorStrategy::default());
    }
    word.parse().map_err(serde::de::Error::custom)
}
