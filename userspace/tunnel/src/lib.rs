//! The tunneler: what programs of this host connect and send to services that its identity may dial goes over the
//! overlay, without a TUN device, and without a port that anybody else reaches.
//!
//! Hooks of cgroups ([`nightgate_datapath::Tunnel`]) turn the calls of programs to sockets at the loopback address and
//! tell who called. [`table`] says what is intercepted, [`policy`] which programs may use it, [`run()`] puts the parts
//! together.

mod dns;
mod flows;
pub mod policy;
mod process;
mod sockets;
mod source;
pub mod table;
mod tcp;
mod tunneler;
mod udp;

pub use flows::FlowReport;
pub use process::Process;
pub use tunneler::{TunnelConfig, TunnelError, run};
