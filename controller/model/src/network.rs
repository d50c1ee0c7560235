//! A network as one document: every entity that operators decide about, by name.
//!
//! Pure: [`Network::differences`] says what has to be done to make one network of another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

mod names;
mod tagged;

use self::names::check_names;
pub use self::{
    names::{ROLES, references},
    tagged::{Tagged, Tags},
};
use crate::{
    auth::DEFAULT_NAME,
    configs::BUILT_IN,
    kind::EntityKind,
    spec::{
        AuthPolicySpec, CaSpec, ConfigSpec, ConfigTypeSpec, EdgeRouterPolicySpec, EdgeRouterSpec,
        IdentitySpec, ServiceEdgeRouterPolicySpec, ServicePolicySpec, ServiceSpec,
    },
};

/// Version of the document.
pub const VERSION: u32 = 1;

/// A network. Roles name entities by `@name`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Network {
    /// [`VERSION`].
    pub version: u32,
    /// Edge routers.
    #[serde(default)]
    pub edge_routers: Vec<Tagged<EdgeRouterSpec>>,
    /// Auth policies.
    #[serde(default)]
    pub auth_policies: Vec<Tagged<AuthPolicySpec>>,
    /// CAs of others; those that are new still have to be verified.
    #[serde(default)]
    pub cas: Vec<Tagged<CaSpec>>,
    /// Identities, without those of routers.
    #[serde(default)]
    pub identities: Vec<Tagged<IdentitySpec>>,
    /// Config types, without the built-in ones.
    #[serde(default)]
    pub config_types: Vec<Tagged<ConfigTypeSpec>>,
    /// Configs.
    #[serde(default)]
    pub configs: Vec<Tagged<ConfigSpec>>,
    /// Services.
    #[serde(default)]
    pub services: Vec<Tagged<ServiceSpec>>,
    /// Service policies.
    #[serde(default)]
    pub service_policies: Vec<Tagged<ServicePolicySpec>>,
    /// Edge-router policies.
    #[serde(default)]
    pub edge_router_policies: Vec<Tagged<EdgeRouterPolicySpec>>,
    /// Service-edge-router policies.
    #[serde(default)]
    pub service_edge_router_policies: Vec<Tagged<ServiceEdgeRouterPolicySpec>>,
}

/// What becomes of entities that the wanted network does not name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unnamed {
    /// They stay.
    Keep,
    /// They are deleted, except administrators.
    Delete,
}

/// One thing to do; a list of them is the body of `POST /network`, which does all or none.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Difference {
    /// What to do.
    pub action: Action,
    /// With which kind of entity.
    pub kind: EntityKind,
    /// With which one.
    pub name: String,
    /// The fields as they shall be: all of a new entity, the different ones of another. They refer to
    /// other entities by name.
    #[serde(default)]
    pub fields: Map<String, Value>,
}

/// What has become of a [`Difference`], as `POST /network` answers.
#[derive(Clone, Debug, Deserialize, Eq, schemars::JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// Kind of the entity.
    pub kind: EntityKind,
    /// Its name, as in the difference.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Token with which a new one enrolls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment_jwt: Option<String>,
}

/// What to do with an entity.
#[derive(Clone, Copy, Debug, Deserialize, Eq, schemars::JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Make it.
    Create,
    /// Change it.
    Update,
    /// Remove it.
    Delete,
}

impl Action {
    /// Its verb.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A network that cannot be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// Another version.
    #[error("version {0}: expected {VERSION}")]
    Version(u32),
    /// Two entities of one kind have a name.
    #[error("{kind} {name:?} stands there twice; leave one")]
    Twice {
        /// Kind of the entities.
        kind: EntityKind,
        /// Their name.
        name: String,
    },
    /// A field names an entity that does not exist.
    #[error("{kind} {name:?}: {field} names {role}, but there is no such {of}")]
    Unknown {
        /// Kind of the entity.
        kind: EntityKind,
        /// Name of the entity.
        name: String,
        /// The field.
        field: &'static str,
        /// The role or name.
        role: String,
        /// What it should be.
        of: EntityKind,
    },
}

/// Fields of entities by name, by kind.
#[derive(Default)]
struct Entries(BTreeMap<EntityKind, BTreeMap<String, Map<String, Value>>>);

