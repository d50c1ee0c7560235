//! What can go wrong between userspace and the kernel.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use nightgate_ruleset::ZoneName;

/// A file in the BPF file system, or beside it, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}, expected a BPF file system and a folder that root may write", path.display())]
pub struct PinError {
    /// What was done.
    pub(crate) operation: &'static str,
    /// To which file.
    pub(crate) path: PathBuf,
    /// Cause.
    pub(crate) source: io::Error,
}

/// An operation on the kernel programs or their maps that failed.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The program was built without the kernel object.
    #[error(
        "load kernel programs: this program was built without them, expected an object: run \
         `cargo xtask build` and build it again"
    )]
    Stub,
    /// Per-CPU data cannot be laid out.
    #[error("count CPUs: {source}, expected /sys/devices/system/cpu/possible")]
    Cpus {
        /// Cause.
        source: io::Error,
    },
    /// The memory of a map cannot be looked up.
    #[error("read {path}: {source}, expected the kernel's description of a map")]
    Memory {
        /// File of the kernel's description.
        path: String,
        /// Cause.
        source: io::Error,
    },
    /// The object cannot be read.
    #[error("read kernel object: {source}, expected an ELF object with section {section}")]
    Object {
        /// Section that was looked for.
        section: &'static str,
        /// Cause.
        source: object::Error,
    },
    /// The object was built from other sources than this program.
    #[error(
        "load kernel programs: the object has ABI version {found}, expected {expected}: build both from \
         the same sources"
    )]
    Version {
        /// Version of the object.
        found: u32,
        /// Version of this program.
        expected: u32,
    },
    /// The kernel refused the object.
    #[error(
        "load kernel programs: {source}, expected Linux 6.6 or newer, CAP_BPF and CAP_NET_ADMIN"
    )]
    Load {
        /// Cause.
        source: Box<EbpfError>,
    },
    /// The kernel refused a program, or to attach or run it.
    #[error(
        "{operation} program {program}: {source}, expected Linux 6.6 or newer and CAP_NET_ADMIN"
    )]
    Program {
        /// What was done: `load`, `attach`, `detach` or `run`.
        operation: &'static str,
        /// Name of the program.
        program: &'static str,
        /// Cause.
        source: Box<ProgramError>,
    },
    /// The object lacks a program or map.
    #[error(
        "find {object} in the kernel object: absent, expected an object of the same ABI version"
    )]
    Missing {
        /// Name of the program or map.
        object: &'static str,
    },
    /// A map could not be read or written.
    #[error("{operation} map {map}: {source}, expected a map of the kernel object with room")]
    Map {
        /// What was done.
        operation: &'static str,
        /// Name of the map.
        map: &'static str,
        /// Cause.
        source: Box<MapError>,
    },
    /// There is no such interface.
    #[error("find interface {interface}: {source}, expected one that `ip link` shows")]
    Interface {
        /// Name of the interface.
        interface: String,
        /// Cause.
        source: io::Error,
    },
    /// An interface is attached already.
    #[error("attach interface {interface}: it is attached already, expected each interface once")]
    Attached {
        /// Name of the interface.
        interface: String,
    },
    /// An attached interface's zone is not in the rule set.
    #[error("commit: interface {interface} is in zone {zone}, expected a zone of the rule set")]
    UnknownZone {
        /// Name of the interface.
        interface: String,
        /// Its zone.
        zone: ZoneName,
    },
    /// What was staged does not read back.
    #[error(
        "verify map {map}: it reads back changed, expected the staged value; nothing was committed"
    )]
    Verify {
        /// Name of the map.
        map: &'static str,
    },
    /// The timer that brings the rules before back cannot be started.
    #[error(
        "start the timer for the rules before: error {error}, expected Linux 5.15 or newer; nothing was committed"
    )]
    Timer {
        /// The kernel's number (errno).
        error: u32,
    },
    /// A program left no reason for what it did with a probe.
    #[error("run program {program}: it left reason {index}, expected one of the list")]
    Reason {
        /// Name of the program.
        program: &'static str,
        /// What it left.
        index: u32,
    },
    /// No room for another address.
    #[error("quarantine an address: {limit} are in quarantine already; release some")]
    QuarantineFull {
        /// How many there may be.
        limit: usize,
    },
    /// No room for another limit.
    #[error("limit a flow or an address: {limit} are limited already; release some")]
    ThrottlesFull {
        /// How many there may be.
        limit: usize,
    },
    /// What outlives the process cannot be kept or found.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A link's pin cannot be removed.
    #[error(
        "detach: remove the link's pin: {source}, expected a BPF file system that root may write"
    )]
    Unpin {
        /// Cause.
        source: io::Error,
    },
    /// It cannot be told which VLAN an interface is for.
    #[error(
        "look at VLAN device {interface}: {source}, expected its description in /proc/net/vlan"
    )]
    Vlan {
        /// Name of the interface.
        interface: String,
        /// Cause.
        source: io::Error,
    },
    /// A cgroup cannot be used.
    #[error(
        "open cgroup {}: {source}, expected a folder of a cgroup v2 file system", path.display()
    )]
    Cgroup {
        /// Its folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The network namespace cannot be told from others.
    #[error("identify the network namespace: {source}, expected Linux 5.14 or newer")]
    Namespace {
        /// Cause.
        source: io::Error,
    },
    /// There have been 2^31 commits.
    #[error("commit: no epochs left, expected fewer than 2^31 commits: restart")]
    Epochs,
}
