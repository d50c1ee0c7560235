//! The controller's state: durable model, live routers, sessions, and what is published of them.

mod audit;
mod evaluation;
mod expiry;
mod live;
mod lost;
mod memory;
mod publish;
mod quarantine;
mod renewal;
mod replica;
mod trim;
mod usage;

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use nightgate_model::{
    event::{EntityEvent, Occurrence},
    id::{ApiSessionId, IdentityId},
    kind::EntityKind,
    token::{ApiSessionClaims, ApiSessionKind, SessionClaims, SessionKind},
};
use nightgate_pki::{Authority, TokenError};
use nightgate_store::{
    AnyEntity, ApiSession, AuditEntry, AuditRecord, Author, Change, PasswordLogin, SecondFactor,
    Step, Store, StoreError, TOKEN_RESERVE, Timestamp,
};
use tokio::sync::{Notify, watch};

pub(crate) use self::{
    expiry::enable_when_due,
    live::{Connection, Live, LiveError},
    memory::{LiveApiSession, Memory, ServiceSession},
    publish::{Published, publish_changes},
    quarantine::{
        QuarantineError, begin as begin_quarantine,
        begin_for_router as begin_quarantine_for_router, release as release_quarantine,
        require_second_factor, steps_to_remove_factor,
    },
    renewal::{begin_using, renew_router},
    replica::resolved_config,
    trim::keep_audit_short,
    usage::keep_usage,
};
use crate::{
    Address, attempts::Attempts, clock, events::EventLog, limit::Failures, metrics::Requests,
    password::Passwords, rest::built_in_config_types, trust::ClientTrust,
};

/// How long an API session lasts without being refreshed, in milliseconds. Short, because routers have to be told
/// of sessions that were ended early until their tokens expire.
pub(crate) const API_SESSION_LIFETIME: i64 = TOKEN_RESERVE;

/// Enrollments of one source that may fail in a minute. A token is 122 random bits: this is about load, not guesses.
const MAX_FAILED_ENROLLMENTS: u32 = 30;

/// Authentications of one source that may fail in a minute, whatever the name; one name has a limit of its own.
const MAX_FAILED_LOGINS: u32 = 60;

/// Shared by every connection.
pub(crate) struct Core {
    /// Signs certificates and tokens.
    pub(crate) authority: Authority,
    /// Whose certificates clients may present.
    pub(crate) trust: Arc<ClientTrust>,
    /// How others reach the controller.
    pub(crate) address: Address,
    /// Differs after each start: clients notice a restart by it.
    pub(crate) instance: String,
    /// Enrollments that failed.
    pub(crate) failed_enrollments: Failures,
    /// Authentications that failed.
    pub(crate) failed_logins: Failures,
    /// Codes of second factors that were wrong.
    pub(crate) wrong_codes: Attempts,
    /// Hashes passwords.
    pub(crate) passwords: Passwords,
    /// What happened lately.
    pub(crate) events: Arc<EventLog>,
    /// What was asked of the REST interfaces.
    pub(crate) requests: Requests,
    store: Box<dyn Store>,
    /// Held from a change's commit to its arrival in memory, so that both have one order.
    order: Mutex<()>,
    memory: RwLock<Memory>,
    changed: Notify,
    published: watch::Sender<Published>,
}

impl Core {
    /// Loads the store and makes the first publication.
    pub(crate) fn new(
        authority: Authority,
        trust: Arc<ClientTrust>,
        address: Address,
        store: Box<dyn Store>,
    ) -> Result<Self, StoreError> {
        add_built_in(&*store)?;
        let memory = Memory::new(store.load()?, clock::timestamp());
        trust.follow(&memory.model);
        let first = Published::new(&memory.snapshot(), &authority);
        Ok(Self {
            authority,
            trust,
            address,
            failed_enrollments: Failures::new(MAX_FAILED_ENROLLMENTS),
            failed_logins: Failures::new(MAX_FAILED_LOGINS),
            wrong_codes: Attempts::default(),
            passwords: Passwords::new(),
            events: Arc::new(EventLog::new()),
            requests: Requests::default(),
            instance: uuid::Uuid::new_v4().to_string(),
            store,
            order: Mutex::new(()),
            memory: RwLock::new(memory),
            changed: Notify::new(),
            published: watch::Sender::new(first),
        })
    }

