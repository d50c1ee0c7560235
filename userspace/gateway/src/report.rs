//! What the admin socket tells, in the shape that it is printed in.

mod explain;
mod firewall;
mod router;

pub use explain::{ExplainReport, Scope};
pub use firewall::{
    DropReport, FlowError, FlowReport, KillReport, MirrorReport, ReasonReport, RuleReport,
};
pub use router::{NameReport, RouterReport};
