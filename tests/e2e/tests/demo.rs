//! The product's main job, as the demo shows it: each scene must hold.

use nightgate_lab::overlay::{Family, Programs, SCENES, stage};

#[test]
fn every_scene_of_the_demo_holds_over_ipv4() {
    play(Family::V4);
}

#[test]
fn every_scene_of_the_demo_holds_over_ipv6() {
    play(Family::V6);
}

/// The scenes build on each other, so they are one test; a failure names its scene and shows all logs.
fn play(family: Family) {
    let mut deployment =
        Programs::find().and_then(|programs| stage(programs, family)).expect("a stage");
    for scene in SCENES {
        if let Err(error) = (scene.play)(&mut deployment) {
            let logs = deployment.log_tails(40);
            panic!("{} ({}): {error:#}\n{logs}", scene.name, scene.promise);
        }
    }
}
