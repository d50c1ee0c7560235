//! What the admin socket tells, in the shape that it is printed in.

mod firewall;
mod router;

pub use firewall::{FlowReport, MirrorReport, ReasonReport, RuleReport};
pub use router::{NameReport, RouterReport};
