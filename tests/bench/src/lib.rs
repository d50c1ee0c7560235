//! Benchmark suites.

pub mod firewall;
pub mod memory;
pub mod network;
pub mod overlay;

use anyhow::Result;
use nightgate_lab::Figure;

/// A set of figures that are measured together.
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Measures.
    pub run: fn() -> Result<Vec<Figure>>,
}

/// All suites.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "firewall",
        about: "program time, memory, and traffic beside nftables",
        run: whole_firewall,
    },
    Suite { name: "firewall-net", about: "traffic beside nftables alone", run: network::run },
    Suite { name: "firewall-memory", about: "memory alone", run: memory::run },
    Suite { name: "overlay", about: "end-to-end encryption on one core", run: overlay::run },
];

fn whole_firewall() -> Result<Vec<Figure>> {
    Ok([firewall::run()?, memory::run()?, network::run()?].concat())
}
