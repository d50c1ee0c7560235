//! The controller's durable state.
//!
//! [`Store`] is the boundary: the server holds the whole [`Model`] in memory and passes every
//! [`Change`] through the store first, so what was acknowledged is on disk. [`SqliteStore`] keeps
//! everything in one file.

mod audit;
mod change;
mod error;
mod mfa;
#[macro_use]
mod model;
mod sqlite;
mod store;
mod usage;

pub use audit::{Action, AuditBounds, AuditEntry, AuditRecord, Author};
pub use change::{
    By, Certificate, Change, Enrollment, EnrollmentId, EnrollmentTarget, EnrollmentToken,
    OfferedCertificate, PasswordLogin, PendingEnrollment, Redeemed, Step,
};
pub use error::StoreError;
pub use mfa::{Mfa, SecondFactor, Whose};
pub use model::{AnyEntity, Kept, Model, Stored, Tags, Timestamp};
pub use sqlite::SqliteStore;
pub use store::{ApiSession, Loaded, Store, TOKEN_RESERVE};
pub use usage::{Usage, UsageKey};
