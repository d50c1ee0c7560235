//! Where a program's connection would have come from without the tunneler.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Any port will do to ask for a route; that of the discard protocol (RFC 863) means least.
const DISCARD: u16 = 9;

/// The source of a program's connection to `destination` whose socket is `seen` at the tunneler. The hooks have turned it
/// to the loopback address, from where it comes unless the program has bound it to another.
pub(crate) fn of(seen: SocketAddr, destination: IpAddr) -> SocketAddr {
    if !seen.ip().to_canonical().is_loopback() {
        return seen;
    }
    SocketAddr::new(towards(destination), seen.port())
}

/// The address that this host uses towards another, by its routes; the loopback address if it has no route there.
pub(crate) fn towards(destination: IpAddr) -> IpAddr {
    let (any, loopback): (IpAddr, IpAddr) = match destination {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
    };
    let ask = || {
        // Connecting sends nothing: the kernel looks for a route, and chooses an address (udp(7)).
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((destination, DISCARD))?;
        socket.local_addr()
    };
    ask().map_or(loopback, |own| own.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_socket_keeps_its_address_and_another_has_that_of_the_route() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let destination = IpAddr::from([127, 0, 0, 9]);
        assert_eq!(of(at("10.1.2.3:7"), destination), at("10.1.2.3:7"));
        assert_eq!(of(at("127.0.0.1:7"), destination).port(), 7);
        assert!(towards(destination).is_loopback());
        assert_eq!(towards(Ipv6Addr::LOCALHOST.into()), IpAddr::V6(Ipv6Addr::LOCALHOST));
        // A route to nowhere (RFC 6890: discard-only).
        assert!(!towards("100::1".parse().unwrap()).is_unspecified());
    }
}
