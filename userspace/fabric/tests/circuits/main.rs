//! Routers connected by perfect wires in virtual time: what circuits promise.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a broken expectation should end the test"
)]

#[path = "../fixtures/mod.rs"]
mod fixtures;

mod connections;
mod hostile;
mod hosts;
mod life;
mod policy;
mod row;
mod trace;
