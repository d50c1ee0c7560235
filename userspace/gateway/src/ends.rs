//! Ends of flows, as packets name them.

use std::net::SocketAddr;

/// An end as it is in packets: an IPv4 address that a socket for both families shows mapped is its own, and scopes and
/// flow labels, which packets of a flow do not tell apart, are gone.
pub(crate) fn plain(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}
