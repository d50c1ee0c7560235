//! The boundary to the database.

use std::{collections::BTreeMap, ops::ControlFlow};

use nightgate_model::id::{ApiSessionId, IdentityId};

use crate::{
    AuditBounds, AuditEntry, Change, Model, PasswordLogin, SecondFactor, StoreError, Timestamp,
    Usage, UsageKey,
};

/// Everything that is read at start.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// All entities.
    pub model: Model,
    /// Position in the history of changes.
    pub index: u64,
    /// API sessions, also expired ones.
    pub api_sessions: Vec<ApiSession>,
    /// API sessions that were ended before their time, and until when their tokens may be good.
    pub ended_sessions: BTreeMap<ApiSessionId, Timestamp>,
}

/// How much longer than a session's stored end its tokens may be good, in milliseconds: sessions that are asked
/// for again and again are not written each time. As long as a session itself.
pub const TOKEN_RESERVE: i64 = 60 * 60 * 1000;

/// One authenticated client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiSession {
    /// Identifier.
    pub id: ApiSessionId,
    /// Who.
    pub identity: IdentityId,
    /// SHA-1 of the client certificate it is bound to, lower-case hex; none if it began with a password.
    pub fingerprint: Option<String>,
    /// Config types that the client asked for.
    pub config_types: Vec<String>,
    /// The client said that it speaks our own method of end-to-end encryption.
    pub native: bool,
    /// How it stands with a second factor.
    pub second_factor: SecondFactor,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Durable state. A call that returned `Ok` survives the loss of the process and of power.
///
/// Calls block; they are made from threads that may.
pub trait Store: Send + Sync {
    /// Reads everything.
    ///
    /// # Errors
    /// The database fails or is damaged.
    fn load(&self) -> Result<Loaded, StoreError>;

    /// Makes a change in one transaction that also increments the model index, which is returned.
    ///
    /// # Errors
    /// A name is taken, an entity or token does not exist, or the database fails; nothing is changed.
    fn apply(&self, change: &Change, at: Timestamp) -> Result<u64, StoreError>;

    /// Shows the entries of the audit log, the latest first, until `visit` breaks off.
    ///
    /// # Errors
    /// The database fails or is damaged.
    fn audit(&self, visit: &mut dyn FnMut(AuditEntry) -> ControlFlow<()>)
    -> Result<(), StoreError>;

    /// Removes the oldest entries of the audit log, as many as the bounds do not admit. Returns how many.
    ///
    /// # Errors
    /// The database fails.
    fn trim_audit(&self, bounds: AuditBounds, now: Timestamp) -> Result<usize, StoreError>;

    /// Adds to what identities have used, in the hour of this moment.
    ///
    /// # Errors
    /// The database fails; nothing is added.
    fn add_usage(&self, lines: &[(UsageKey, Usage)], at: Timestamp) -> Result<(), StoreError>;

    /// What identities have used since the beginning of the hour of this moment.
    ///
    /// # Errors
    /// The database fails.
    fn usage(&self, since: Timestamp) -> Result<Vec<(UsageKey, Usage)>, StoreError>;

    /// Forgets usage before the hour of this moment, and the oldest hours that are beyond so many lines. Returns how
    /// many lines.
    ///
    /// # Errors
    /// The database fails.
    fn trim_usage(&self, before: Timestamp, max_lines: u32) -> Result<usize, StoreError>;

    /// Increments the model index for a change of what is only in memory, and returns it.
    ///
    /// # Errors
    /// The database fails.
    fn advance_index(&self) -> Result<u64, StoreError>;

    /// How the identity with this name to log in with does so.
    ///
    /// # Errors
    /// The database fails.
    fn password(&self, username: &str) -> Result<Option<PasswordLogin>, StoreError>;

    /// Adds or prolongs an API session and forgets those that ended before `now`.
    ///
    /// # Errors
    /// The identity does not exist or the database fails.
    fn put_api_session(&self, session: &ApiSession, now: Timestamp) -> Result<(), StoreError>;

    /// Ends an API session before its time, in one transaction that also increments the model index, which is
    /// returned.
    ///
    /// # Errors
    /// The database fails.
    fn remove_api_session(&self, id: &ApiSessionId) -> Result<u64, StoreError>;
}
