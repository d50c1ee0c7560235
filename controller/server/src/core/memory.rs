//! Everything that is held in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use nightgate_model::{
    authorization::{Authorizations, ServicesOfAny},
    entity::{Identity, Permission, Service},
    event::{Occurrence, SessionChange, SessionEvent},
    id::{ApiSessionId, IdentityId, ServiceId},
    kind::EntityKind,
};
use nightgate_store::{
    AnyEntity, ApiSession, By, Change, Loaded, Model, PasswordLogin, Redeemed, SecondFactor, Step,
    Stored, TOKEN_RESERVE, Timestamp, Whose,
};

use super::{
    evaluation::Evaluation,
    live::{Live, LiveReport},
    usage::UsageCounts,
};
use crate::events::{Told, identity_name, occurrence, service_name};

/// Everything that is held in memory.
pub(crate) struct Memory {
    /// The entities, as in the store. Copied on a change while a [`Snapshot`] is in use.
    pub(crate) model: Arc<Model>,
    /// Position in the history of changes, as in the store.
    pub(crate) index: u64,
    /// Counts changes of entities; what routers report is none.
    model_version: u64,
    /// When services or policies last changed.
    pub(crate) services_changed_at: Timestamp,
    /// API sessions.
    pub(crate) api_sessions: HashMap<ApiSessionId, LiveApiSession>,
    /// API sessions that were ended before their time, and until when their tokens may be good.
    ended_sessions: BTreeMap<ApiSessionId, Timestamp>,
    /// What connected routers report.
    pub(crate) live: Live,
    /// Routers reported something since the last publication.
    pub(super) live_changed: bool,
    /// What identities have used and the store does not know yet.
    pub(crate) usage: UsageCounts,
    /// Changes of sessions that nobody has told yet.
    told: Vec<Occurrence>,
    /// When the model last changed.
    changed_at: Timestamp,
    authorizations: Arc<Evaluation>,
}

/// Everything that is published, at one moment.
pub(super) struct Snapshot {
    /// Position in the history of changes.
    pub(super) index: u64,
    /// Differs when the entities do.
    pub(super) model_version: u64,
    /// The entities.
    pub(super) entities: Entities,
    /// What routers report.
    pub(super) live: LiveReport,
    /// API sessions that were ended before their time.
    pub(super) ended_sessions: BTreeSet<ApiSessionId>,
}

/// The entities at one moment.
pub(super) struct Entities {
    /// The entities.
    pub(super) model: Arc<Model>,
    authorizations: Arc<Evaluation>,
}

/// An API session and what was done under it.
pub(crate) struct LiveApiSession {
    /// As stored.
    pub(crate) session: ApiSession,
    /// Service sessions, one for each service and permission.
    pub(crate) services: BTreeMap<(ServiceId, Permission), ServiceSession>,
}

/// A client's session for one service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceSession {
    /// Identifier.
    pub(crate) id: String,
    /// For which service.
    pub(crate) service: ServiceId,
    /// Dial or Bind.
    pub(crate) permission: Permission,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

impl Memory {
    pub(super) fn new(loaded: Loaded, now: Timestamp) -> Self {
        let mut memory = Self {
            changed_at: loaded.model.changed_at().unwrap_or(Timestamp(0)),
            model: Arc::new(loaded.model),
            index: loaded.index,
            model_version: 0,
            services_changed_at: now,
            api_sessions: HashMap::new(),
            ended_sessions: loaded.ended_sessions,
            live: Live::default(),
            live_changed: false,
            usage: UsageCounts::default(),
            told: Vec::new(),
            authorizations: Arc::default(),
        };
        for session in loaded.api_sessions {
            memory.put_api_session(session, now);
        }
        // They began before.
        memory.told.clear();
        memory
    }

    /// What happened since it was last asked, and how many milliseconds ago.
    pub(super) fn take_events(&mut self, now: Timestamp) -> Vec<(u64, Occurrence)> {
        let sessions = std::mem::take(&mut self.told).into_iter().map(|what| (0, what));
        let model = &self.model;
        let routers = self.live.take_told(now).into_iter().map(|told| {
            let ago = if let Told::Circuit(_, note) = &told { note.ago } else { 0 };
            (ago, occurrence(model, told))
        });
        sessions.chain(routers).collect()
    }

    /// Notes a change of an API session, or of one service session under it.
    pub(crate) fn tell_session(
        &mut self,
        change: SessionChange,
        api: &ApiSession,
        session: Option<&ServiceSession>,
    ) {
        let model = &self.model;
        self.told.push(Occurrence::Session(Box::new(SessionEvent {
            event: change,
            api_session_id: api.id.clone(),
            identity: identity_name(model, &api.identity),
            identity_id: api.identity.clone(),
            session_id: session.map(|session| session.id.clone()),
            service: session.map(|session| service_name(model, &session.service)),
            service_id: session.map(|session| session.service.clone()),
            permission: session.map(|session| session.permission),
        })));
    }

