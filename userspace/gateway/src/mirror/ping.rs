//! Echo requests (RFC 792, RFC 4443 section 4) to a sensor.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, time::timeout};

/// Bytes of a request: type, code, checksum, identifier and sequence number.
const LENGTH: usize = 8;

/// Asks by an interface, and waits so long for the answer. `token` tells the question from others.
///
/// # Errors
/// Nobody answers, or the question cannot be sent.
pub(super) async fn ping(
    (address, interface): (IpAddr, &str),
    token: [u8; 4],
    time: Duration,
) -> io::Result<()> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    // From here on, packets of others do not come.
    socket.connect(&SocketAddr::new(address, 0).into())?;
    socket.set_nonblocking(true)?;
    // Sends and receives alone are asked of it, which are the same for all sockets.
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(&request(address, token)).await?;
    timeout(time, answer(&socket, address, token)).await?
}

async fn answer(socket: &UdpSocket, address: IpAddr, token: [u8; 4]) -> io::Result<()> {
    // An IPv4 header with all of its options, and the message.
    let mut buffer = [0; 60 + LENGTH];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Some(packet) = buffer.get(..length) else { continue };
        if is_answer(packet, address, token) {
            return Ok(());
        }
    }
}

/// An echo request. The kernel makes the checksum of ICMPv6 (RFC 3542 section 3.1).
fn request(address: IpAddr, token: [u8; 4]) -> [u8; LENGTH] {
    let [id_0, id_1, sequence_0, sequence_1] = token;
    let kind = if address.is_ipv4() { 8 } else { 128 };
    let mut message = [kind, 0, 0, 0, id_0, id_1, sequence_0, sequence_1];
    if address.is_ipv4() {
        let words = message.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let [.., high, low] = (!folded).to_be_bytes();
        (message[2], message[3]) = (high, low);
    }
    message
}

/// Whether what a raw socket gives is the answer: with IPv4 the header comes before it.
fn is_answer(packet: &[u8], address: IpAddr, token: [u8; 4]) -> bool {
    let (kind, header) = match (address, packet.first()) {
        (IpAddr::V4(_), Some(first)) => (0, usize::from(first & 0x0f) * 4),
        (IpAddr::V6(_), _) => (129, 0),
        (IpAddr::V4(_), None) => return false,
    };
    let Some([found, 0, _, _, rest @ ..]) = packet.get(header..) else { return false };
    *found == kind && rest.starts_with(&token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
    const TOKEN: [u8; 4] = [0x12, 0x34, 0, 1];

    #[test]
    fn a_request_of_icmp_has_a_checksum() {
        assert_eq!(request(V4, TOKEN), [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1]);
        assert_eq!(request(V4, [0xff; 4]), [8, 0, 0xf7, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(request(V6, TOKEN), [128, 0, 0, 0, 0x12, 0x34, 0, 1]);
    }

    #[test]
    fn only_the_answer_to_the_request_is_one() {
        let v4 = |message: &[u8]| [&[0x45][..], &[0; 19], message].concat();
        assert!(is_answer(&v4(&[0, 0, 9, 9, 0x12, 0x34, 0, 1]), V4, TOKEN));
        assert!(!is_answer(&v4(&[0, 0, 9, 9, 0x12, 0x34, 0, 2]), V4, TOKEN));
        assert!(!is_answer(&v4(&[3, 0, 9, 9, 0x12, 0x34, 0, 1]), V4, TOKEN));
        assert!(is_answer(&[129, 0, 9, 9, 0x12, 0x34, 0, 1], V6, TOKEN));
        assert!(!is_answer(&[128, 0, 9, 9, 0x12, 0x34, 0, 1], V6, TOKEN));
        for (address, packet) in [(V4, &[][..]), (V4, &[0x4f]), (V6, &[129]), (V6, &[])] {
            assert!(!is_answer(packet, address, TOKEN));
        }
    }
}
