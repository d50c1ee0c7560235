//! The model in memory, changed by the same [`Change`]s as the store.

use std::collections::BTreeMap;

use nightgate_model::{
    entity::{
        Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Identity, Service,
        ServiceEdgeRouterPolicy, ServicePolicy,
    },
    id::{
        ConfigId, ConfigTypeId, EdgeRouterPolicyId, Identifier as _, IdentityId, PolicyId,
        RouterId, ServiceEdgeRouterPolicyId, ServiceId,
    },
    kind::EntityKind,
    spec::Entity,
};
use serde_json::Value;

use crate::{Change, Redeemed, Step};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub i64);

/// An entity and when it was made and last changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored<T> {
    /// The entity.
    pub entity: T,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An entity that the store keeps in a table of its own.
pub trait Kept: Entity + Into<AnyEntity> {
    /// Its table.
    fn table(model: &Model) -> &BTreeMap<Self::Id, Stored<Self>>;

    /// Its table.
    fn table_mut(model: &mut Model) -> &mut BTreeMap<Self::Id, Stored<Self>>;
}

/// Says once which entities there are: the tables of the model, and what leads to them.
macro_rules! tables {
    ($($(#[$doc:meta])* $entity:ident $id:ident $table:ident;)*) => {
        /// All entities by id.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Model {
            $($(#[$doc])* pub $table: BTreeMap<$id, Stored<$entity>>,)*
        }

        /// An entity of any kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyEntity {
            $($(#[$doc])* $entity($entity),)*
        }

        $(
            impl Kept for $entity {
                fn table(model: &Model) -> &BTreeMap<$id, Stored<Self>> {
                    &model.$table
                }

                fn table_mut(model: &mut Model) -> &mut BTreeMap<$id, Stored<Self>> {
                    &mut model.$table
                }
            }

            impl From<$entity> for AnyEntity {
                fn from(entity: $entity) -> Self {
                    Self::$entity(entity)
                }
            }
        )*

        /// Does the same with an entity of any kind.
        macro_rules! with_entity {
            ($any:expr, $bound:ident => $do:expr) => {
                match $any {
                    $($crate::AnyEntity::$entity($bound) => $do,)*
                }
            };
        }

        /// Does the same for the type of any kind.
        macro_rules! with_kind {
            ($kind:expr, $bound:ident => $do:expr) => {
                match $kind {
                    $(nightgate_model::kind::EntityKind::$entity => {
                        type $bound = nightgate_model::entity::$entity;
                        $do
                    })*
                }
            };
        }
    };
}

tables! {
    /// Identities.
    Identity IdentityId identities;
    /// Config types.
    ConfigType ConfigTypeId config_types;
    /// Configs.
    Config ConfigId configs;
    /// Services.
    Service ServiceId services;
    /// Service policies.
    ServicePolicy PolicyId policies;
    /// Edge routers.
    EdgeRouter RouterId routers;
    /// Edge-router policies.
    EdgeRouterPolicy EdgeRouterPolicyId router_policies;
    /// Service-edge-router policies.
    ServiceEdgeRouterPolicy ServiceEdgeRouterPolicyId service_router_policies;
}

impl AnyEntity {
    /// Its kind.
    pub fn kind(&self) -> EntityKind {
        fn of<E: Entity>(_: &E) -> EntityKind {
            E::KIND
        }
        with_entity!(self, entity => of(entity))
    }

    /// The text of its id.
    pub fn id(&self) -> &str {
        with_entity!(self, entity => entity.id().text())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        with_entity!(self, entity => entity.name())
    }

    /// The entity as JSON.
    pub fn to_json(&self) -> Value {
        with_entity!(self, entity => to_json(entity))
    }
}

impl Model {
    /// Applies a change that the store has accepted.
    pub fn apply(&mut self, change: &Change, at: Timestamp) {
        for step in &change.steps {
            match step {
                Step::Create(any) => with_entity!(any, entity => self.create(entity, at)),
                Step::Update(any) => with_entity!(any, entity => self.update(entity, at)),
                Step::Delete(kind, id) => with_kind!(kind, E => self.delete::<E>(id)),
                Step::Enroll(..) | Step::SetPassword(_) | Step::RemovePassword(_) => {}
                Step::Redeem { redeemed, .. } => self.redeem(redeemed, at),
            }
        }
    }

    /// The entity with this id, and when it was made and changed.
    pub fn find<E: Kept>(&self, id: &str) -> Option<&Stored<E>> {
        E::table(self).get(&E::Id::from_text(id))
    }

    /// The name and the JSON of an entity.
    pub fn describe(&self, kind: EntityKind, id: &str) -> Option<(String, Value)> {
        with_kind!(kind, E => {
            let entity = &self.find::<E>(id)?.entity;
            Some((entity.name().to_owned(), to_json(entity)))
        })
    }

    /// When the model last changed.
    pub fn changed_at(&self) -> Option<Timestamp> {
        let latest = EntityKind::ALL.into_iter().map(|kind| {
            with_kind!(kind, E => E::table(self).values().map(|stored| stored.updated_at).max())
        });
        latest.flatten().max()
    }

    /// The identity that enrolled with the certificate of this SHA-1 fingerprint.
    pub fn identity_by_fingerprint(&self, fingerprint: &str) -> Option<&Identity> {
        self.identities
            .values()
            .map(|stored| &stored.entity)
            .find(|identity| identity.fingerprint.as_deref() == Some(fingerprint))
    }

    /// The router that enrolled with the certificate of this SHA-1 fingerprint.
    pub fn router_by_fingerprint(&self, fingerprint: &str) -> Option<&EdgeRouter> {
        self.routers
            .values()
            .map(|stored| &stored.entity)
            .find(|router| router.fingerprint.as_deref() == Some(fingerprint))
    }

    fn create<E: Kept>(&mut self, entity: &E, at: Timestamp) {
        let stored = Stored { entity: entity.clone(), created_at: at, updated_at: at };
        E::table_mut(self).insert(entity.id().clone(), stored);
    }

    fn update<E: Kept>(&mut self, entity: &E, at: Timestamp) {
        if let Some(stored) = E::table_mut(self).get_mut(entity.id()) {
            stored.entity = entity.clone();
            stored.updated_at = at;
        }
    }

    fn delete<E: Kept>(&mut self, id: &str) {
        E::table_mut(self).remove(&E::Id::from_text(id));
        if E::KIND == EntityKind::EdgeRouter {
            self.identities.remove(&RouterId::new(id).as_identity());
        }
    }

    fn redeem(&mut self, redeemed: &Redeemed, at: Timestamp) {
        let (identity, fingerprint) = match redeemed {
            Redeemed::Identity { id, fingerprint } => (id.clone(), fingerprint),
            Redeemed::Router { id, fingerprint, address } => {
                if let Some(router) = self.routers.get_mut(id) {
                    router.entity.fingerprint = Some(fingerprint.clone());
                    router.entity.address.clone_from(address);
                    router.updated_at = at;
                }
                (id.as_identity(), fingerprint)
            }
        };
        if let Some(identity) = self.identities.get_mut(&identity) {
            identity.entity.fingerprint = Some(fingerprint.clone());
            identity.updated_at = at;
        }
    }
}

fn to_json(entity: &impl Entity) -> Value {
    serde_json::to_value(entity).expect("maps of entities have text keys")
}
