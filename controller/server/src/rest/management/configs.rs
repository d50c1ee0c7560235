//! Configs and config types, with JSON-schema validation (draft 7 unless the schema says otherwise).

use std::collections::BTreeMap;

use jsonschema::Draft;
use nightgate_model::{
    configs::BUILT_IN,
    entity::{Config, ConfigType, Service},
    id::ConfigTypeId,
};
use nightgate_store::{Model, Stored};
use serde_json::Value;

use super::{
    resource::{Resource, View},
    validate,
};
use crate::rest::{Failure, caller::Caller, shape};

/// Most faults of a document that one answer names.
const MAX_FAULTS: usize = 8;

impl Resource for ConfigType {
    const FIELDS: &'static [&'static str] = &["schema"];

    fn shape(stored: &Stored<Self>, _view: &View<'_>) -> Value {
        shape::config_type(stored)
    }

    /// A changed schema must suit the documents that there are.
    fn check(&self, model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        let schema = compile(&self.schema)?;
        let of_type = |config: &&Config| config.config_type_id == self.id;
        let configs = model.configs.values().map(|stored| &stored.entity);
        for config in configs.filter(of_type) {
            check_document(&schema, &config.data, &format!("config {:?}", config.name))?;
        }
        Ok(())
    }

    fn check_change(&self, before: &Self, _caller: &Caller, _model: &Model) -> Result<(), Failure> {
        refuse_built_in(before)
    }

    fn check_delete(&self, _caller: &Caller, model: &Model) -> Result<(), Failure> {
        refuse_built_in(self)?;
        let mut configs = model.configs.values().map(|stored| &stored.entity);
        if let Some(config) = configs.find(|config| config.config_type_id == self.id) {
            let message = format!("config {:?} is of this type; delete it first", config.name);
            return Err(Failure::conflict(message));
        }
        let mut services = model.services.values().map(|stored| &stored.entity);
        match services.find(|service| service.config.contains_key(&self.name)) {
            None => Ok(()),
            Some(service) => {
                let message = format!("service {:?} has a document of this type", service.name);
                Err(Failure::conflict(message))
            }
        }
    }
}

impl Resource for Config {
    const FIELDS: &'static [&'static str] = &["configTypeId", "configType", "data"];

    fn shape(stored: &Stored<Self>, view: &View<'_>) -> Value {
        shape::config(stored, &view.memory.model)
    }

    fn check(&self, model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        let Some(stored) = model.config_types.get(&self.config_type_id) else {
            let id = &self.config_type_id;
            let message = format!("configTypeId {id}: there is no config type with this id");
            return Err(Failure::invalid(message));
        };
        check_document(&compile(&stored.entity.schema)?, &self.data, "data")
    }

    fn check_change(&self, before: &Self, _caller: &Caller, _model: &Model) -> Result<(), Failure> {
        if self.config_type_id == before.config_type_id {
            return Ok(());
        }
        Err(Failure::conflict("the type of a config cannot be changed; create another config"))
    }

    fn check_delete(&self, _caller: &Caller, model: &Model) -> Result<(), Failure> {
        let mut services = model.services.values().map(|stored| &stored.entity);
        match services.find(|service| service.configs.contains(&self.id)) {
            None => Ok(()),
            Some(service) => {
                let message = format!("service {:?} uses the config", service.name);
                Err(Failure::conflict(message))
            }
        }
    }
}

/// Checks a service's documents: each as its type demands, at most one of a type, own and shared.
pub(super) fn check_service(service: &Service, model: &Model) -> Result<(), Failure> {
    let mut found: BTreeMap<&ConfigTypeId, String> = BTreeMap::new();
    for (name, document) in &service.config {
        let mut types = model.config_types.values().map(|stored| &stored.entity);
        let Some(kind) = types.find(|kind| kind.name == *name) else {
            let message = format!("config {name:?}: there is no config type of this name");
            return Err(Failure::invalid(message));
        };
        check_document(&compile(&kind.schema)?, document, &format!("config.{name}"))?;
        found.insert(&kind.id, format!("its own {name}"));
    }
    for id in &service.configs {
        let Some(stored) = model.configs.get(id) else {
            return Err(Failure::invalid(format!("configs {id}: there is no config with this id")));
        };
        let config = format!("config {:?}", stored.entity.name);
        if let Some(other) = found.insert(&stored.entity.config_type_id, config.clone()) {
            let message =
                format!("{config} and {other} are of one type; a service has one of each");
            return Err(Failure::invalid(message));
        }
    }
    Ok(())
}

