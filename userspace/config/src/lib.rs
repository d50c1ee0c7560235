//! Configuration text to a checked model.
//!
//! [`parse`] is all or nothing: it returns a [`Config`] in which every reference resolves and every value is
//! in range, or every error it found, each with its line, its path and a remedy. Unknown keys are errors: in
//! a firewall a typing error is an open door.
//!
//! Pure: reads no files, which [`Files`] does for it, and knows no limits of the kernel programs (`ruleset` checks those).

mod action;
mod config;
mod decode;
mod dns;
mod dscp;
mod endpoint;
mod error;
mod ether;
mod files;
mod firewall;
mod guard;
mod hosting;
mod icmp;
mod instant;
mod limit;
mod line;
mod links;
mod log;
mod mac;
mod membership;
mod metrics;
mod mirror;
mod mss;
mod names;
mod nat;
mod node;
mod offline;
mod ports;
mod prefix;
mod reader;
mod rule;
mod set_file;
mod sets;
mod tcp_flags;
mod telemetry;
mod tracking;
mod verdict;

pub use action::{Action, Answer};
pub use config::{Config, Gateway, Router};
pub use decode::duration;
pub use dns::{Dns, DomainServers};
pub use dscp::Dscp;
pub use endpoint::Endpoint;
pub use error::ConfigError;
pub use ether::EtherType;
pub use files::{FileError, Files};
pub use firewall::Zone;
pub use guard::{FloodLimits, Guard};
pub use hosting::Hosting;
pub use icmp::IcmpType;
pub use limit::{ConnectionLimit, FlowRate, LimitScope, RateLimit};
pub use line::Line;
pub use links::Links;
pub use log::Log;
pub use mac::MacAddress;
pub use membership::{Membership, Sense};
pub use metrics::Metrics;
pub use mirror::{
    Encapsulation, FilterEntry, Mirror, MirrorDirection, NeverMirrored, Sense as FilterSense,
    Sensor, SensorCheck, Session, TunnelMirror, Vlan, of_tunneler as parse_tunnel_mirror,
    session as mirror_session,
};
pub use mss::ClampMss;
pub use names::{InterfaceName, LinkGroup, RuleId, SensorName, SessionName, SetName, ZoneName};
pub use nat::{DestinationRule, FlowMatch, Nat, NewDestination, NewSource, OneToOne, SourceRule};
pub use offline::Offline;
pub use ports::PortRange;
pub use prefix::Prefix;
pub use rule::{Protocol, Rule};
pub use sets::{Element, Set};
pub use tcp_flags::TcpFlags;
pub use telemetry::{
    FlowRecords, HttpCollector, PacketFiles, RecordFile, Syslog, SyslogServer, Telemetry,
};
pub use tracking::{FlowTables, Pickup, Timeouts, Tracking};
pub use verdict::{AlertSource, Never, Verdict, VerdictAction, VerdictRule};

/// Parses the text of a configuration that names no other files. `file` is only named in errors.
///
/// # Errors
/// Everything that is wrong with the text, in the order of its lines.
pub fn parse(text: &str, file: &str) -> Result<Config, Vec<ConfigError>> {
    parse_with(text, file, &mut files::NoFiles)
}

/// Parses the text of a configuration with the files that it names.
///
/// # Errors
/// Everything that is wrong with the text, in the order of its lines, and then with those files.
pub fn parse_with(
    text: &str,
    file: &str,
    files: &mut dyn Files,
) -> Result<Config, Vec<ConfigError>> {
    let mut reader = reader::Reader::new(file, files);
    let config = node::parse(text, &mut reader).and_then(|root| config::decode(&mut reader, root));
    reader.finish(config)
}

/// Parses what is told of flows where no gateway is configured: the keys of `telemetry.flows`. `file` is only named in
/// errors.
///
/// # Errors
/// Everything that is wrong with the text, in the order of its lines.
pub fn parse_flow_records(text: &str, file: &str) -> Result<FlowRecords, Vec<ConfigError>> {
    let mut files = files::NoFiles;
    let mut reader = reader::Reader::new(file, &mut files);
    let records =
        node::parse(text, &mut reader).and_then(|root| telemetry::decode_flows(&mut reader, root));
    reader.finish(records)
}
