//! What is told of flows, and where copies of packets are written.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    decode::{self, Malformed},
    names::InterfaceName,
    node::Node,
    reader::{Reader, Section},
};

/// What is told of traffic beyond counters: at least one of the two.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Telemetry {
    /// What is told of flows.
    pub flows: Option<FlowRecords>,
    /// Capture files.
    pub packets: Option<PacketFiles>,
}

/// Capture files (pcapng) of all frames of an interface, such as one that a mirror session copies to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PacketFiles {
    /// The interface.
    pub interface: InterfaceName,
    /// Path of the file that is written. Those before it have a number before its extension.
    pub path: PathBuf,
    /// Bytes after which another file is begun. Default 64 MiB.
    pub size: u64,
    /// Most files, the one that is written included. Default 5.
    pub files: u32,
    /// Where the same packets are served over TCP (pcap-over-IP), to anybody who reaches it; `None` for nowhere.
    pub listen: Option<SocketAddr>,
}

/// What is told of flows that have ended, and where to: at least one output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlowRecords {
    /// Time after which a flow that goes on is told of too, again and again; `None` for never.
    pub interim: Option<Duration>,
    /// A file of JSON lines.
    pub file: Option<RecordFile>,
    /// A syslog server.
    pub syslog: Option<Syslog>,
    /// A collector that takes JSON lines by HTTP.
    pub http: Option<HttpCollector>,
}

/// A file of JSON lines.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordFile {
    /// Its path. Those before it have a number before its extension.
    pub path: PathBuf,
    /// Bytes after which another file is begun. Default 64 MiB.
    pub size: u64,
    /// Most files, the one that is written included. Default 5.
    pub files: u32,
}

/// A syslog server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Syslog {
    /// Where it is.
    pub server: SyslogServer,
    /// Facility (RFC 5424 section 6.2.1), 0 to 23. Default 16, local0.
    pub facility: u8,
}

/// Where a syslog server is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SyslogServer {
    /// An address that takes datagrams.
    Udp(SocketAddr),
    /// An address that takes connections.
    Tcp(SocketAddr),
    /// A UNIX datagram socket.
    Unix(PathBuf),
}

/// A collector that takes JSON lines by HTTP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpCollector {
    /// Where they are posted, `http://` or `https://`.
    pub url: String,
    /// File with the token that it wants (`Authorization: Bearer`, RFC 6750).
    pub token_file: Option<PathBuf>,
    /// File with the certificates, in PEM, that it is believed by; those of the system without one.
    pub ca_file: Option<PathBuf>,
}

/// Default of [`RecordFile::size`].
const SIZE: u64 = 64 << 20;
/// Bounds of it.
const SIZES: (i64, i64) = (4_096, 1 << 40);
/// Default of [`RecordFile::files`].
const FILES: u32 = 5;
/// Default of [`Syslog::facility`]: local0.
const FACILITY: u8 = 16;
/// Bounds of [`FlowRecords::interim`].
const INTERIM: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(86_400));

/// Decodes `telemetry`.
pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Telemetry> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let flows = reader.optional(&mut section, "flows", decode_flows);
    let packets = reader.optional(&mut section, "packets", packets);
    reader.close(section);
    let (flows, packets) = (flows?, packets?);
    if flows.is_none() && packets.is_none() {
        let remedy = "say what is told, or remove `telemetry`";
        reader.report(line, "nothing to tell", "flows or packets", remedy);
        return None;
    }
    Some(Telemetry { flows, packets })
}

/// Decodes `telemetry.packets`, and `packets` of a tunneler.
pub(crate) fn packets(reader: &mut Reader<'_>, node: Node) -> Option<PacketFiles> {
    let mut section = reader.section(node)?;
    let interface = reader.required(&mut section, "interface", InterfaceName::decode);
    let file = file_keys(reader, &mut section);
    let listen = reader.optional(&mut section, "listen", decode::socket_address);
    reader.close(section);
    let RecordFile { path, size, files } = file?;
    Some(PacketFiles { interface: interface?, path, size, files, listen: listen? })
}

