//! Services, for operators and for those who may use them, who are not told of every config.

use nightgate_model::{
    configs::MirrorV1,
    entity::{Identity, Permission, Service},
    id::ConfigId,
};
use nightgate_store::{Model, Stored};
use serde_json::{Map, Value, json};

use super::stored_entity;
use crate::core::resolved_config;

/// A service, for operators.
pub(in crate::rest) fn service(stored: &Stored<Service>) -> Value {
    let service = &stored.entity;
    let own = json!({
        "roleAttributes": service.role_attributes,
        "encryptionRequired": service.encryption_required,
        "config": service.config,
        "configs": service.configs,
        "terminatorStrategy": service.terminator_strategy,
        "maxIdleTimeMillis": 0,
        "permissions": [],
        "postureQueries": [],
    });
    stored_entity(stored, own)
}

/// A service, for someone who may use it: with what it may do and the config types it asked for.
pub(in crate::rest) fn service_for(
    stored: &Stored<Service>,
    permissions: &[Permission],
    (wanted, caller): (&ConfigTypes, &Identity),
    (model, native_ends): (&Model, &[Permission]),
) -> Value {
    let mut shaped = service(stored);
    let documents = resolved_config(&stored.entity, model).into_iter();
    let documents = documents.filter(|(kind, _)| wanted.includes(kind)).filter_map(|(kind, it)| {
        let told = told(&kind, &it, caller)?;
        Some((kind, told))
    });
    shaped["config"] = documents.collect::<Map<String, Value>>().into();
    let shared = stored.entity.configs.iter().filter(|id| is_for(caller, id, model));
    shaped["configs"] = shared.map(|id| id.to_string()).collect();
    shaped["permissions"] = permissions.iter().map(|permission| permission.as_str()).collect();
    // Ours: clients of OpenZiti ignore it.
    shaped["nativeEnds"] = native_ends.iter().map(|permission| permission.as_str()).collect();
    shaped
}

/// Config types that a client asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::rest) enum ConfigTypes {
    /// `all`.
    All,
    /// These.
    Named(Vec<String>),
}

impl ConfigTypes {
    /// Reads names; one of them may be `all`.
    pub(in crate::rest) fn new(names: Vec<String>) -> Self {
        if names.iter().any(|name| name == "all") { Self::All } else { Self::Named(names) }
    }

    fn includes(&self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == kind),
        }
    }
}

/// What a client is told of a document. Whoever uses a service is not to learn from us that it is mirrored, except for the
/// tunnelers that are to do it.
fn told(kind: &str, document: &Value, caller: &Identity) -> Option<Value> {
    match kind {
        MirrorV1::TYPE => MirrorV1::for_tunneler(document, &caller.name).map(Value::Object),
        _ => Some(document.clone()),
    }
}

fn is_for(caller: &Identity, config: &ConfigId, model: &Model) -> bool {
    let known = model.configs.get(config).and_then(|stored| {
        let kind = model.config_types.get(&stored.entity.config_type_id)?;
        Some((&kind.entity.name, &stored.entity.data))
    });
    known.is_none_or(|(kind, data)| told(kind, data, caller).is_some())
}
