//! Rules, and frames through a gateway whose interfaces' addresses the programs know.

use nightgate_abi::Reason::{self, Forwarded, Sent};
use nightgate_datapath::{FlowEntry, Hook};
use nightgate_datapath_tests::{World, checksum::summed, with_world};

/// Everything from lan to wan, with the address of the interface.
pub(crate) const MASQUERADE: &str = "
  - { id: out, from: lan, to: wan, action: accept }
nat:
  source:
    - { id: hide, from: lan, to: wan, becomes: masquerade }
";
/// Ports of both families, for the world and for lan itself.
pub(crate) const FORWARD: &str = "
  - { id: in, from: [wan, lan], to: lan, action: accept }
nat:
  destination:
    - { id: web, from: [wan, lan], destination: 198.51.100.7, protocol: tcp, destination_ports: 8000-8009, becomes: 10.1.0.10, becomes_ports: 80-89 }
    - { id: web6, from: [wan, lan], destination: '2001:db8:51::7', becomes: '2001:db8:1::10' }
  source:
    - { id: hairpin, from: lan, to: lan, becomes: masquerade }
";

/// A port for the world, behind [`MASQUERADE`].
pub(crate) const PORT_FORWARD: &str = "\
\x20 destination:
    - { id: web, from: wan, protocol: tcp, destination_ports: 8000, becomes: 10.1.0.10, becomes_ports: 80 }
";

/// A world whose interfaces' addresses the programs know.
pub(crate) fn with_addresses<T: Send>(
    rules: &str,
    test: impl FnOnce(&mut World<'_>) -> T + Send,
) -> T {
    with_world(rules, |world| {
        world.tell_addresses();
        test(world)
    })
}

/// Carries a frame from one interface to another: what leaves has to be `expected`, with every checksum right.
#[track_caller]
pub(crate) fn through(
    world: &mut World<'_>,
    (from, to): (&str, &str),
    frame: &[u8],
    expected: &[u8],
) {
    let (reason, inside) = carry(world, Hook::Ingress, from, None, frame);
    assert_eq!(reason, Forwarded);
    let (reason, outside) = carry_raw(world, Hook::Egress, to, Some(from), &inside);
    assert_eq!(reason, Sent);
    assert_eq!(outside, summed(expected.to_vec()));
}

/// Runs a program on a frame with checksums; what comes out has to have right ones, too.
#[track_caller]
pub(crate) fn carry(
    world: &mut World<'_>,
    hook: Hook,
    interface: &str,
    by: Option<&str>,
    frame: &[u8],
) -> (Reason, Vec<u8>) {
    let (reason, after) = carry_raw(world, hook, interface, by, &summed(frame.to_vec()));
    assert_eq!(after, summed(after.clone()), "{reason}");
    (reason, after)
}

pub(crate) fn carry_raw(
    world: &mut World<'_>,
    hook: Hook,
    interface: &str,
    by: Option<&str>,
    frame: &[u8],
) -> (Reason, Vec<u8>) {
    let outcome = world.run(hook, interface, by, frame);
    (outcome.reason, outcome.frame)
}

pub(crate) fn flows(world: &World<'_>) -> Vec<FlowEntry> {
    world.datapath.flows().expect("flows")
}

pub(crate) fn only_flow(world: &World<'_>) -> FlowEntry {
    let flows = flows(world);
    let [flow] = flows.as_slice() else { panic!("one flow: {flows:#?}") };
    flow.clone()
}

pub(crate) fn shown(flow: &FlowEntry) -> [Option<String>; 2] {
    [&flow.origin, &flow.responder].map(|side| side.appears_as.map(|address| address.to_string()))
}

pub(crate) fn packets(world: &World<'_>, rule: &str) -> u64 {
    let hits = world.datapath.rule_hits().expect("counters");
    let (_, hits) = hits.into_iter().find(|(id, _)| id.as_str() == rule).expect("a rule");
    hits.counter.packets
}
