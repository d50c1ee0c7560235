//! Where metrics are scraped.

use std::net::SocketAddr;

use crate::{decode, node::Node, reader::Reader};

/// Where metrics are scraped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Metrics {
    /// Address and port that answer `GET /metrics`, to anybody who reaches them.
    pub listen: SocketAddr,
}

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Metrics> {
    let mut section = reader.section(node)?;
    let listen = reader.required(&mut section, "listen", decode::socket_address);
    reader.close(section);
    Some(Metrics { listen: listen? })
}
