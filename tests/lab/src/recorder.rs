//! A sensor that can be stopped: a process that takes the packets of an interface from a queue of the kernel.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::{namespace::Namespace, process::Process};

/// How long it may take to start and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The kernel's queue before it, MiB: as small as it can be.
const QUEUE: &str = "1";

/// dumpcap on one interface, which keeps the latest packets in a file. Ended when dropped.
#[derive(Debug)]
pub struct Recorder {
    process: Process,
}

impl Recorder {
    /// Starts it, and returns once it takes packets.
    ///
    /// # Errors
    /// dumpcap is missing or there is no such interface.
    pub fn start(namespace: &Namespace, interface: &str, folder: &Path) -> Result<Self> {
        let mut command = namespace.command("dumpcap");
        command.args(["-q", "-B", QUEUE, "-i", interface]);
        // Two files of 4 MiB in turn: what is in them is of no interest.
        command.args(["-b", "filesize:4096", "-b", "files:2", "-w"]).arg(folder.join("recorded"));
        let mut process = Process::spawn("recorder", command, folder)?;
        process.wait_for_output("File: ", PATIENCE)?;
        Ok(Self { process })
    }

    /// Stops it where it stands; its queue fills.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Ends it: how many packets the kernel has dropped before it, because its queue was full.
    ///
    /// # Errors
    /// It does not end, or does not say.
    pub fn stop(&mut self) -> Result<u64> {
        self.process.stop(Signal::SIGINT, PATIENCE)?;
        dropped(&self.process.log()).context("dumpcap does not say what was dropped")
    }
}

/// Of a line like `Packets received/dropped on interface 'eth0': 17/3 (pcap:3/dumpcap:0/flushed:0/ps_ifdrop:0) (85.0%)`.
fn dropped(log: &str) -> Option<u64> {
    let (_, rest) = log.split_once("Packets received/dropped on interface")?;
    let (_, rest) = rest.split_once(": ")?;
    let (counts, _) = rest.split_once(' ')?;
    counts.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_the_second_number() {
        let log = "File: recorded\nPackets received/dropped on interface 'eth0': 17/3 (pcap:3/dumpcap:0) (85.0%)\n";
        assert_eq!(dropped(log), Some(3));
        assert_eq!(dropped("File: recorded\n"), None);
    }
}
