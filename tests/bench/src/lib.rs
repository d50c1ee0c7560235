//! Benchmark suites.

mod cpu;
pub mod firewall;
pub mod gateway;
pub mod memory;
pub mod mirror;
pub mod network;
pub mod overlay;
pub mod plot;
mod statistics;
pub mod summary;
pub mod table;

use anyhow::Result;
use nightgate_lab::Figure;

/// How figures are shown to people.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// A line for each.
    Rows,
    /// A line for each case and a column for each metric, then the judged ones line by line.
    Table,
}

/// A set of figures that are measured together.
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// How its figures are shown.
    pub layout: Layout,
    /// Measures.
    pub run: fn() -> Result<Vec<Figure>>,
}

impl Suite {
    /// Whether it is a part of another, which its name begins with: SUITE-PART.
    pub fn is_part(&self) -> bool {
        self.name.contains('-')
    }
}

/// All suites.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "firewall",
        about: "program time, memory, and traffic beside nftables",
        layout: Layout::Rows,
        run: whole_firewall,
    },
    Suite {
        name: "gateway",
        about: "two gateways between client and server, beside other programs",
        layout: Layout::Table,
        run: gateway::run,
    },
    Suite {
        name: "datagrams",
        about: "datagrams of 1,200 bytes through two gateways, beside other programs",
        layout: Layout::Table,
        run: gateway::datagrams::run,
    },
    Suite {
        name: "idle",
        about: "memory of 10,000 idle connections through two gateways",
        layout: Layout::Rows,
        run: gateway::idle::run,
    },
    Suite {
        name: "fabric",
        about: "routers between two gateways: sharing, hops, loss",
        layout: Layout::Rows,
        run: gateway::fabric::run,
    },
    Suite {
        name: "firewall-intercepted",
        about: "program time of packets to the overlay alone",
        layout: Layout::Rows,
        run: firewall::intercepted::run,
    },
    Suite {
        name: "firewall-net",
        about: "traffic beside nftables alone",
        layout: Layout::Rows,
        run: network::run,
    },
    Suite {
        name: "firewall-memory",
        about: "memory alone",
        layout: Layout::Rows,
        run: memory::run,
    },
    Suite { name: "mirror", about: "copies for sensors", layout: Layout::Rows, run: mirror::run },
    Suite {
        name: "mirror-latency",
        about: "how long forwarded datagrams take beside a sensor in each state alone",
        layout: Layout::Rows,
        run: mirror::latency,
    },
    Suite {
        name: "verdict",
        about: "from an alert to the cut-off",
        layout: Layout::Rows,
        run: gateway::cut_off::run,
    },
    Suite {
        name: "verdict-line",
        about: "from an alert's line to the end of an identity's circuit alone",
        layout: Layout::Rows,
        run: gateway::cut_off::by_line,
    },
    Suite {
        name: "verdict-kernel",
        about: "from an alert's line to the drop of an address's packets alone",
        layout: Layout::Rows,
        run: gateway::cut_off::in_kernel,
    },
    Suite {
        name: "verdict-request",
        about: "from a malicious request to the end of its circuit alone",
        layout: Layout::Rows,
        run: gateway::cut_off::by_request,
    },
    Suite {
        name: "overlay",
        about: "encryption, controller and router",
        layout: Layout::Rows,
        run: overlay::run,
    },
    Suite {
        name: "overlay-crypto",
        about: "end-to-end encryption on one core alone",
        layout: Layout::Rows,
        run: overlay::encryption::run,
    },
    Suite {
        name: "overlay-circuit",
        about: "one circuit between two applications alone",
        layout: Layout::Rows,
        run: overlay::circuit::run,
    },
    Suite {
        name: "overlay-model",
        about: "a controller with 10,000 identities alone",
        layout: Layout::Rows,
        run: overlay::model::run,
    },
    Suite {
        name: "overlay-dial",
        about: "dials and 10,000 circuits alone",
        layout: Layout::Rows,
        run: overlay::dial::run,
    },
    Suite {
        name: "overlay-cut",
        about: "from withdrawal to the end of the circuits alone",
        layout: Layout::Rows,
        run: overlay::cut::run,
    },
];

fn whole_firewall() -> Result<Vec<Figure>> {
    Ok([firewall::run()?, firewall::intercepted::run()?, memory::run()?, network::run()?].concat())
}
