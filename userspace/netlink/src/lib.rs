//! Interfaces, addresses, routes, policy rules and offloads of the host, and what the kernel knows of connections: the
//! only crate that speaks rtnetlink.
//!
//! Whatever is added comes back as an [`Undo`]; applying it restores what was there before. Adding
//! is idempotent: what an earlier run of the product left behind (marked with
//! [`ROUTE_PROTOCOL`]) is adopted, what somebody else made is left alone and never undone.
//!
//! Every function acts in the network namespace of the calling thread.

mod address;
mod dns_link;
mod error;
mod family;
mod handle;
mod interception;
mod interface;
mod ioctl;
mod mirror_pair;
mod neighbour;
mod offload;
mod pair;
mod prefix;
mod queue;
mod route;
mod sysctl;
mod tcp;
mod undo;
mod watch;
mod way;

pub use address::{AddressRank, InterfaceAddress};
pub use dns_link::DNS_DEVICE;
pub use error::NetlinkError;
pub use handle::Netlink;
pub use interception::Interception;
pub use interface::{AdminState, Interface, InterfaceIndex, MacAddress};
pub use mirror_pair::{MIRROR_DEVICE, MIRROR_PEER, MirrorPair, TUNNEL_MIRROR};
pub use neighbour::Neighbour;
pub use prefix::{InvalidPrefix, Prefix};
pub use route::{NextHop, ROUTE_PROTOCOL, Route};
pub use tcp::{TcpSegments, tcp_segments};
pub use undo::Undo;
pub use watch::InterfaceWatch;
pub use way::{Passenger, Way};
