//! Wire formats: the edge channel that OpenZiti clients speak, and the links between routers.
//!
//! Pure: bytes in, values out. Every decoder takes limits and never trusts a length it has read.

mod cause;
pub mod channel;
pub mod datagrams;
pub mod edge;
pub mod headers;
pub mod link;
pub mod source;

pub use cause::{FailureCause, Leg};
pub use headers::Headers;
