//! The sensor: tshark captures, and decodes with every checksum checked.

use std::{fs::File, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use nightgate_lab::{Namespace, Process, program, run, temporary_folder, until};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// How long tshark may take to start or to write what it has seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read of each frame, in the order of [`Segment`]. The first occurrence of a field is the outer one.
const FIELDS: [&str; 13] = [
    "frame.len",
    "udp.srcport",
    "udp.dstport",
    "vxlan.flags",
    "vxlan.vni",
    "vlan.id",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.len",
    "tcp.flags.syn",
    "tcp.checksum.status",
    "tcp.checksum.ffff",
];

/// A running capture of what reaches the sensor.
pub(crate) struct Sensor {
    process: Process,
    file: PathBuf,
    _folder: TempDir,
}

/// A decoded VXLAN frame. Absent fields are `None`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    /// Length of the outer frame, bytes.
    pub(crate) length: u32,
    pub(crate) outer_source_port: u32,
    pub(crate) outer_destination_port: u32,
    pub(crate) flags: u32,
    pub(crate) vni: u32,
    pub(crate) vlan: Option<u32>,
    /// TCP source port of the inner packet.
    pub(crate) source_port: Option<u32>,
    /// TCP destination port of the inner packet.
    pub(crate) destination_port: Option<u32>,
    pub(crate) sequence: Option<u32>,
    pub(crate) payload: Option<u32>,
    pub(crate) syn: Option<u32>,
    /// The TCP checksum is right. All ones is as right as zero (RFC 1624, section 3): Linux writes it where it
    /// computes zero (`skb_checksum_help`, 6.1); tshark calls it bad, and says that it would be right as zero.
    pub(crate) is_checksum_right: bool,
}

impl Sensor {
    /// Starts capturing in a namespace; returns once frames would be seen.
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        let folder = temporary_folder()?;
        let file = folder.path().join("sensor.pcap");
        let mut command = namespace.command("tshark");
        command.args(["-q", "-i", "eth0", "-f", "udp port 4789", "-B", "64", "-F", "pcap", "-w"]);
        command.arg(&file);
        let mut process = Process::spawn("sensor", command, folder.path())?;
        process.wait_until("start of the capture", PATIENCE, |own| {
            let is_writing = File::open(&file).and_then(|file| file.metadata());
            let is_writing = is_writing.is_ok_and(|metadata| metadata.len() > 0);
            Ok((is_writing && own.log().contains("Capturing on")).then_some(()))
        })?;
        Ok(Self { process, file, _folder: folder })
    }

    /// Waits until `frames` frames have been written, stops, and decodes all there are.
    pub(crate) fn decode(mut self, frames: usize) -> Result<Vec<Segment>> {
        until(&format!("{frames} frames at the sensor"), PATIENCE, || {
            Ok(self.read().ok().filter(|segments| segments.len() >= frames).map(drop))
        })?;
        self.process.stop(Signal::SIGINT, PATIENCE)?;
        self.read()
    }

    fn read(&self) -> Result<Vec<Segment>> {
        let mut command = program("tshark");
        command.arg("-r").arg(&self.file).args([
            "-Y",
            "vxlan",
            "-T",
            "fields",
            "-E",
            "occurrence=f",
        ]);
        for protocol in ["tcp", "udp", "ip"] {
            command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
        }
        for field in FIELDS {
            command.args(["-e", field]);
        }
        run(&mut command)?.lines().map(segment).collect()
    }
}

fn segment(line: &str) -> Result<Segment> {
    let values = line.split('\t').map(number).collect::<Result<Vec<_>>>()?;
    let [
        length,
        outer_source,
        outer_destination,
        flags,
        vni,
        vlan,
        source,
        destination,
        sequence,
        payload,
        syn,
        checksum_status,
        checksum_of_ones,
    ] = values[..]
    else {
        return Err(anyhow!("{} fields in {line:?}", values.len()));
    };
    let present = |value: Option<u32>| value.with_context(|| format!("an empty field in {line:?}"));
    Ok(Segment {
        length: present(length)?,
        outer_source_port: present(outer_source)?,
        outer_destination_port: present(outer_destination)?,
        flags: present(flags)?,
        vni: present(vni)?,
        vlan,
        source_port: source,
        destination_port: destination,
        sequence,
        payload,
        syn,
        is_checksum_right: checksum_status == Some(1) || checksum_of_ones.is_some(),
    })
}

fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() {
        return Ok(None);
    }
    let value = match text.strip_prefix("0x") {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
        None => text.parse(),
    };
    value.map(Some).with_context(|| format!("number {text:?}"))
}

#[test]
fn a_checksum_of_ones_is_right_and_others_are_as_tshark_says() {
    for (status, is_right) in [("1\t", true), ("0\t1", true), ("0\t", false), ("\t", false)] {
        let line = format!("116\t63646\t4789\t0x0800\t42\t\t80\t53686\t1267556869\t0\t0\t{status}");
        assert_eq!(segment(&line).unwrap().is_checksum_right, is_right, "{line:?}");
    }
}
