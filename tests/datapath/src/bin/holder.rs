//! Holds the kernel programs as a gateway does, for tests that end it: `holder BPF_FILE_SYSTEM SOCKET RULES`.
//! Attaches `lan0` and `wan0`, commits, says so and waits until it is killed. With `RULES SECONDS` more, it puts
//! other rules in force for that time.

use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nightgate_datapath::{Datapath, Pins};
use nightgate_datapath_tests::{LAN, WAN, rule_set};
use nightgate_ruleset::{FlowTables, ZoneName};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("too few arguments");
    let (root, socket, rules) = (next()?, next()?, next()?);
    let pins = Pins::of_gateway(Path::new(&root), Path::new(&socket))?;
    let mut datapath = Datapath::open(pins, FlowTables::default())?;
    for (interface, zone) in [(LAN, "lan"), (WAN, "wan")] {
        datapath.attach(interface, &ZoneName::new(zone).context("a zone")?)?;
    }
    datapath.commit(&rule_set(&rules).image())?;
    datapath.drop_leftovers()?;
    if let (Some(rules), Some(seconds)) = (arguments.next(), arguments.next()) {
        let time = Duration::from_secs(seconds.parse().context("seconds")?);
        datapath.commit_for(&rule_set(&rules).image(), time)?;
    }
    writeln!(io::stdout(), "ready")?;
    loop {
        std::thread::park();
    }
}