/// Decodes `telemetry.flows`.
pub(crate) fn decode_flows(reader: &mut Reader<'_>, node: Node) -> Option<FlowRecords> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let interim = reader.optional(&mut section, "interim", |reader, node| {
        decode::checked(reader, node, |text| {
            let in_range = |time: &Duration| (INTERIM.0..=INTERIM.1).contains(time);
            decode::duration(text).filter(in_range).ok_or_else(|| {
                Malformed::new("a time from 10s to 1d", "write a number and s, m, h or d, like 5m")
            })
        })
    });
    let file = reader.optional(&mut section, "file", file);
    let syslog = reader.optional(&mut section, "syslog", syslog);
    let http = reader.optional(&mut section, "http", http);
    reader.close(section);
    let (interim, file, syslog, http) = (interim?, file?, syslog?, http?);
    if file.is_none() && syslog.is_none() && http.is_none() {
        let remedy = "say where records go, or have none";
        reader.report(line, "no output", "file, syslog or http", remedy);
        return None;
    }
    Some(FlowRecords { interim, file, syslog, http })
}

fn syslog(reader: &mut Reader<'_>, node: Node) -> Option<Syslog> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let udp = reader.optional(&mut section, "udp", decode::socket_address);
    let tcp = reader.optional(&mut section, "tcp", decode::socket_address);
    let unix = reader.optional(&mut section, "unix", decode::path);
    let facility = reader
        .optional(&mut section, "facility", |reader, node| decode::integer(reader, node, 0, 23));
    reader.close(section);
    let server = match (udp?, tcp?, unix?) {
        (Some(address), None, None) => SyslogServer::Udp(address),
        (None, Some(address), None) => SyslogServer::Tcp(address),
        (None, None, Some(path)) => SyslogServer::Unix(path),
        _ => {
            let found = "a server that is not clear";
            reader.report(line, found, "one of udp, tcp and unix", "write one of them");
            return None;
        }
    };
    Some(Syslog { server, facility: facility?.unwrap_or(FACILITY) })
}

fn http(reader: &mut Reader<'_>, node: Node) -> Option<HttpCollector> {
    let mut section = reader.section(node)?;
    let url = reader.required(&mut section, "url", |reader, node| {
        decode::checked(reader, node, |text| {
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            let is_plain = text.chars().all(|character| character.is_ascii_graphic());
            match rest {
                Some(rest) if is_plain && !rest.is_empty() && !rest.starts_with('/') => {
                    Ok(text.to_owned())
                }
                Some(_) | None => {
                    let remedy = "write it whole, like https://logs.example:8443/flows";
                    Err(Malformed::new("a URL of http or https", remedy))
                }
            }
        })
    });
    let token_file = reader.optional(&mut section, "token_file", decode::path);
    let ca_file = reader.optional(&mut section, "ca_file", decode::path);
    reader.close(section);
    Some(HttpCollector { url: url?, token_file: token_file?, ca_file: ca_file? })
}

fn file(reader: &mut Reader<'_>, node: Node) -> Option<RecordFile> {
    let mut section = reader.section(node)?;
    let file = file_keys(reader, &mut section);
    reader.close(section);
    file
}

/// Decodes what says where files are, and how many of what size.
fn file_keys(reader: &mut Reader<'_>, section: &mut Section) -> Option<RecordFile> {
    let path = reader.required(section, "path", |reader, node| {
        decode::checked(reader, node, |text| {
            let path = PathBuf::from(text);
            if path.is_absolute() && path.file_name().is_some() {
                Ok(path)
            } else {
                let remedy = "write it from the root on, like /var/log/nightgate/flows.jsonl";
                Err(Malformed::new("the absolute path of a file", remedy))
            }
        })
    });
    let size = reader
        .optional(section, "size", |reader, node| decode::integer(reader, node, SIZES.0, SIZES.1));
    let files =
        reader.optional(section, "files", |reader, node| decode::integer(reader, node, 1, 1_000));
    Some(RecordFile { path: path?, size: size?.unwrap_or(SIZE), files: files?.unwrap_or(FILES) })
}
