//! A real intrusion detection system that looks at mirrored traffic.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{namespace::Namespace, process::Process, wait::until};

/// How long Suricata may take to start, to stop, and to write what it has seen: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Threads that look at packets: with one, a sensor does not notice that the directions of a flow are apart.
const THREADS: u32 = 2;

/// Suricata on one interface of a namespace, stopped when dropped.
#[derive(Debug)]
pub struct Suricata {
    process: Process,
    folder: PathBuf,
}

/// Which checksums Suricata believes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checksums {
    /// None: each is checked, as on a wire.
    Strict,
    /// The kernel's word that one is still to be made, for an interface of the very host that sends.
    OfKernel,
}

/// What Suricata has counted when it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SuricataStatistics {
    /// TCP connections whose handshake it has seen.
    pub sessions: u64,
    /// TCP segments whose checksum is wrong.
    pub invalid_checksums: u64,
    /// Gaps in streams.
    pub gaps: u64,
    /// Longest frame, bytes.
    pub longest: u64,
    /// Frames that the kernel dropped before it.
    pub dropped: u64,
}

impl Suricata {
    /// Starts it with these rules, and returns once it sees packets. Its files are in a folder of their own below
    /// `folder`.
    ///
    /// # Errors
    /// Suricata is missing (`cargo xtask setup` brings it), or it does not start.
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        folder: &Path,
        rules: &str,
        checksums: Checksums,
    ) -> Result<Self> {
        let folder = folder.join("suricata");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let file = folder.join("test.rules");
        fs::write(&file, rules).with_context(|| format!("write {}", file.display()))?;
        let mut command = namespace.command("suricata");
        command.args(["-c", "/etc/suricata/suricata.yaml", "--runmode", "workers"]);
        command.arg(format!("--af-packet={interface}")).arg("-S").arg(&file);
        command.arg("-l").arg(&folder);
        match checksums {
            Checksums::Strict => command.args(["-k", "all"]),
            Checksums::OfKernel => command.args(["--set", "af-packet.0.checksum-checks=kernel"]),
        };
        for setting in [
            format!("af-packet.0.threads={THREADS}"),
            // Packets: room for what comes while others have the machine.
            "af-packet.0.ring-size=20000".into(),
            "outputs.1.eve-log.community-id=true".into(),
            "unix-command.enabled=no".into(),
        ] {
            command.args(["--set", &setting]);
        }
        let mut process = Process::spawn("suricata", command, &folder)?;
        process.wait_for_output("Engine started", PATIENCE)?;
        Ok(Self { process, folder })
    }

    /// The file of its events, one JSON document on each line.
    pub fn events_file(&self) -> PathBuf {
        self.folder.join("eve.json")
    }

    /// The alerts of a rule so far, by its `sid`.
    ///
    /// # Errors
    /// Its events cannot be read.
    pub fn alerts(&self, sid: u64) -> Result<Vec<Value>> {
        let is_alert = |event: &Value| event["alert"]["signature_id"] == sid;
        Ok(self.events()?.into_iter().filter(is_alert).collect())
    }

    /// Waits until a rule has had this many alerts.
    ///
    /// # Errors
    /// They do not come in time.
    pub fn wait_for_alerts(&self, sid: u64, count: usize) -> Result<()> {
        // Not parsed, for there may be many events.
        let word = format!("\"signature_id\":{sid},");
        let seen = || Ok::<_, anyhow::Error>(self.text()?.matches(&word).count());
        until(&format!("{count} alerts of rule {sid}"), PATIENCE, || {
            Ok((seen()? >= count).then_some(()))
        })
        .with_context(|| format!("{:?} alerts so far", self.alerts(sid).map(|alerts| alerts.len())))
    }

    /// Ends it, and reads what it has counted.
    ///
    /// # Errors
    /// It does not end, or has not written what it counted.
    pub fn stop(&mut self) -> Result<SuricataStatistics> {
        self.process.stop(Signal::SIGINT, PATIENCE)?;
        let events = self.events()?;
        let last = events.iter().rev().find(|event| event["event_type"] == "stats");
        let statistics = &last.context("no statistics in Suricata's events")?["stats"];
        let number = |part: &str, name: &str| statistics[part][name].as_u64().unwrap_or_default();
        Ok(SuricataStatistics {
            sessions: number("tcp", "sessions"),
            invalid_checksums: number("tcp", "invalid_checksum"),
            gaps: number("tcp", "reassembly_gap"),
            longest: number("decoder", "max_pkt_size"),
            dropped: number("capture", "kernel_drops"),
        })
    }

    fn text(&self) -> Result<String> {
        let file = self.events_file();
        fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
    }

    /// What it has written so far, without a line that is not whole yet.
    fn events(&self) -> Result<Vec<Value>> {
        let text = self.text()?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("the event {line}")))
            .collect()
    }
}
