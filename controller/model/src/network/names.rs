//! How entities of a network name each other.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Difference, Entries, NetworkError, is_built_in};
use crate::{auth::DEFAULT, kind::EntityKind};

/// Fields of specs that hold roles, and what the roles select.
pub const ROLES: [(&str, EntityKind); 3] = [
    ("identityRoles", EntityKind::Identity),
    ("serviceRoles", EntityKind::Service),
    ("edgeRouterRoles", EntityKind::EdgeRouter),
];

/// Fields of specs that refer to other entities, and to which kind.
const REFERENCES: [(&str, EntityKind); 4] = [
    ("configTypeId", EntityKind::ConfigType),
    ("configs", EntityKind::Config),
    ("authPolicyId", EntityKind::AuthPolicy),
    ("terminators", EntityKind::Identity),
];

/// Every place of a spec, but for roles, that refers to another entity: the field, the kind, and the value, which is a
/// name in a network and an id elsewhere. What is more than a reference has it in its field `identity`.
pub fn references(spec: &mut Map<String, Value>) -> Vec<(&'static str, EntityKind, &mut Value)> {
    let mut found = Vec::new();
    for (field, value) in spec {
        let Some((field, kind)) = REFERENCES.into_iter().find(|(known, _)| known == field) else {
            continue;
        };
        let values = if let Value::Array(values) = value {
            values.as_mut_slice()
        } else {
            std::slice::from_mut(value)
        };
        for value in values {
            let name = if let Value::Object(parts) = value {
                parts.get_mut("identity")
            } else {
                Some(value)
            };
            found.extend(name.map(|name| (field, kind, name)));
        }
    }
    found
}

/// Every name must be there afterwards. A router with an identity stands for both.
pub(super) fn check_names(
    live: &Entries,
    wanted: &Entries,
    deleted: &[Difference],
    errors: &mut Vec<NetworkError>,
) {
    let gone: BTreeSet<_> = deleted.iter().map(|gone| (gone.kind, gone.name.as_str())).collect();
    let is_there = |kind, name: &str| {
        let is_named = wanted.get(kind, name).is_some();
        is_named || (live.get(kind, name).is_some() && !gone.contains(&(kind, name)))
    };
    let exists = |kind, name: &str| {
        let as_router = kind == EntityKind::Identity && is_there(EntityKind::EdgeRouter, name);
        is_there(kind, name) || as_router
    };
    for kind in EntityKind::ALL {
        for (name, fields) in wanted.of(kind) {
            let mut unknown = |field, role: &str, of| {
                let (name, role) = (name.clone(), role.to_owned());
                errors.push(NetworkError::Unknown { kind, name, field, role, of });
            };
            for (field, of) in ROLES {
                let roles = fields.get(field).and_then(Value::as_array).into_iter().flatten();
                for role in roles.filter_map(Value::as_str) {
                    if role.strip_prefix('@').is_some_and(|named| !exists(of, named)) {
                        unknown(field, role, of);
                    }
                }
            }
            for (field, of, named) in references(&mut fields.clone()) {
                let Some(named) = named.as_str() else { continue };
                let is_default = of == EntityKind::AuthPolicy && named == DEFAULT;
                if !exists(of, named) && !is_built_in(named) && !is_default {
                    unknown(field, named, of);
                }
            }
        }
    }
}
