//! What operators decide about configs and their types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Entity;
use crate::{
    entity::{Config, ConfigType},
    id::{ConfigId, ConfigTypeId},
    kind::EntityKind,
};

/// What operators decide about a [`Config`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfigSpec {
    /// Unique name.
    pub name: String,
    /// Its type; in a network file by name. Cannot be changed.
    pub config_type_id: ConfigTypeId,
    /// The document.
    pub data: Value,
}

/// What operators decide about a [`ConfigType`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfigTypeSpec {
    /// Unique name.
    pub name: String,
    /// A JSON schema; anything goes if it is `{}`.
    #[serde(default = "anything")]
    pub schema: Value,
}

impl Entity for Config {
    type Id = ConfigId;
    type Spec = ConfigSpec;
    const KIND: EntityKind = EntityKind::Config;

    fn id(&self) -> &ConfigId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: ConfigId, spec: ConfigSpec) -> Self {
        let ConfigSpec { name, config_type_id, data } = spec;
        Self { id, name, config_type_id, data }
    }

    fn spec(&self) -> ConfigSpec {
        let Self { id: _, name, config_type_id, data } = self.clone();
        ConfigSpec { name, config_type_id, data }
    }

    fn set(&mut self, spec: ConfigSpec) {
        *self = Self::new(self.id.clone(), spec);
    }
}

impl Entity for ConfigType {
    type Id = ConfigTypeId;
    type Spec = ConfigTypeSpec;
    const KIND: EntityKind = EntityKind::ConfigType;

    fn id(&self) -> &ConfigTypeId {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn new(id: ConfigTypeId, spec: ConfigTypeSpec) -> Self {
        let ConfigTypeSpec { name, schema } = spec;
        Self { id, name, schema }
    }

    fn spec(&self) -> ConfigTypeSpec {
        let Self { id: _, name, schema } = self.clone();
        ConfigTypeSpec { name, schema }
    }

    fn set(&mut self, spec: ConfigTypeSpec) {
        *self = Self::new(self.id.clone(), spec);
    }
}

fn anything() -> Value {
    serde_json::json!({})
}