    /// Looks at the state. `look` must not block.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        look(&self.memory.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`Self::read`], for questions about authorizations: policies that have to be evaluated are
    /// evaluated before, while others can read and write.
    pub(crate) fn read_evaluated<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        self.evaluate();
        self.read(look)
    }

    /// As [`Self::write`], after evaluating policies.
    pub(crate) fn write_evaluated<T>(&self, update: impl FnOnce(&mut Memory) -> T) -> T {
        self.evaluate();
        self.write(update)
    }

    /// Follows what routers are told.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Plans a change by the model as it is, makes it durable, then visible. Nothing else changes the
    /// model in between, so what the plan relied on still holds. `plan` must not block.
    ///
    /// # Errors
    /// What the plan refuses, and what the store does.
    pub(crate) async fn edit<T, E>(
        self: &Arc<Self>,
        author: Author,
        plan: impl FnOnce(&Memory) -> Result<(Vec<Step>, T), E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let planned = self
            .blocking(move |core| {
                let _order = core.order.lock().unwrap_or_else(PoisonError::into_inner);
                let (steps, result) = core.read(plan)?;
                let audit = core.read(|memory| audit::records(&memory.model, &author, &steps));
                let change = Change { steps, audit };
                // Later than every change before: an entity's timestamp tells its versions apart.
                let at = core.read(|memory| memory.later_than_all(clock::timestamp()));
                let index = core.store.apply(&change, at)?;
                core.write(|memory| memory.apply(&change, at, index));
                for record in change.audit {
                    core.events.add(at, Occurrence::Entity(Box::new(entity_event(record))));
                }
                if change.steps.iter().any(concerns_trust) {
                    core.read(|memory| core.trust.follow(&memory.model));
                }
                Ok::<_, E>(result)
            })
            .await?;
        self.changed.notify_one();
        Ok(planned)
    }

    /// Shows the entries of the audit log, the latest first, until `visit` breaks off.
    pub(crate) async fn audit<T: Send + 'static>(
        self: &Arc<Self>,
        mut collected: T,
        mut visit: impl FnMut(&mut T, AuditEntry) -> ControlFlow<()> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.blocking(move |core| {
            core.store.audit(&mut |entry| visit(&mut collected, entry))?;
            Ok(collected)
        })
        .await
    }

    /// Changes what routers report; nothing of it is stored.
    pub(crate) fn update_live<T>(&self, update: impl FnOnce(&mut Live) -> T) -> T {
        let result = self.write(|memory| {
            memory.live_changed = true;
            update(&mut memory.live)
        });
        self.changed.notify_one();
        result
    }

    /// How the identity with this name to log in with does so.
    pub(crate) async fn password(
        self: &Arc<Self>,
        username: String,
    ) -> Result<Option<PasswordLogin>, StoreError> {
        self.blocking(move |core| core.store.password(&username)).await
    }

    /// Begins or prolongs an API session. Of one that waits for a second factor, routers are told: its token is of a later
    /// position in the history of changes than what they knew before.
    pub(crate) async fn put_api_session(
        self: &Arc<Self>,
        session: ApiSession,
    ) -> Result<(), StoreError> {
        self.blocking(move |core| {
            let now = clock::timestamp();
            if session.second_factor != SecondFactor::Due {
                core.store.put_api_session(&session, now)?;
                core.write(|memory| memory.put_api_session(session, now));
                return Ok(());
            }
            let _order = core.order.lock().unwrap_or_else(PoisonError::into_inner);
            core.store.put_api_session(&session, now)?;
            let index = core.store.advance_index()?;
            core.write(|memory| {
                memory.put_api_session(session, now);
                memory.index = index;
            });
            core.changed.notify_one();
            Ok(())
        })
        .await
    }

    /// Ends an API session and its service sessions.
    pub(crate) async fn remove_api_session(
        self: &Arc<Self>,
        id: ApiSessionId,
    ) -> Result<(), StoreError> {
        self.blocking(move |core| {
            let _order = core.order.lock().unwrap_or_else(PoisonError::into_inner);
            let index = core.store.remove_api_session(&id)?;
            core.write(|memory| memory.end_session(&id, index));
            core.changed.notify_one();
            Ok(())
        })
        .await
    }

    /// Changes sessions in memory, and tells of it.
    pub(crate) fn write<T>(&self, update: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        let result = update(&mut memory);
        let now = clock::timestamp();
        // Before others can change anything, so that events are in the order of what happened.
        for (ago, what) in memory.take_events(now) {
            let ago = i64::try_from(ago).unwrap_or(i64::MAX);
            self.events.add(Timestamp(now.0.saturating_sub(ago)), what);
        }
        result
    }

    /// Signs the token of an API session.
    pub(crate) fn sign_api_session(&self, session: &ApiSession) -> Result<String, TokenError> {
        self.authority.session_key().sign(&ApiSessionClaims {
            kind: ApiSessionKind::ApiSession,
            sub: session.identity.clone(),
            api_session: session.id.clone(),
            // None after a password: routers want a certificate, so they refuse the token.
            fingerprints: session.fingerprint.iter().cloned().collect(),
            exp: seconds(session.expires_at),
            index: self.read(|memory| memory.index),
        })
    }

    /// Signs the token of a service session.
    pub(crate) fn sign_session(
        &self,
        identity: &IdentityId,
        api_session: &ApiSession,
        session: &ServiceSession,
    ) -> Result<String, TokenError> {
        self.authority.session_key().sign(&SessionClaims {
            kind: SessionKind::Session,
            sub: session.service.clone(),
            identity: identity.clone(),
            api_session: api_session.id.clone(),
            permission: session.permission,
            exp: seconds(api_session.expires_at),
            index: self.read(|memory| memory.index),
        })
    }

    fn evaluate(&self) {
        let entities = self.read(Memory::entities);
        entities.authorizations();
    }

    /// Runs store work on a thread that may block, to its end even if the caller goes away.
    async fn blocking<T: Send + 'static, E: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let core = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&core)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn entity_event(record: AuditRecord) -> EntityEvent {
    EntityEvent {
        event: record.action,
        kind: record.kind,
        entity_id: record.id,
        name: record.name,
        author_id: record.author.id,
        author: record.author.name,
        before: record.before,
        after: record.after,
    }
}

/// Whether it may change whose certificates clients may present.
fn concerns_trust(step: &Step) -> bool {
    matches!(
        step,
        Step::Create(AnyEntity::Ca(_) | AnyEntity::AuthPolicy(_))
            | Step::Update(AnyEntity::Ca(_) | AnyEntity::AuthPolicy(_))
            | Step::Delete(EntityKind::Ca | EntityKind::AuthPolicy, _)
    )
}

/// Stores the built-in config types, as this release has them.
fn add_built_in(store: &dyn Store) -> Result<(), StoreError> {
    let model = store.load()?.model;
    let steps = built_in_config_types().into_iter().filter_map(|kind| {
        match model.config_types.get(&kind.id) {
            None => Some(Step::Create(kind.into())),
            Some(stored) if stored.entity != kind => Some(Step::Update(kind.into())),
            Some(_) => None,
        }
    });
    let steps: Vec<_> = steps.collect();
    if steps.is_empty() {
        return Ok(());
    }
    let at = model
        .changed_at()
        .map_or_else(clock::timestamp, |last| clock::timestamp().max(Timestamp(last.0 + 1)));
    store.apply(&steps.into(), at).map(drop)
}

fn seconds(at: Timestamp) -> i64 {
    at.0 / 1000
}
