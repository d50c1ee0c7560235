//! Five routers as processes, wires between them, and applications at both ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod application;
mod hosting;
mod links;

use std::time::{Duration, Instant};

use application::{Applications, Transfer};
use nightgate_lab::{Impairment, Mesh, Way, overlay::Programs, until};
use nix::sys::signal::Signal;

/// One way of one hop, one of two, one of three; the shorter, the faster.
const WIRES: [(usize, usize); 6] = [(1, 5), (1, 2), (2, 5), (1, 3), (3, 4), (4, 5)];
/// Time on each of them, in milliseconds.
const DELAYS: [u64; 6] = [1, 2, 2, 4, 4, 4];
const ROUTERS: usize = 5;
/// Circuits at the same time.
const CIRCUITS: u64 = 20;
/// What each of them carries, in MiB: 100 MB while the mesh is being torn, less elsewhere, so that it takes no longer. And the
/// variable that asks for another amount while the mesh is being torn.
const MANY_MEBIBYTES: u64 = 96;
const MEBIBYTES: u64 = 10;
const MEBIBYTES_VARIABLE: &str = "NIGHTGATE_MESH_MIB";
/// How long a change of the mesh may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mesh with all links up, and the applications.
fn start() -> (Applications, Mesh) {
    let programs = Programs::find().unwrap();
    let mut mesh = Mesh::new(&programs, ROUTERS, &WIRES).unwrap();
    for ((one, other), delay) in WIRES.into_iter().zip(DELAYS) {
        mesh.wire(one, other).unwrap().impair_both(Impairment::delay(delay));
    }
    for router in 1..=ROUTERS {
        mesh.start(router).unwrap();
    }
    for (router, others) in [(1, &[2, 3, 5][..]), (2, &[1, 5]), (3, &[1, 4]), (4, &[3, 5])] {
        neighbours(&mesh, router, others);
    }
    (Applications::join(&mesh), mesh)
}

fn neighbours(mesh: &Mesh, router: usize, others: &[usize]) {
    let found = mesh.wait_for_neighbours(router, others);
    found.unwrap_or_else(|error| panic!("{error:#}\n{}", mesh.log_tails(20)));
}

/// Dials until a circuit takes this path, and carries something.
fn wait_for_path(mesh: &Mesh, applications: &Applications, path: &str) {
    let mut seen = Vec::new();
    until(&format!("circuit over {path}"), PATIENCE, || {
        let Some(circuit) = applications.try_hold() else { return Ok(None) };
        seen = mesh.paths(1)?;
        drop(circuit);
        Ok(seen.iter().any(|seen| seen == path).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}, but over {seen:?}\n{}", mesh.log_tails(20)));
    applications.transfer(&[Transfer::new(1, 1)]);
}

#[test]
fn circuits_take_one_two_or_three_hops_as_links_and_routers_come_and_go() {
    let (applications, mut mesh) = start();
    wait_for_path(&mesh, &applications, "r1-r5");
    mesh.wire(1, 5).unwrap().cut_both();
    neighbours(&mesh, 1, &[2, 3]);
    wait_for_path(&mesh, &applications, "r1-r2-r5");
    mesh.kill(2).unwrap();
    neighbours(&mesh, 1, &[3]);
    wait_for_path(&mesh, &applications, "r1-r3-r4-r5");
    mesh.wire(1, 5).unwrap().heal();
    mesh.start(2).unwrap();
    neighbours(&mesh, 1, &[2, 3, 5]);
    wait_for_path(&mesh, &applications, "r1-r5");
}

#[test]
fn twenty_circuits_carry_everything_over_three_hops() {
    let (applications, mesh) = start();
    mesh.wire(1, 5).unwrap().cut_both();
    mesh.wire(2, 5).unwrap().cut_both();
    neighbours(&mesh, 5, &[4]);
    wait_for_path(&mesh, &applications, "r1-r3-r4-r5");
    applications.transfer(&transfers(MEBIBYTES));
}

#[test]
fn twenty_circuits_lose_nothing_while_wires_are_cut_and_routers_freeze_and_die() {
    let (applications, mut mesh) = start();
    let asked = std::env::var(MEBIBYTES_VARIABLE).ok();
    if asked.is_none() {
        // However fast the machine, the transfers are still under way when the last thing happens: they take 40 s.
        for ((one, other), delay) in WIRES.into_iter().zip(DELAYS) {
            let slow = Impairment { rate: Some(400_000_000), ..Impairment::delay(delay) };
            mesh.wire(one, other).unwrap().impair_both(slow);
        }
    }
    let begun = Instant::now();
    let mebibytes = asked.map_or(MANY_MEBIBYTES, |asked| asked.parse().unwrap());
    let running = applications.begin(&transfers(mebibytes));
    all_over(&mesh, "r1-r5");
    mesh.wire(1, 5).unwrap().cut_both();
    all_over(&mesh, "r1-r2-r5");
    mesh.signal(2, Signal::SIGSTOP).unwrap();
    all_over(&mesh, "r1-r3-r4-r5");
    mesh.wire(1, 5).unwrap().heal();
    neighbours(&mesh, 5, &[1, 4]);
    mesh.kill(4).unwrap();
    all_over(&mesh, "r1-r5");
    mesh.signal(2, Signal::SIGCONT).unwrap();
    neighbours(&mesh, 5, &[1, 2]);
    neighbours(&mesh, 1, &[2, 3, 5]);
    mesh.wire(1, 5).unwrap().cut(Way::RightToLeft);
    all_over(&mesh, "r1-r2-r5");
    println!("the last path after {:?}", begun.elapsed());
    running.finish(&applications);
    println!("all carried after {:?}", begun.elapsed());
}

#[test]
fn without_the_controller_circuits_go_on_and_new_ones_are_made_and_then_it_rules_again() {
    let (applications, mut mesh) = start();
    let running = applications.begin(&transfers(MEBIBYTES));
    all_over(&mesh, "r1-r5");
    mesh.kill_controller().unwrap();
    // A router that begins now knows the model from its disk.
    mesh.kill(2).unwrap();
    mesh.start(2).unwrap();
    neighbours(&mesh, 5, &[1, 2, 4]);
    neighbours(&mesh, 1, &[2, 3, 5]);
    mesh.wire(1, 5).unwrap().cut_both();
    neighbours(&mesh, 1, &[2, 3]);
    wait_for_path(&mesh, &applications, "r1-r2-r5");
    running.finish(&applications);
    // The host comes back to its router, and is found there by routers that nobody tells so.
    mesh.kill(5).unwrap();
    mesh.start(5).unwrap();
    neighbours(&mesh, 5, &[2, 4]);
    wait_for_path(&mesh, &applications, "r1-r2-r5");
    mesh.start_controller().unwrap();
    mesh.operator("policy delete dial").unwrap();
    until("end of the permission", PATIENCE, || {
        Ok(applications.try_hold().is_none().then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", mesh.log_tails(20)));
}

/// Waits until all circuits take this path.
fn all_over(mesh: &Mesh, path: &str) {
    let mut seen = Vec::new();
    until(&format!("circuits over {path} alone"), PATIENCE, || {
        seen = mesh.paths(1)?;
        let all = seen.len() == usize::try_from(CIRCUITS)?;
        Ok((all && seen.iter().all(|seen| seen == path)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}, but over {seen:?}\n{}", mesh.log_tails(20)));
}

fn transfers(mebibytes: u64) -> Vec<Transfer> {
    (0..CIRCUITS).map(|circuit| Transfer::new(circuit, mebibytes)).collect()
}
