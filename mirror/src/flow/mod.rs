//! Records of flows for those who want no packets.
//!
//! [`Tracker`] finds out from one look at the flow tables after the other which flows have ended; [`FlowRecord`] is what
//! is told of each.

mod client_hello;
mod community_id;
mod record;
mod tls;
mod tracker;

pub use client_hello::{HelloReader, Look};
pub use community_id::{FlowEnds, community_id};
pub use record::{
    DnsAsked, DnsQuery, DropSummary, EndReason, EventType, FlowCounts, FlowId, FlowRecord,
    FlowState, Nat, ProcessSummary, TcpSummary, Verdict, protocol_word, schema,
};
pub use tls::TlsClient;
pub use tracker::{Told, Tracker};
