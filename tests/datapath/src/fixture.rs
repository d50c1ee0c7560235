//! Tables of packets, and what becomes of each.

use nightgate_abi::Reason;

use crate::{Outcome, World, with_world};

/// Where a frame is seen.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// Comes in by the interface.
    In(&'static str),
    /// Leaves by the interface, sent by the gateway itself.
    Out(&'static str),
    /// Leaves by the second interface, forwarded from the first.
    Through(&'static str, &'static str),
}

/// Sends each packet through a gateway with these rules, given as lines of YAML, and compares the reason it
/// passes or is refused for. A case is a name, a way, a frame and a reason.
///
/// Rules are committed anew for each case, so that none profits from another's flow. The kernel refuses to run
/// programs on IP frames without a whole header, which real interfaces deliver; a tag before the cut header gets
/// it past that check.
pub fn check(rules: &str, cases: &[(&str, Way, Vec<u8>, Reason)]) {
    with_world(rules, |world| {
        let mut wrong = Vec::new();
        for (name, way, frame, expected) in cases {
            world.commit(rules);
            let found = run(world, *way, frame);
            if found.reason != *expected {
                wrong.push(format!("{name}: {}, expected {expected}", found.reason));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// Sends a frame its way.
pub fn run(world: &mut World<'_>, way: Way, frame: &[u8]) -> Outcome {
    match way {
        Way::In(interface) => world.receive(interface, frame),
        Way::Out(interface) => world.send(interface, frame),
        Way::Through(from, to) => world.forward(from, to, frame),
    }
}
