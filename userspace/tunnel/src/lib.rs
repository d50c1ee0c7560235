//! The tunneler: what programs of this host connect and send to services that its identity may dial goes over the
//! overlay, without a TUN device, and without a port that anybody else reaches.
//!
//! Hooks of cgroups ([`nightgate_datapath::Tunnel`]) turn the calls of programs to sockets at the loopback address and
//! tell who called; where there are none, hooks on interfaces take packets instead ([`Attach`]). [`table`] says what is intercepted, [`policy`] which programs may use it, [`run()`] puts the parts
//! together. Services that the identity may host are connected to their servers; [`host()`] does that alone.

mod answers;
mod attach;
mod capture;
mod copying;
mod dns;
mod flows;
mod follower;
mod hooks;
mod host;
mod hosting;
mod interfaces;
mod mirror;
pub mod policy;
mod process;
mod records;
mod second_factor;
mod shared;
mod sockets;
mod source;
mod status;
pub mod table;
mod tcp;
mod tunneler;
mod udp;

pub use attach::Attach;
pub use flows::FlowReport;
pub use host::{HostConfig, host};
pub use process::Process;
pub use second_factor::{socket_of, take_codes};
pub use status::{AttachedTo, StatusReport};
pub use tunneler::{TunnelConfig, TunnelError, run};
