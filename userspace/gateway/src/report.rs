//! What the admin socket tells, in the shape that it is printed in.

mod explain;
mod firewall;
mod flows;
mod router;
mod sensor;
mod verdict;

pub use explain::{ExplainReport, Scope};
pub use firewall::{DropReport, MirrorReport, ReasonReport, RuleReport, mirror_reports};
pub use flows::{FlowError, FlowReport, KillReport};
pub use router::{NameReport, RouterReport};
pub use sensor::{QueueDrops, SensorReport, mirror_metrics, sensor_reports};
pub use verdict::{QuarantineReport, VerdictReport};
