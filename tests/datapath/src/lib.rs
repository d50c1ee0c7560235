//! Packets in, packets out: the real kernel programs against tables and the reference classifier.
//!
//! [`with_world`] makes a gateway in a network namespace of its own, with the programs on its interfaces;
//! tests send it frames through `BPF_PROG_TEST_RUN`. They need root and the kernel object.

pub mod checksum;
pub mod fixture;
pub mod fragment;
pub mod frame;
pub mod hosts;
pub mod listener;
pub mod oracle;
mod world;

pub use world::{
    LAN, Outcome, PLAIN, WAN, World, gateway, gateway_namespace, intercepted, rule_set,
    tracked_rule_set, with_uncommitted_world, with_world,
};
