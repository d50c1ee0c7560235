//! What the kernel's verifier has to look at.

use nightgate_datapath_tests::with_uncommitted_world;

/// Instructions that the verifier may have looked at for one program. It gives up after a million; another compiler or
/// kernel needs some more or fewer for the same program.
const MOST: u32 = 750_000;

#[test]
fn the_programs_are_far_from_what_the_verifier_gives_up_on() {
    let counts = with_uncommitted_world(|world| world.datapath.verified_instructions());
    println!("{counts:?}");
    for program in ["tc_ingress", "tc_egress", "tc_mirror"] {
        assert!(counts.iter().any(|(name, _)| name == program), "{program}: {counts:?}");
    }
    for (name, count) in counts {
        assert!(count <= MOST, "{name}: {count}; make a part of it a global function");
    }
}