impl Network {
    /// What has to be done to make `wanted` of this network, in an order in which it can be done.
    ///
    /// # Errors
    /// All that is wrong with `wanted`.
    pub fn differences(
        &self,
        wanted: &Self,
        unnamed: Unnamed,
    ) -> Result<Vec<Difference>, Vec<NetworkError>> {
        let mut errors = Vec::new();
        if wanted.version != VERSION {
            errors.push(NetworkError::Version(wanted.version));
        }
        let live = self.entries(&mut Vec::new());
        let wanted = wanted.entries(&mut errors);
        let deleted = match unnamed {
            Unnamed::Keep => Vec::new(),
            Unnamed::Delete => live.without(&wanted),
        };
        check_names(&live, &wanted, &deleted, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut differences = Vec::new();
        for kind in EntityKind::ALL {
            for (name, fields) in wanted.of(kind) {
                differences.extend(difference(kind, name, live.get(kind, name), fields));
            }
        }
        differences.extend(deleted.into_iter().rev());
        Ok(differences)
    }

    fn entries(&self, errors: &mut Vec<NetworkError>) -> Entries {
        let mut entries = Entries::default();
        entries.add(EntityKind::EdgeRouter, &self.edge_routers, errors);
        entries.add(EntityKind::AuthPolicy, &self.auth_policies, errors);
        entries.add(EntityKind::Ca, &self.cas, errors);
        entries.add(EntityKind::Identity, &self.identities, errors);
        entries.add(EntityKind::ConfigType, &self.config_types, errors);
        entries.add(EntityKind::Config, &self.configs, errors);
        entries.add(EntityKind::Service, &self.services, errors);
        entries.add(EntityKind::ServicePolicy, &self.service_policies, errors);
        entries.add(EntityKind::EdgeRouterPolicy, &self.edge_router_policies, errors);
        let last = &self.service_edge_router_policies;
        entries.add(EntityKind::ServiceEdgeRouterPolicy, last, errors);
        entries
    }
}

impl Entries {
    fn add<S: Serialize>(
        &mut self,
        kind: EntityKind,
        entities: &[Tagged<S>],
        errors: &mut Vec<NetworkError>,
    ) {
        let entries = self.0.entry(kind).or_default();
        for Tagged { spec, tags } in entities {
            let Ok(Value::Object(mut fields)) = serde_json::to_value(spec) else { continue };
            // Also if there are none, so that those which were taken out of a file go.
            fields.insert("tags".into(), json!(tags));
            let name = fields["name"].as_str().unwrap_or_default().to_owned();
            if entries.insert(name.clone(), fields).is_some() {
                errors.push(NetworkError::Twice { kind, name });
            }
        }
    }

    fn of(&self, kind: EntityKind) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
        self.0.get(&kind).into_iter().flatten()
    }

    fn get(&self, kind: EntityKind, name: &str) -> Option<&Map<String, Value>> {
        self.0.get(&kind)?.get(name)
    }

    /// Entities that others do not name, but for administrators and the default auth policy: somebody has to remain.
    fn without(&self, others: &Self) -> Vec<Difference> {
        let mut deleted = Vec::new();
        for kind in EntityKind::ALL {
            for (name, fields) in self.of(kind) {
                let is_admin = fields.get("isAdmin") == Some(&Value::Bool(true));
                let is_default = kind == EntityKind::AuthPolicy && name == DEFAULT_NAME;
                if others.get(kind, name).is_none() && !is_admin && !is_default {
                    let (action, fields) = (Action::Delete, Map::new());
                    deleted.push(Difference { action, kind, name: name.clone(), fields });
                }
            }
        }
        deleted
    }
}

fn difference(
    kind: EntityKind,
    name: &str,
    live: Option<&Map<String, Value>>,
    wanted: &Map<String, Value>,
) -> Option<Difference> {
    let Some(live) = live else {
        let (action, mut fields) = (Action::Create, wanted.clone());
        if fields["tags"] == json!({}) {
            fields.remove("tags");
        }
        return Some(Difference { action, kind, name: name.into(), fields });
    };
    let changed = wanted.iter().filter(|(field, value)| live.get(*field) != Some(value));
    let fields: Map<_, _> = changed.map(|(field, value)| (field.clone(), value.clone())).collect();
    let action = Action::Update;
    (!fields.is_empty()).then(|| Difference { action, kind, name: name.into(), fields })
}

