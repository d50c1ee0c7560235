//! Seeded runs of whole networks in which everything breaks, beside a reference that knows what must
//! have arrived. `NIGHTGATE_SIM_SEEDS=10000` makes more of them, from `NIGHTGATE_SIM_FROM` on, `NIGHTGATE_SIM_SEED=7` just
//! that one.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "a broken expectation should end the test"
)]
#![expect(
    clippy::print_stdout,
    reason = "what a run did and cost, for whoever asks with --nocapture"
)]

#[path = "../fixtures/mod.rs"]
mod fixtures;

mod dialing;
mod dice;
mod network;
mod run;
mod scale;
mod scenarios;
mod sharing;
mod talks;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};

/// Networks of an ordinary run, and others that once lost something: in 1971, a hostile router sent a request for another
/// path over itself, and was faster.
const SEEDS: u64 = 200;
const FOUND: [u64; 1] = [1971];

#[test]
fn nothing_is_lost_whatever_happens_between_the_ends() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds: Box<dyn Iterator<Item = u64> + Send> = match number("NIGHTGATE_SIM_SEED") {
        Some(seed) => Box::new(seed..seed + 1),
        None => {
            let first = number("NIGHTGATE_SIM_FROM").unwrap_or_default();
            let many = number("NIGHTGATE_SIM_SEEDS").unwrap_or(SEEDS);
            Box::new(FOUND.into_iter().chain(first..first + many))
        }
    };
    let (left, failed) = (Mutex::new(seeds), Mutex::new(Vec::new()));
    let totals = Mutex::new(run::Totals::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(seed) = left.lock().unwrap().next() else { return };
                    match catch_unwind(AssertUnwindSafe(|| run::run(seed))) {
                        Ok(one) => totals.lock().unwrap().add(&one),
                        Err(_) => failed.lock().unwrap().push(seed),
                    }
                }
            });
        }
    });
    println!("{:?}", totals.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "failed with NIGHTGATE_SIM_SEED of {failed:?}");
}

#[test]
fn rolling_restarts_leave_nothing_behind() {
    scale::Scale { routers: 40, circuits: 1_000, restarts: &[10, 75] }.run();
}

/// Minutes, and part of `cargo xtask test nightly`:
/// `cargo test --release -p nightgate-fabric --test simulation -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn rolling_restarts_of_five_hundred_routers_with_a_hundred_thousand_circuits() {
    scale::Scale { routers: 500, circuits: 100_000, restarts: &[10, 25, 50, 75] }.run();
}
