//! The product's main job, as the demo shows it: each scene must hold.

use nightgate_lab::overlay::{Programs, SCENES, stage};

/// The scenes build on each other, so they are one test; a failure names its scene and shows all logs.
#[test]
fn every_scene_of_the_demo_holds() {
    let mut deployment = stage(Programs::find().unwrap()).unwrap();
    for scene in SCENES {
        if let Err(error) = (scene.play)(&mut deployment) {
            let logs = deployment.log_tails(40);
            panic!("{} ({}): {error:#}\n{logs}", scene.name, scene.promise);
        }
    }
}