    pub(super) fn apply(&mut self, change: &Change, at: Timestamp, index: u64) {
        Arc::make_mut(&mut self.model).apply(change, at);
        self.index = index;
        self.model_version += 1;
        self.authorizations = Arc::new(self.authorizations.after(&change.steps));
        for step in &change.steps {
            match step {
                Step::Create(AnyEntity::Identity(_) | AnyEntity::EdgeRouter(_))
                | Step::Create(AnyEntity::Ca(_) | AnyEntity::AuthPolicy(_))
                | Step::Update(AnyEntity::Ca(_) | AnyEntity::AuthPolicy(_))
                | Step::Delete(EntityKind::Ca | EntityKind::AuthPolicy, _)
                | Step::SetTags(..)
                | Step::Quarantine(_)
                | Step::Release(_)
                | Step::Enroll(..)
                | Step::DeleteEnrollment(_)
                | Step::Certify(..)
                | Step::OfferCertificate(..)
                | Step::SetMfa(_)
                | Step::RemoveMfa(_)
                | Step::Redeem { redeemed: Redeemed::Identity { .. }, .. }
                | Step::Redeem { redeemed: Redeemed::Router { .. }, .. } => {}
                Step::SetSecondFactor(whose, state) => self.set_second_factor(whose, *state),
                Step::Decertify(identity) | Step::EndSessions(identity, By::Certificate) => {
                    self.end_sessions(|session| {
                        session.identity == *identity && session.fingerprint.is_some()
                    });
                }
                Step::SetPassword(PasswordLogin { identity, .. })
                | Step::Redeem {
                    redeemed: Redeemed::Password(PasswordLogin { identity, .. }),
                    ..
                }
                | Step::RemovePassword(identity)
                | Step::EndSessions(identity, By::Password) => {
                    self.end_sessions(|session| {
                        session.identity == *identity && session.fingerprint.is_none()
                    });
                }
                Step::Update(AnyEntity::Identity(identity)) if identity.disabled => {
                    self.end_sessions(|session| session.identity == identity.id);
                }
                Step::Delete(EntityKind::Identity, id) => {
                    self.end_sessions(|session| session.identity.as_str() == id);
                }
                Step::Create(_) | Step::Update(_) | Step::Delete(..) => {
                    self.services_changed_at = at;
                }
            }
        }
        self.changed_at = at;
    }

    /// A moment after every change so far, `now` if it is.
    pub(super) fn later_than_all(&self, now: Timestamp) -> Timestamp {
        now.max(Timestamp(self.changed_at.0 + 1))
    }

    pub(super) fn put_api_session(&mut self, session: ApiSession, now: Timestamp) {
        let over = self.api_sessions.extract_if(|_, live| live.session.expires_at <= now);
        for expired in over.map(|(_, live)| live.session).collect::<Vec<_>>() {
            self.tell_session(SessionChange::Expired, &expired, None);
            self.keep_out(&expired);
        }
        self.ended_sessions.retain(|_, until| *until > now);
        if session.expires_at <= now {
            self.keep_out(&session);
        } else if let Some(known) = self.api_sessions.get_mut(&session.id) {
            known.session.expires_at = session.expires_at;
        } else {
            self.tell_session(SessionChange::Created, &session, None);
            let live = LiveApiSession { services: BTreeMap::new(), session: session.clone() };
            self.api_sessions.insert(session.id, live);
        }
    }

    /// Routers go on refusing the token of a session that has ended without its second factor.
    fn keep_out(&mut self, session: &ApiSession) {
        if is_refused(session) {
            let until = Timestamp(session.expires_at.0 + TOKEN_RESERVE);
            self.ended_sessions.insert(session.id.clone(), until);
        }
    }

    /// How a new API session of an identity stands with a second factor.
    pub(crate) fn second_factor_of(&self, identity: &IdentityId) -> SecondFactor {
        if self.model.verified_mfa(identity).is_some() || self.model.requires_totp(identity) {
            SecondFactor::Due
        } else {
            SecondFactor::NotNeeded
        }
    }

    fn set_second_factor(&mut self, whose: &Whose, state: SecondFactor) {
        let sessions = self.api_sessions.values_mut().filter(|live| match whose {
            Whose::Session(id) => live.session.id == *id,
            Whose::Identity(id) => live.session.identity == *id,
        });
        for live in sessions {
            live.session.second_factor = state;
            if state == SecondFactor::Due {
                live.services.clear();
            }
        }
    }

    /// Who may do what; evaluated when first asked for after a change.
    pub(crate) fn authorizations(&self) -> &Authorizations {
        self.authorizations.of(&self.model)
    }

    /// The entities now, to look at without holding up others.
    pub(super) fn entities(&self) -> Entities {
        Entities {
            model: Arc::clone(&self.model),
            authorizations: Arc::clone(&self.authorizations),
        }
    }

