//! Circuits, links, routes and flow control as state machines without I/O.
//!
//! [`Router`] takes inputs by `handle_*` and its methods, and gives outputs by
//! [`Router::poll_command`] and [`Router::poll_timeout`]. Time is an argument and the seed is given
//! at construction, so that a test can drive many routers through years of virtual time.

mod bar;
mod cause;
mod command;
mod dial;
mod end;
mod flow;
mod forward;
mod ids;
mod info;
mod link;
mod open;
mod path;
mod router;
mod validity;

pub use cause::DialRefusal;
pub use command::{Command, Dial, KeyShare, Offer};
pub use flow::{SendError, WINDOW, weight};
pub use ids::{EndId, LinkId};
pub use info::{CircuitInfo, LinkInfo, Role};
pub use nightgate_wire::FailureCause;
pub use router::Router;
