//! Benchmark suites.

pub mod firewall;
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
    Suite { name: "firewall", about: "program time of the kernel firewall", run: firewall::run },
    Suite { name: "overlay", about: "end-to-end encryption on one core", run: overlay::run },
];
