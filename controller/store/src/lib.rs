//! The controller's durable state.
//!
//! [`Store`] is the boundary: the server holds the whole [`Model`] in memory and passes every
//! [`Change`] through the store first, so what was acknowledged is on disk. [`SqliteStore`] keeps
//! everything in one file.

mod change;
mod error;
mod model;
mod sqlite;
mod store;

pub use change::{Change, Enrollment, EnrollmentTarget, EnrollmentToken, Redeemed};
pub use error::{EntityKind, StoreError};
pub use model::{Model, Stored, Timestamp};
pub use sqlite::SqliteStore;
pub use store::{ApiSession, Loaded, Store};
