//! Benchmark suites.

pub mod firewall;
pub mod memory;
pub mod mirror;
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
    Suite { name: "mirror", about: "copies for sensors", run: mirror::run },
    Suite { name: "overlay", about: "encryption, controller and router", run: overlay::run },
    Suite {
        name: "overlay-crypto",
        about: "end-to-end encryption on one core alone",
        run: overlay::encryption::run,
    },
    Suite {
        name: "overlay-circuit",
        about: "one circuit between two applications alone",
        run: overlay::circuit::run,
    },
    Suite {
        name: "overlay-model",
        about: "a controller with 10,000 identities alone",
        run: overlay::model::run,
    },
    Suite {
        name: "overlay-dial",
        about: "dials and 10,000 circuits alone",
        run: overlay::dial::run,
    },
];

fn whole_firewall() -> Result<Vec<Figure>> {
    Ok([firewall::run()?, memory::run()?, network::run()?].concat())
}
