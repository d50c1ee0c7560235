//! Identities, services and policies to authorizations.
//!
//! Pure: the same entities always give the same answer. A policy grants its permission to every
//! identity that its identity roles select, on every service that its service roles select; there is
//! no policy that takes a permission away, and what no policy grants is refused. Edge-router policies
//! say in the same way which identities may use which routers, and service-edge-router policies which
//! routers may carry which services. After a change, [`reauthorize`] looks at what was touched only.

mod authorize;
mod explain;
mod select;

pub use authorize::{Entities, Touched, authorize, reauthorize};
pub use explain::{explain, explain_routers};
