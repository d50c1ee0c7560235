//! Looking at traffic with a decoder that is not ours.

use std::{path::Path, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::{
    command::{program, run},
    namespace::Namespace,
    process::Process,
    wait::until,
};

/// Comments of the packets of a file that match a display filter, each in a line. With `*.checksum.status`, that tells of wrong
/// checksums. Empty for a file that is not there yet.
pub fn packet_comments(file: &Path, filter: &str) -> String {
    let mut command = program("tshark");
    command.arg("-r").arg(file);
    command.args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
    command.args(["-Y", filter, "-T", "fields", "-e", "frame.comment"]);
    run(&mut command).unwrap_or_default()
}

/// How long tshark may take to start, to stop, and to write what it has seen.
const PATIENCE: Duration = Duration::from_secs(20);

/// tshark, writing the packets of one interface to a file. Stopped when dropped.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts capturing and returns once packets are being written.
    ///
    /// # Errors
    /// tshark is missing or there is no such interface.
    pub fn start(
        name: &str,
        namespace: &Namespace,
        interface: &str,
        folder: &Path,
    ) -> Result<Self> {
        let file = folder.join(format!("{name}.pcapng"));
        let mut command = namespace.command("tshark");
        command.args(["-q", "-i", interface, "-w"]).arg(&file);
        let mut process = Process::spawn(name, command, folder)?;
        process.wait_until("start of the capture", PATIENCE, |own| {
            let written = file.metadata().is_ok_and(|metadata| metadata.len() > 0);
            Ok((written && own.log().contains("Capturing on")).then_some(()))
        })?;
        Ok(Self { process, file })
    }

    /// Waits until a packet that matches a display filter has been written.
    ///
    /// # Errors
    /// None comes in time, or tshark does not understand the filter.
    pub fn wait_for(&self, filter: &str) -> Result<()> {
        until(&format!("packet for {filter:?}"), PATIENCE, || {
            Ok((self.count(filter)? > 0).then_some(()))
        })
    }

    /// Stops capturing; what was seen stays readable.
    ///
    /// # Errors
    /// tshark does not stop.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(Signal::SIGINT, PATIENCE).map(drop)
    }

    /// How many packets match a display filter.
    ///
    /// # Errors
    /// tshark does not understand the filter.
    pub fn count(&self, filter: &str) -> Result<usize> {
        Ok(self.fields(filter, &["frame.number"])?.len())
    }

    /// How many packets have a checksum that is wrong, or not finished.
    ///
    /// # Errors
    /// tshark cannot read the file.
    pub fn bad_checksums(&self) -> Result<usize> {
        let mut command = program("tshark");
        for protocol in ["ip", "tcp", "udp"] {
            command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
        }
        let bad = "ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0";
        command.arg("-r").arg(&self.file).args(["-Y", bad]);
        Ok(run(&mut command)?.lines().count())
    }

    /// The given fields of every packet that matches a display filter, one line each, separated by tabs.
    ///
    /// # Errors
    /// tshark does not understand the filter or a field.
    pub fn fields(&self, filter: &str, fields: &[&str]) -> Result<Vec<String>> {
        let mut command = program("tshark");
        command.arg("-r").arg(&self.file).args(["-Y", filter, "-T", "fields"]);
        for field in fields {
            command.args(["-e", field]);
        }
        // A file that is still being written may end in half a packet: its start is good all the same.
        let output = command.output().context("start tshark")?;
        let cut_short = String::from_utf8_lossy(&output.stderr).contains("cut short");
        if !output.status.success() && !cut_short {
            run(&mut command)?;
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }
}
