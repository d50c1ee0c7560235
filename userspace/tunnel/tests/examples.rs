//! Shipped examples are accepted.

use std::path::Path;

use nightgate_tunnel::policy::Policy;

#[test]
fn the_example_of_a_policy_is_accepted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    Policy::load(&examples.join("tunnel/policy.yaml")).expect("accepted");
}
