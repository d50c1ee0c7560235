//! The gateway: a router that also owns interfaces.
//!
//! [`gateway::run`] puts the parts together. The kernel programs ([`firewall`]) hand connections to the
//! services that this gateway's identity may dial ([`intercept`], [`names`]) to the [`listener`], which
//! dials them over the router; [`hosting`] connects what others dial to servers behind this gateway.
//! [`dns`] answers for the services' names, [`mirror`] copies their packets to sensors, and [`admin`]
//! lets an operator look in.

pub mod admin;
pub mod alerts;
pub mod asked;
pub mod capture;
pub mod carried;
pub mod carry;
pub mod change;
pub mod clock;
pub mod datagrams;
pub mod dns;
mod ends;
pub mod exporter;
pub mod filter;
pub mod firewall;
pub mod flow_filter;
pub mod flow_records;
pub mod gateway;
pub mod hosted;
pub mod hosting;
pub mod intercept;
pub mod interceptor;
pub mod lingering;
pub mod listener;
mod masquerade;
pub mod mirror;
pub mod names;
pub mod protection;
pub mod report;
pub mod resolved;
pub mod resolver;
mod rule_file;
pub mod sight;
pub mod state;
pub mod trace;