    /// Everything that is published, as it is now.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            index: self.index,
            model_version: self.model_version,
            entities: self.entities(),
            live: self.live.report(),
            ended_sessions: self.refused_sessions(),
        }
    }

    /// API sessions whose tokens routers refuse: those that were ended, and those that wait for a second factor.
    fn refused_sessions(&self) -> BTreeSet<ApiSessionId> {
        let sessions = self.api_sessions.values().map(|live| &live.session);
        let waiting = sessions.filter(|session| is_refused(session)).map(|session| &session.id);
        self.ended_sessions.keys().chain(waiting).cloned().collect()
    }

    /// The services an identity may dial or bind, by name, with what it may do.
    pub(crate) fn services_of(
        &self,
        identity: &IdentityId,
    ) -> Vec<(&Stored<Service>, Vec<Permission>)> {
        let authorizations = self.authorizations();
        let mut permissions: BTreeMap<&ServiceId, Vec<Permission>> = BTreeMap::new();
        for permission in [Permission::Dial, Permission::Bind] {
            for service in authorizations.services(identity, permission) {
                permissions.entry(service).or_default().push(permission);
            }
        }
        let mut services: Vec<_> = permissions
            .into_iter()
            .filter_map(|(id, permissions)| Some((self.model.services.get(id)?, permissions)))
            .collect();
        services.sort_by(|(a, _), (b, _)| a.entity.name.cmp(&b.entity.name));
        services
    }

    /// What some identity may do for which a client is, or may be, at work that does not speak our own method of
    /// end-to-end encryption. Routers take nobody without an API session that began with a certificate, and
    /// speak the method where they are ends themselves.
    pub(crate) fn foreign_ends(&self, permission: Permission) -> ServicesOfAny<'_> {
        let sessions = self.api_sessions.values().map(|live| &live.session);
        let foreign = sessions.filter(|session| session.fingerprint.is_some() && !session.native);
        let identities = foreign.map(|session| &session.identity);
        self.authorizations().services_of_any(identities, permission)
    }

    /// The identities that have an API session.
    pub(crate) fn authenticated(&self) -> HashSet<&IdentityId> {
        self.api_sessions.values().map(|live| &live.session.identity).collect()
    }

    /// An identity that may use the controller now.
    pub(crate) fn enabled_identity(&self, id: &IdentityId) -> Option<&Identity> {
        self.model
            .identities
            .get(id)
            .map(|stored| &stored.entity)
            .filter(|identity| !identity.disabled)
    }

    /// The identity that may authenticate with this certificate now.
    pub(crate) fn identity_by_certificate(
        &self,
        fingerprint: &str,
        is_expired: bool,
    ) -> Option<&Identity> {
        let identity = self.model.identity_by_fingerprint(fingerprint)?;
        let may = self.may_use_certificate(&identity.id, is_expired);
        (may && !identity.disabled).then_some(identity)
    }

    /// Whether an identity's policy lets it log in with a password.
    pub(crate) fn may_use_password(&self, identity: &IdentityId) -> bool {
        self.model.auth_policy(identity).is_some_and(|policy| policy.primary.updb.allowed)
    }

    /// Whether the certificate of an identity counts, which may have ended.
    pub(crate) fn may_use_certificate(&self, identity: &IdentityId, is_expired: bool) -> bool {
        let policy = self.model.auth_policy(identity).map(|policy| &policy.primary.cert);
        let may =
            policy.is_some_and(|cert| cert.allowed && (!is_expired || cert.allow_expired_certs));
        may && self.is_certificate_good(identity)
    }

    /// Whether the certificate of an identity is ours, or of a CA that is good for authentication.
    fn is_certificate_good(&self, identity: &IdentityId) -> bool {
        let certificate = self.model.certificates.get(identity);
        let Some(ca) = certificate.and_then(|certificate| certificate.ca.as_ref()) else {
            return true;
        };
        let ca = self.model.cas.get(ca).map(|stored| &stored.entity);
        ca.is_some_and(|ca| ca.is_verified && ca.is_auth_enabled)
    }

    /// Ends an API session and its service sessions, at this position in the history of changes.
    pub(super) fn end_session(&mut self, id: &ApiSessionId, index: u64) {
        self.end_sessions(|session| session.id == *id);
        self.index = index;
    }

    /// Ends sessions; routers are told of those whose tokens they would take.
    fn end_sessions(&mut self, which: impl Fn(&ApiSession) -> bool) {
        let ended: Vec<_> = self.api_sessions.extract_if(|_, live| which(&live.session)).collect();
        for (id, live) in ended {
            self.tell_session(SessionChange::Ended, &live.session, None);
            if live.session.fingerprint.is_some() {
                let until = Timestamp(live.session.expires_at.0 + TOKEN_RESERVE);
                self.ended_sessions.insert(id, until);
            }
        }
    }
}

/// Whether routers would take the token of a session that waits for a second factor, and must not.
fn is_refused(session: &ApiSession) -> bool {
    session.second_factor == SecondFactor::Due && session.fingerprint.is_some()
}

impl Entities {
    /// Who may do what; an evaluation here serves later questions about the same entities too.
    pub(super) fn authorizations(&self) -> &Authorizations {
        self.authorizations.of(&self.model)
    }
}
