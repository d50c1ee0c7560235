//! Where metrics are scraped.

use std::{net::SocketAddr, path::PathBuf};

use crate::{decode, node::Node, reader::Reader};

/// Where metrics are scraped: one of the two, or both.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Metrics {
    /// Address and port that answer `GET /metrics`, to anybody who reaches them.
    pub listen: Option<SocketAddr>,
    /// UNIX socket that answers it, to the user that the process runs as, and its group.
    pub socket: Option<PathBuf>,
}

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Metrics> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let listen = reader.optional(&mut section, "listen", decode::socket_address);
    let socket = reader.optional(&mut section, "socket", decode::path);
    reader.close(section);
    let (listen, socket) = (listen?, socket?);
    if listen.is_none() && socket.is_none() {
        let remedy = "say where metrics are scraped, or remove `metrics`";
        reader.report(line, "neither of them", "listen or socket", remedy);
        return None;
    }
    Some(Metrics { listen, socket })
}
