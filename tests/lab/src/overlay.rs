//! The product at work: the demo's network, its processes, and what is to be seen.

mod topology;

pub use self::topology::{Topology, address};
