//! Circuits, links, routes and flow control as state machines without I/O.
//!
//! [`Router`] takes inputs by `handle_*` and its methods, and gives outputs by
//! [`Router::poll_command`] and [`Router::poll_timeout`]; [`LinkQueue`] orders what waits for a link.
//! Time is an argument and the seed is given at construction, so that a test can drive many routers
//! through years of virtual time. [`Topology`] has the paths that routers choose, also for who only wants to know.

mod announce;
mod bar;
mod cause;
mod choose;
mod client;
mod command;
mod dial;
mod end;
mod ends;
mod flow;
mod forward;
mod heal;
mod history;
mod ids;
mod improve;
mod info;
mod link;
mod load;
mod neighbour;
mod offer;
mod open;
mod path;
mod proof;
mod queue;
mod random;
mod router;
mod timer;
mod trace;
mod validity;

pub use cause::DialRefusal;
pub use command::{Command, Dial, KeyShare, Offer};
pub use flow::{INITIAL_WINDOW, MAX_WINDOW, SendError, weight};
pub use history::EndedCircuit;
pub use ids::{EndId, Lane, LinkId};
pub use info::{CircuitInfo, LinkInfo, MemoryInfo, Role};
pub use nightgate_wire::FailureCause;
pub use path::{Lost, Passage, Path, Topology};
pub use queue::LinkQueue;
pub use router::Router;
pub use trace::TracedHop;
