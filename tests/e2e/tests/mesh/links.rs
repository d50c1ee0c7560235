//! Which links routers make, and of how many connections.

use std::collections::BTreeMap;

use nightgate_lab::{Impairment, Mesh, overlay::Programs, until};
use serde_json::Value;

use crate::PATIENCE;

fn wait_for_connections(mesh: &Mesh, router: usize, wanted: &[(&str, usize)]) {
    let wanted: BTreeMap<_, _> =
        wanted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let mut seen = BTreeMap::new();
    until(&format!("connections {wanted:?} of r{router}"), PATIENCE, || {
        seen = mesh.connections(router)?;
        Ok((seen == wanted).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}; it has {seen:?}\n{}", mesh.log_tails(20)));
}

#[test]
fn groups_and_listeners_decide_which_routers_link() {
    let programs = Programs::find().unwrap();
    let mut mesh = Mesh::new(&programs, 3, &[(1, 2), (2, 3), (1, 3)]).unwrap();
    let public = |router: usize, links: &str| {
        let address = mesh.topology().advertised(router);
        let keys = format!("  listen: '[::]:443'\n  advertise: '{address}'\n  links: {links}\n");
        mesh.configure(router, &keys).unwrap();
    };
    // Neither dials the other. The third dials both, also where it should be dialed, and there alone it may.
    public(1, "{ dial: [] }");
    public(2, "{ dial: [], listen: [paris, rome] }");
    public(3, "{ dial: [default, rome], listen: [oslo], connections: 3 }");
    for router in 1..=3 {
        mesh.start(router).unwrap();
    }
    wait_for_connections(&mesh, 1, &[("r3", 3)]);
    wait_for_connections(&mesh, 2, &[("r3", 3)]);

    // A router that does not listen dials out, and is not dialed.
    mesh.kill(3).unwrap();
    wait_for_connections(&mesh, 1, &[]);
    mesh.configure(3, "  links: { connections: 1 }\n").unwrap();
    mesh.start(3).unwrap();
    wait_for_connections(&mesh, 3, &[("r1", 1)]);
    assert_eq!(mesh.connections(2).unwrap(), BTreeMap::new(), "r3 dials no group of r2");
}

#[test]
fn what_the_way_to_a_neighbour_loses_is_counted() {
    let programs = Programs::find().unwrap();
    let mut mesh = Mesh::new(&programs, 2, &[(1, 2)]).unwrap();
    for router in 1..=2 {
        mesh.start(router).unwrap();
    }
    mesh.wait_for_neighbours(1, &[2]).unwrap();
    mesh.wire(1, 2).unwrap().impair_both(Impairment { loss: 0.2, ..Impairment::default() });
    until("segments that are sent again", PATIENCE, || {
        let links = mesh.ask("links", 1)?;
        let has = |link: &Value, field| link[field].as_u64().is_some_and(|count| count > 0);
        Ok(links.iter().any(|link| has(link, "segments") && has(link, "repeated")).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", mesh.log_tails(20)));
}
