//! The model in memory, changed by the same [`Change`]s as the store.

use std::collections::BTreeMap;

use nightgate_model::{
    entity::{
        AuthPolicy, Ca, Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Identity, Service,
        ServiceEdgeRouterPolicy, ServicePolicy,
    },
    id::{
        AuthPolicyId, CaId, ConfigId, ConfigTypeId, EdgeRouterPolicyId, Identifier as _,
        IdentityId, PolicyId, RouterId, ServiceEdgeRouterPolicyId, ServiceId,
    },
    kind::EntityKind,
    quarantine::Quarantine,
    spec::Entity,
};
use serde_json::Value;

use crate::{
    Certificate, Change, EnrollmentId, EnrollmentTarget, Mfa, PasswordLogin, PendingEnrollment,
    Redeemed, Step,
};

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
    /// What operators have noted beside it; means nothing to the overlay.
    pub tags: Tags,
}

pub use nightgate_model::network::Tags;

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
            /// Enrollments that nobody has redeemed yet.
            pub enrollments: BTreeMap<EnrollmentId, PendingEnrollment>,
            /// Certificates that identities authenticate with; [`Identity::fingerprint`] says which.
            pub certificates: BTreeMap<IdentityId, Certificate>,
            /// Certificates that routers authenticate with; [`EdgeRouter::fingerprint`] says which.
            pub router_certificates: BTreeMap<RouterId, Certificate>,
            /// Why identities are in quarantine.
            pub quarantines: BTreeMap<IdentityId, Quarantine>,
            /// Second factors of identities.
            pub mfas: BTreeMap<IdentityId, Mfa>,
            /// Names that identities log in with.
            pub usernames: BTreeMap<IdentityId, String>,
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
    /// Auth policies.
    AuthPolicy AuthPolicyId auth_policies;
    /// CAs of others.
    Ca CaId cas;
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
                Step::SetTags(kind, id, tags) => with_kind!(kind, E => {
                    if let Some(stored) = E::table_mut(self).get_mut(&<E as Entity>::Id::from_text(id)) {
                        stored.tags.clone_from(tags);
                        stored.updated_at = at;
                    }
                }),
                Step::Delete(kind, id) => with_kind!(kind, E => self.delete::<E>(id)),
                Step::Quarantine(quarantine) => {
                    self.quarantines.insert(quarantine.identity.clone(), quarantine.clone());
                }
                Step::Release(identity) => drop(self.quarantines.remove(identity)),
                Step::Enroll(target, enrollment) => {
                    let pending = PendingEnrollment {
                        target: target.clone(),
                        method: enrollment.method,
                        ca: enrollment.ca.clone(),
                        username: enrollment.username.clone(),
                        created_at: at,
                        expires_at: enrollment.expires_at,
                    };
                    self.enrollments.insert(enrollment.token.id(), pending);
                }
                Step::DeleteEnrollment(id) => drop(self.enrollments.remove(id)),
                Step::SetPassword(login) => self.set_password(login),
                Step::RemovePassword(identity) => drop(self.usernames.remove(identity)),
                Step::SetMfa(mfa) => drop(self.mfas.insert(mfa.identity.clone(), mfa.clone())),
                Step::RemoveMfa(identity) => drop(self.mfas.remove(identity)),
                Step::Certify(EnrollmentTarget::Identity(identity), certificate) => {
                    self.certify(identity, certificate, at);
                }
                Step::Certify(EnrollmentTarget::Router(router), certificate) => {
                    self.certify_router(router, certificate, at);
                    let own = router.as_identity();
                    if self.identities.get(&own).is_some_and(|own| own.entity.fingerprint.is_some())
                    {
                        self.certify(&own, certificate, at);
                    }
                }
                Step::EndSessions(..) | Step::SetSecondFactor(..) => {}
                Step::OfferCertificate(target, offered) => {
                    let certificate = match target {
                        EnrollmentTarget::Identity(id) => self.certificates.get_mut(id),
                        EnrollmentTarget::Router(id) => self.router_certificates.get_mut(id),
                    };
                    if let Some(certificate) = certificate {
                        certificate.offered = Some(offered.clone());
                    }
                }
                Step::Decertify(identity) => self.decertify(identity, at),
                Step::Redeem { token, redeemed } => {
                    self.enrollments.remove(&token.id());
                    self.redeem(redeemed, at);
                }
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

    /// How an identity may authenticate; without a policy, not at all.
    pub fn auth_policy(&self, identity: &IdentityId) -> Option<&AuthPolicy> {
        let identity = &self.identities.get(identity)?.entity;
        self.auth_policies.get(&identity.auth_policy_id).map(|stored| &stored.entity)
    }

    /// The second factor of an identity, if its holder has shown that it works.
    pub fn verified_mfa(&self, identity: &IdentityId) -> Option<&Mfa> {
        self.mfas.get(identity).filter(|mfa| mfa.is_verified)
    }

    /// Whether an identity is allowed nothing before it has shown its second factor again.
    pub fn awaits_code(&self, identity: &IdentityId) -> bool {
        self.quarantines.get(identity).is_some_and(|quarantine| quarantine.second_factor)
    }

    /// Whether the policy of an identity asks for a second factor.
    pub fn requires_totp(&self, identity: &IdentityId) -> bool {
        self.auth_policy(identity).is_some_and(|policy| policy.secondary.require_totp)
    }

    /// What is noted beside an entity.
    pub fn tags(&self, kind: EntityKind, id: &str) -> Option<&Tags> {
        with_kind!(kind, E => self.find::<E>(id).map(|stored| &stored.tags))
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

    /// The identity that was offered the certificate of this SHA-1 fingerprint, and that certificate as its next.
    pub fn identity_by_offer(&self, fingerprint: &str) -> Option<(EnrollmentTarget, Certificate)> {
        let (id, next) = offered(&self.certificates, fingerprint)?;
        Some((EnrollmentTarget::Identity(id.clone()), next))
    }

    /// Whether an identity proves itself by the certificate of this SHA-1 fingerprint. A router begins to use the one that
    /// it was offered before the controller hears of it.
    pub fn may_present(&self, identity: &Identity, fingerprint: &str) -> bool {
        let is_offered = || {
            let router = self.router_certificates.get(&RouterId::new(identity.id.as_str()));
            router.is_some_and(|certificate| certificate.successor(fingerprint).is_some())
        };
        let present = identity.fingerprint.as_deref();
        present == Some(fingerprint) || (present.is_some() && is_offered())
    }

    /// The router that was offered the certificate of this SHA-1 fingerprint, and that certificate as its next.
    pub fn router_by_offer(&self, fingerprint: &str) -> Option<(EnrollmentTarget, Certificate)> {
        let (id, next) = offered(&self.router_certificates, fingerprint)?;
        Some((EnrollmentTarget::Router(id.clone()), next))
    }

    /// The router that authenticates with the certificate of this SHA-1 fingerprint.
    pub fn router_by_fingerprint(&self, fingerprint: &str) -> Option<&EdgeRouter> {
        self.routers
            .values()
            .map(|stored| &stored.entity)
            .find(|router| router.fingerprint.as_deref() == Some(fingerprint))
    }

    fn create<E: Kept>(&mut self, entity: &E, at: Timestamp) {
        let stored =
            Stored { entity: entity.clone(), created_at: at, updated_at: at, tags: Tags::new() };
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
        self.enrollments.retain(|_, pending| pending.target.subject() != (E::KIND, id));
        if E::KIND == EntityKind::Identity {
            self.forget(&IdentityId::new(id));
        }
        if E::KIND == EntityKind::EdgeRouter {
            self.router_certificates.remove(&RouterId::new(id));
            let identity = RouterId::new(id).as_identity();
            self.identities.remove(&identity);
            self.forget(&identity);
        }
        if E::KIND == EntityKind::Ca {
            self.enrollments.retain(|_, p| p.ca.as_ref().is_none_or(|ca| ca.as_str() != id));
        }
    }

    /// Drops what belongs to an identity that is gone.
    fn forget(&mut self, identity: &IdentityId) {
        self.certificates.remove(identity);
        self.usernames.remove(identity);
        self.quarantines.remove(identity);
        self.mfas.remove(identity);
        let target = EnrollmentTarget::Identity(identity.clone());
        self.enrollments.retain(|_, pending| pending.target != target);
    }

    fn redeem(&mut self, redeemed: &Redeemed, at: Timestamp) {
        match redeemed {
            Redeemed::Identity { id, certificate } => self.certify(id, certificate, at),
            Redeemed::Password(login) => self.set_password(login),
            Redeemed::Router { id, certificate, address } => {
                if let Some(router) = self.routers.get_mut(id) {
                    router.entity.address.clone_from(address);
                }
                self.certify_router(id, certificate, at);
                self.certify(&id.as_identity(), certificate, at);
            }
        }
    }

    fn set_password(&mut self, PasswordLogin { identity, username, .. }: &PasswordLogin) {
        self.usernames.insert(identity.clone(), username.clone());
    }

    fn decertify(&mut self, id: &IdentityId, at: Timestamp) {
        if let Some(identity) = self.identities.get_mut(id) {
            identity.entity.fingerprint = None;
            identity.updated_at = at;
        }
        self.certificates.remove(id);
    }

    fn certify_router(&mut self, id: &RouterId, certificate: &Certificate, at: Timestamp) {
        if let Some(router) = self.routers.get_mut(id) {
            router.entity.fingerprint = Some(certificate.fingerprint.clone());
            router.updated_at = at;
            self.router_certificates.insert(id.clone(), certificate.clone());
        }
    }

    fn certify(&mut self, id: &IdentityId, certificate: &Certificate, at: Timestamp) {
        if let Some(identity) = self.identities.get_mut(id) {
            identity.entity.fingerprint = Some(certificate.fingerprint.clone());
            identity.updated_at = at;
            self.certificates.insert(id.clone(), certificate.clone());
        }
    }
}

fn to_json(entity: &impl Entity) -> Value {
    serde_json::to_value(entity).expect("maps of entities have text keys")
}

/// Whose next certificate it is.
fn offered<'a, Id>(
    certificates: &'a BTreeMap<Id, Certificate>,
    fingerprint: &str,
) -> Option<(&'a Id, Certificate)> {
    let mut all = certificates.iter();
    all.find_map(|(id, certificate)| Some((id, certificate.successor(fingerprint)?)))
}
