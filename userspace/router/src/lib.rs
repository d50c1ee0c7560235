//! The router: TLS, edge listener, links and control channel around the fabric core.
//!
//! [`Router::start`] runs one router in the current tokio runtime: it keeps a control channel to the
//! controller, dials links to routers that listen, and, if told to, listens itself for clients
//! and links. A gateway dials and hosts through the same [`Router`] handle. Every decision is taken
//! by `nightgate_fabric`; this crate only moves bytes.

mod activity;
mod actor;
mod backoff;
mod binding;
mod channel;
mod circuit;
mod contact;
mod control;
mod edge;
mod health;
mod instance;
mod link;
mod listener;
mod mailbox;
mod metrics;
mod notes;
mod outbox;
mod own;
mod proof;
mod quarantines;
mod renewal;
mod report;
mod router;
mod saved;
mod status;
mod terminators;
mod token;
mod trace;
mod traffic;
mod usage;

pub use binding::{Binding, Incoming};
pub use circuit::{Circuit, CircuitClosed, CircuitReceiver, CircuitSender};
pub use contact::Offline;
pub use instance::InstanceTaken;
pub use link::{LOOK_EVERY, LinkConfig};
pub use nightgate_fabric::{CircuitInfo, DialRefusal, FailureCause, KeyShare, LinkInfo};
pub use nightgate_identity::{Credentials, Identity};
pub use nightgate_wire::{
    datagrams,
    edge::flag,
    link::{CircuitId, Payload},
};
pub use renewal::RenewError;
pub use router::{BindRequest, DialRequest, Router, RouterConfig, StartError};
pub use status::{LinkStatus, RouterStatus};
pub use traffic::{Lanes, Seat, Traffic};
