//! Loads, attaches, stages and commits the kernel programs: the only crate that uses aya.
//!
//! [`Datapath::load`] puts the programs into the kernel, [`Datapath::attach`] on interfaces, where they
//! refuse everything until the first [`Datapath::commit`]. Dropping the [`Datapath`] detaches them,
//! unless it was made by [`Datapath::open`]: then they go on without this process, and the next one takes
//! them over.//!
//! Interfaces are those of the network namespace of the calling thread.

mod bank;
mod batch;
mod datapath;
mod drops;
mod error;
mod ether;
mod events;
mod fallback;
mod flows;
mod guard;
mod intercept;
mod interface;
mod kept;
mod limits;
mod link;
mod lookup;
mod map;
mod memory;
mod mirror;
mod moving;
mod namespace;
mod nat;
mod note;
mod object;
mod pins;
mod probe;
mod quarantine;
mod statistics;
mod throttle;
mod tunnel;
mod vlan;

pub use datapath::Datapath;
pub use drops::Drops;
pub use error::{DatapathError, PinError};
pub use events::{Events, PacketEnds, PacketEvent};
pub use flows::{FlowEntry, FlowSide, FlowTables};
pub use guard::GuardMode;
pub use interface::IfIndex;
pub use mirror::MirrorMaps;
pub use nightgate_abi as abi;
pub use nightgate_abi::Hook;
pub use pins::Pins;
pub use probe::{Probe, ProbeResult, Verdict};
pub use statistics::{MirrorStatistics, Statistics};
pub use throttle::Throttled;
pub use tunnel::{Destinations, Tunnel, TunnelHooks, TunnelInterface, TunnelPlace};