/// Whether a config type of this name is built in.
pub fn is_built_in(config_type: &str) -> bool {
    BUILT_IN.iter().any(|(name, _)| *name == config_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(value: Value) -> Network {
        serde_json::from_value(value).unwrap()
    }

    fn live() -> Network {
        network(json!({
            "version": 1,
            "edgeRouters": [{ "name": "gw", "isTunnelerEnabled": true }],
            "identities": [{ "name": "admin", "isAdmin": true }, { "name": "alice" }],
            "services": [{ "name": "web", "roleAttributes": ["a"] }],
            "servicePolicies": [{
                "name": "p", "type": "Dial", "semantic": "AnyOf",
                "identityRoles": ["@alice", "@gw"], "serviceRoles": ["@web"],
            }],
        }))
    }

    fn said(differences: &[Difference]) -> Vec<String> {
        let say = |d: &Difference| {
            let fields: Vec<_> = d.fields.keys().cloned().collect();
            format!("{:?} {} {} [{}]", d.action, d.kind, d.name, fields.join(" "))
        };
        differences.iter().map(say).collect()
    }

    #[test]
    fn a_network_does_not_differ_from_itself() {
        assert_eq!(live().differences(&live(), Unnamed::Delete), Ok(vec![]));
    }

    #[test]
    fn only_what_differs_is_done_and_policies_come_after_what_they_name() {
        let wanted = network(json!({
            "version": 1,
            "identities": [{ "name": "bob" }],
            "services": [{ "name": "web", "roleAttributes": ["a"], "encryptionRequired": false }],
            "servicePolicies": [{
                "name": "p", "type": "Dial", "semantic": "AnyOf",
                "identityRoles": ["@bob"], "serviceRoles": ["@web"],
            }],
        }));
        let kept = live().differences(&wanted, Unnamed::Keep).unwrap();
        let expected = [
            "Create identity bob [authPolicyId disabled isAdmin name roleAttributes]",
            "Update service web [encryptionRequired]",
            "Update service policy p [identityRoles]",
        ];
        assert_eq!(said(&kept), expected);
        let pruned = live().differences(&wanted, Unnamed::Delete).unwrap();
        assert_eq!(said(&pruned)[..3], expected);
        assert_eq!(said(&pruned)[3..], ["Delete identity alice []", "Delete edge router gw []"]);
    }

    #[test]
    fn tags_come_and_go_with_the_file_and_unknown_fields_are_refused_beside_them() {
        let with = |fields: Value| network(json!({ "version": 1, "services": [fields] }));
        let tagged = with(json!({ "name": "web", "tags": { "site": "eu", "floor": 3 } }));
        let bare = with(json!({ "tags": null, "name": "web" }));
        let between = |from: &Network, to| from.differences(to, Unnamed::Keep).unwrap();
        assert_eq!(between(&bare, &tagged)[0].fields["tags"], json!({ "site": "eu", "floor": 3 }));
        assert_eq!(between(&tagged, &bare)[0].fields["tags"], json!({}));
        assert_eq!(between(&tagged, &tagged), []);
        assert_eq!(network(serde_json::to_value(&tagged).unwrap()), tagged);
        for (bad, said) in [
            (json!([{ "name": "web", "tags": {}, "colour": "red" }]), "colour"),
            (json!([{ "tags": {} }]), "name"),
            (json!([{ "name": "web", "tags": [] }]), "map"),
            (json!(["web"]), "fields of an entity"),
        ] {
            let error = serde_json::from_value::<Network>(json!({ "version": 1, "services": bad }));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_setting_of_terminators_names_a_host_or_a_router_with_an_identity() {
        let mut wanted = live();
        let settings = json!([{ "identity": "gw", "cost": 1 }, { "identity": "eve", "cost": 2 }]);
        wanted.services[0].spec.terminators = serde_json::from_value(settings).unwrap();
        let errors = live().differences(&wanted, Unnamed::Keep).unwrap_err();
        let said: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let expected = "service \"web\": terminators names eve, but there is no such identity";
        assert_eq!(said, [expected]);
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let mut wanted = live();
        wanted.version = 2;
        wanted.identities.push(wanted.identities[1].clone());
        wanted.edge_routers.clear();
        let errors = live().differences(&wanted, Unnamed::Delete).unwrap_err();
        let said: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let expected = [
            "version 2: expected 1",
            "identity \"alice\" stands there twice; leave one",
            "service policy \"p\": identityRoles names @gw, but there is no such identity",
        ];
        assert_eq!(said, expected);
    }
}
