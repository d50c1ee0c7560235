//! A table of packets, and what becomes of each.

use nightgate_abi::Reason::{self, *};
use nightgate_datapath_tests::{LAN, World, frame::*, with_world};
use tcp_flags::SYN;

#[test]
fn smoke() {
    with_world("  - { id: a, from: lan, to: wan, action: accept }\n", |world: &mut World| {
        let outcome = world.receive(LAN, &tcp("10.1.0.2:1000", "8.8.8.8:53", SYN));
        assert_eq!(outcome.reason, Forwarded);
    });
}