/// The built-in config types.
pub(crate) fn built_in() -> Vec<ConfigType> {
    let types = BUILT_IN.into_iter().map(|(name, schema)| ConfigType {
        id: ConfigTypeId::new(name),
        name: name.into(),
        schema: serde_json::from_str(schema).expect("a built-in schema is JSON"),
    });
    types.collect()
}

fn refuse_built_in(kind: &ConfigType) -> Result<(), Failure> {
    if BUILT_IN.iter().any(|(name, _)| *name == kind.id.as_str()) {
        return Err(Failure::conflict("a built-in config type stays as it is"));
    }
    Ok(())
}

fn compile(schema: &Value) -> Result<jsonschema::Validator, Failure> {
    jsonschema::options()
        .with_draft(Draft::Draft7)
        .build(schema)
        .map_err(|error| Failure::invalid(format!("schema at {:?}: {error}", path(&error))))
}

/// Names all faults, up to [`MAX_FAULTS`].
fn check_document(
    schema: &jsonschema::Validator,
    document: &Value,
    what: &str,
) -> Result<(), Failure> {
    let faults: Vec<_> = schema
        .iter_errors(document)
        .take(MAX_FAULTS)
        .map(|error| format!("{what}{}: {error}", path(&error)))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Failure::invalid(faults.join("; "))) }
}

fn path(error: &jsonschema::ValidationError<'_>) -> String {
    error.instance_path().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(kind: &str, document: &Value) -> String {
        let kind = built_in().into_iter().find(|known| known.name == kind).unwrap();
        let checked = check_document(&compile(&kind.schema).unwrap(), document, "data");
        checked.err().map(|failure| failure.message().to_owned()).unwrap_or_default()
    }

    #[test]
    fn what_openzitis_clients_configure_suits_the_built_in_types() {
        for (kind, document) in [
            (
                "intercept.v1",
                json!({
                    "protocols": ["tcp", "udp"],
                    "addresses": ["web.corp", "*.corp", "10.0.0.0/8"],
                    "portRanges": [{ "low": 80, "high": 443 }],
                    "dialOptions": { "identity": "$dst_hostname", "connectTimeoutSeconds": 5 },
                    "sourceIp": "$src_ip:$src_port",
                }),
            ),
            ("host.v1", json!({ "protocol": "tcp", "address": "10.2.0.2", "port": 8080 })),
            (
                "host.v1",
                json!({
                    "forwardProtocol": true, "allowedProtocols": ["tcp", "udp"],
                    "forwardAddress": true, "allowedAddresses": ["10.0.0.0/8"],
                    "forwardPort": true, "allowedPortRanges": [{ "low": 1, "high": 65535 }],
                    "listenOptions": { "cost": 7, "precedence": "required", "connectTimeout": "5s" },
                    "portChecks": [{
                        "address": "10.2.0.2:80", "interval": "5s", "timeout": "100ms",
                        "actions": [{ "trigger": "fail", "duration": "10s", "action": "mark unhealthy" }],
                    }],
                }),
            ),
            (
                "host.v2",
                json!({ "terminators": [{ "protocol": "udp", "address": "::1", "port": 53 }] }),
            ),
            (
                "mirror.v1",
                json!({ "sensor": ["ids"], "expires": "2026-12-01T08:00:00Z", "vlan": "service" }),
            ),
        ] {
            assert_eq!(faults(kind, &document), "", "{document}");
        }
    }

    #[test]
    fn every_fault_of_a_document_is_named_where_it_is() {
        let document = json!({ "protocol": "sctp", "address": "", "port": 70_000, "prot": 1 });
        let said = faults("host.v1", &document);
        for part in ["data/protocol", "data/address", "data/port: 70000", "prot"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let both = json!({
            "protocol": "tcp", "address": "a", "port": 1, "allowedPortRanges": [{ "low": 1, "high": 2 }],
        });
        assert_ne!(faults("host.v1", &both), "");
        let without = json!({ "forwardProtocol": true, "address": "a", "port": 1 });
        assert_ne!(faults("host.v1", &without), "");
        assert_ne!(faults("host.v2", &json!({ "terminators": [{ "port": 1 }] })), "");
        let forever = json!({ "sensor": "ids" });
        assert!(faults("mirror.v1", &forever).contains("expires"), "a mirror has an end");
    }

    #[test]
    fn a_schema_that_reaches_out_is_refused() {
        for schema in [
            json!({ "type": "nothing" }),
            json!({ "$ref": "https://127.0.0.1:1/schema.json" }),
            json!({ "$ref": "file:///etc/passwd" }),
            json!([]),
        ] {
            assert!(compile(&schema).is_err(), "{schema}");
        }
    }
}
