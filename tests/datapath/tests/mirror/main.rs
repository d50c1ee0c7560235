//! Copies of packets, from the gateway's LAN interface to a real decoder.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod copies;
mod encapsulations;
mod overload;
mod sensors;
mod stopped;
mod support;
mod suricata;
