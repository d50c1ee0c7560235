//! The private DNS.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    decode::{self, Malformed},
    node::Node,
    prefix::Prefix,
    reader::Reader,
};

/// Private DNS answers for intercepted names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dns {
    /// Addresses it listens on, UDP and TCP; at least one.
    pub listen: Vec<SocketAddr>,
    /// IPv4 addresses for intercepted names. Default 100.64.0.0/10 (RFC 6598).
    pub range_v4: Prefix,
    /// IPv6 addresses for intercepted names. Default fd64:6e67::/64 (RFC 4193).
    pub range_v6: Prefix,
    /// Sources that are answered; all if empty.
    pub clients: Vec<Prefix>,
    /// Name servers for all names that are not intercepted, in the order they are asked in; none if empty.
    pub upstreams: Vec<SocketAddr>,
    /// Name servers for the names below domains.
    pub domains: Vec<DomainServers>,
    /// The host's resolver configuration, usually /etc/resolv.conf, that names the private DNS while the gateway runs.
    pub resolv_conf: Option<PathBuf>,
    /// Domains, lower case, whose names systemd-resolved asks the private DNS for while the gateway runs; empty text for
    /// all names. Nothing is told to it if empty.
    pub resolved: Vec<String>,
}

/// Who knows the names below a domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainServers {
    /// The domain, lower case, without a dot at the end.
    pub domain: String,
    /// Name servers, in the order they are asked in; nobody if empty.
    pub upstreams: Vec<SocketAddr>,
}

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Dns> {
    let mut section = reader.section(node)?;
    let listen = reader.required(&mut section, "listen", |reader, node| {
        reader.one_or_more(node, decode::socket_address)
    });
    let v4 = Prefix::new([100, 64, 0, 0].into(), 10);
    let v6 = Prefix::new([0xfd64, 0x6e67, 0, 0, 0, 0, 0, 0].into(), 64);
    let range_v4 = reader.optional(&mut section, "range_v4", |r, node| range(r, node, Family::V4));
    let range_v6 = reader.optional(&mut section, "range_v6", |r, node| range(r, node, Family::V6));
    let clients =
        reader.optional(&mut section, "clients", |r, node| r.one_or_more(node, Prefix::decode));
    let upstreams = reader
        .optional(&mut section, "upstreams", |r, node| r.one_or_more(node, decode::socket_address));
    let domains = reader.optional(&mut section, "domains", |r, node| r.list(node, domain));
    let others = matches!(&upstreams, Some(Some(_)) | None);
    let port = listen.iter().flatten().any(|address| address.port() == PORT) || listen.is_none();
    let resolv_conf =
        reader.optional(&mut section, "resolv_conf", |r, node| resolv_conf(r, node, others, port));
    let resolved = reader.optional(&mut section, "resolved", |r, node| {
        let (line, found) = (node.line, node.value.describe());
        let domains =
            r.one_or_more(node, |reader, node| {
                decode::checked(reader, node, |text| {
                    if text == "." { Ok(String::new()) } else { name(text) }
                })
            })?;
        if domains.iter().any(String::is_empty) && !others {
            let (expected, why) =
                ("upstreams beside it", "the host needs other names than intercepted ones");
            r.report(line, found, expected, why);
            return None;
        }
        Some(domains)
    });
    reader.close(section);
    Some(Dns {
        listen: listen?,
        range_v4: range_v4?.or(v4)?,
        range_v6: range_v6?.or(v6)?,
        clients: clients?.unwrap_or_default(),
        upstreams: upstreams?.unwrap_or_default(),
        domains: domains?.unwrap_or_default(),
        resolv_conf: resolv_conf?,
        resolved: resolved?.unwrap_or_default(),
    })
}

/// Port of name servers in resolver configurations.
const PORT: u16 = 53;

fn resolv_conf(
    reader: &mut Reader<'_>,
    node: Node,
    knows_others: bool,
    has_port: bool,
) -> Option<PathBuf> {
    let (line, found) = (node.line, node.value.describe());
    let path = decode::path(reader, node)?;
    let missing = match (path.is_absolute(), knows_others, has_port) {
        (false, ..) => ("an absolute path", "it usually is /etc/resolv.conf"),
        (_, false, _) => {
            ("upstreams beside it", "the host needs other names than intercepted ones")
        }
        (.., false) => ("an address with port 53 under listen", "the file names no ports"),
        (true, true, true) => return Some(path),
    };
    reader.report(line, found, missing.0, missing.1);
    None
}

fn domain(reader: &mut Reader<'_>, node: Node) -> Option<DomainServers> {
    let mut section = reader.section(node)?;
    let domain =
        reader.required(&mut section, "domain", |reader, node| decode::checked(reader, node, name));
    let upstreams = reader.required(&mut section, "upstreams", |reader, node| {
        reader.list(node, decode::socket_address)
    });
    reader.close(section);
    Some(DomainServers { domain: domain?, upstreams: upstreams? })
}

/// A domain as it is compared (RFC 1035 section 2.3.4).
fn name(text: &str) -> Result<String, Malformed> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let labels = name.split('.').all(|l| (1..=63).contains(&l.len()) && l.bytes().all(legal));
    if name.len() <= 253 && labels {
        return Ok(name.to_ascii_lowercase());
    }
    let remedy = "write it without *, the names below it are meant as well";
    Err(Malformed::new("a domain such as corp.example", remedy))
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Family {
    V4,
    V6,
}

/// Longest range: each name needs an address of its own.
const HOST_BITS_MIN: u8 = 4;

fn range(reader: &mut Reader<'_>, node: Node, family: Family) -> Option<Prefix> {
    let (line, found) = (node.line, node.value.describe());
    let prefix = Prefix::decode(reader, node)?;
    let (expected, width) = match family {
        Family::V4 => ("an IPv4 prefix of at most 28 bits", 32),
        Family::V6 => ("an IPv6 prefix of at most 124 bits", 128),
    };
    if prefix.is_ipv4() != (family == Family::V4) || prefix.length() > width - HOST_BITS_MIN {
        reader.report(line, found, expected, "choose a range that no real host uses");
        return None;
    }
    Some(prefix)
}
