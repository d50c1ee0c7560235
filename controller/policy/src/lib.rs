//! Identities, services and policies to authorizations.
//!
//! Pure: the same entities always give the same answer. A policy grants its permission to every
//! identity that its identity roles select, on every service that its service roles select; there is
//! no policy that takes a permission away, and what no policy grants is refused.

mod authorize;
mod explain;
mod select;

pub use authorize::authorize;
pub use explain::explain;
