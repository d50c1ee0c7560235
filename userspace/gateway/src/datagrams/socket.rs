//! The sockets of intercepted datagrams: one that receives them whatever their destination, and one that sends answers
//! from that destination.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use nix::{
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
        recvmsg, sendmsg, setsockopt, sockopt,
    },
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::arrivals::{self, Arrival};

/// Receives datagrams that the kernel assigns to it, with the destination they were sent to.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    address: SocketAddr,
}

/// Sends datagrams from any address and port. One raw socket serves all, so that no flow ties up a port.
#[derive(Debug)]
pub struct Sender(Socket);

/// A datagram's way.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ends {
    /// Who sent it.
    pub client: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
}

/// Bytes of a UDP header (RFC 768).
const HEADER: usize = 8;

/// IP protocol number of UDP.
const UDP: u8 = 17;

/// Bytes the kernel queues while the process is busy: some thousand datagrams of 1,200 bytes, which take 2,304 each.
const RECEIVE_BUFFER: usize = 16 << 20;

impl Receiver {
    /// Opens one, bound to a loopback address and a port, 0 for a free one.
    ///
    /// # Errors
    /// The process lacks CAP_NET_ADMIN, or the family is switched off.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        match address {
            SocketAddr::V4(_) => {
                socket.set_ip_transparent_v4(true)?;
                setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
            }
            SocketAddr::V6(_) => {
                socket.set_ip_transparent_v6(true)?;
                socket.set_only_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?;
            }
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, address })
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for a datagram and writes it into `buffer`. Cancel safe.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Ends)> {
        loop {
            let read = || receive(&self.socket, buffer);
            let received = self.socket.async_io(Interest::READABLE, read).await?;
            // What was sent to the listener itself has no business here.
            if let Some((length, ends)) = received
                && ends.destination != self.address
            {
                return Ok((length, ends));
            }
        }
    }

    /// Lets it take several datagrams into one buffer, for [`Self::read`] alone.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn join(&self) -> io::Result<()> {
        arrivals::prepare(&self.socket, RECEIVE_BUFFER)
    }

    /// Waits until datagrams may be there. Cancel safe.
    pub(super) async fn readable(&self) {
        // It fails only where its runtime has ended, and with it whoever waits here.
        self.socket.readable().await.ok();
    }

    /// Reads what waits, at most [`arrivals::AT_ONCE`] buffers. Gives how many it were.
    ///
    /// # Errors
    /// Nothing waits (`WouldBlock`), or the socket cannot be read.
    pub(super) fn read(&self, mut each: impl FnMut(Ends, &Arrival<'_>)) -> io::Result<usize> {
        self.socket.try_io(Interest::READABLE, || {
            arrivals::read(&self.socket, |arrival| {
                // What was sent to the listener itself has no business here.
                if let (Some(client), Some(destination)) = (arrival.client, arrival.destination)
                    && destination != self.address
                {
                    each(Ends { client, destination }, arrival);
                }
            })
        })
    }
}

/// A datagram and its ends; none if its destination is not told.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, Ends)>> {
    let mut control = nix::cmsg_space!(libc::sockaddr_in6);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let destination = message.cmsgs()?.find_map(|message| {
        if let ControlMessageOwned::Ipv4OrigDstAddr(address) = message {
            let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            return Some(SocketAddr::from((ip, u16::from_be(address.sin_port))));
        }
        let ControlMessageOwned::Ipv6OrigDstAddr(address) = message else { return None };
        let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
        Some(SocketAddr::from((ip, u16::from_be(address.sin6_port))))
    });
    let client = message.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
    });
    let ends = client.zip(destination).map(|(client, destination)| Ends { client, destination });
    Ok(ends.map(|ends| (message.bytes, ends)))
}

impl Sender {
    /// Opens one for a family.
    ///
    /// # Errors
    /// The process lacks CAP_NET_RAW or CAP_NET_ADMIN, or the family is switched off.
    pub fn open(loopback: IpAddr) -> io::Result<Self> {
        let domain = Domain::for_address(SocketAddr::new(loopback, 0));
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::UDP))?;
        // It would get a copy of every datagram that comes in: the filter of one instruction (return 0) takes none.
        const RETURN: u16 = 0x06;
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        match loopback {
            IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            IpAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Sends a datagram to the client as if its destination had.
    ///
    /// # Errors
    /// The datagram is too long, there is no way to the client, or no room in the socket's buffer now.
    pub fn send(&self, ends: Ends, datagram: &[u8]) -> io::Result<()> {
        let Ends { client, destination } = ends;
        let header = header(ends, datagram).ok_or(io::ErrorKind::InvalidInput)?;
        let slices = [IoSlice::new(&header), IoSlice::new(datagram)];
        let socket = self.0.as_raw_fd();
        // Raw sockets have no ports: the kernel refuses or ignores others than 0.
        match (client, destination.ip()) {
            (SocketAddr::V4(client), IpAddr::V4(source)) => {
                let from = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let to = SockaddrIn::from(std::net::SocketAddrV4::new(*client.ip(), 0));
                let control = [ControlMessage::Ipv4PacketInfo(&from)];
                sendmsg(socket, &slices, &control, MsgFlags::empty(), Some(&to))?;
            }
            (SocketAddr::V6(client), IpAddr::V6(source)) => {
                let from = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                    ipi6_ifindex: 0,
                };
                let to = std::net::SocketAddrV6::new(*client.ip(), 0, 0, client.scope_id());
                let control = [ControlMessage::Ipv6PacketInfo(&from)];
                let to = SockaddrIn6::from(to);
                sendmsg(socket, &slices, &control, MsgFlags::empty(), Some(&to))?;
            }
            (SocketAddr::V4(_) | SocketAddr::V6(_), _) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
        Ok(())
    }
}

/// The header of an answer, with its checksum over the pseudo header (RFC 768, RFC 8200 section 8.1). None if the
/// datagram is too long.
fn header(ends: Ends, datagram: &[u8]) -> Option<[u8; HEADER]> {
    let length = u16::try_from(datagram.len() + HEADER).ok()?;
    let (from, to) = (ends.destination, ends.client);
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&from.port().to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    let addresses = [from.ip(), to.ip()].map(|ip| match ip {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    });
    let [from, to] = addresses;
    let mut total = from + to + u64::from(UDP) + u64::from(length) + sum(&header) + sum(datagram);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    // A sum of zero is sent as its complement, for zero says that there is none.
    let checksum = match !u16::try_from(total).ok()? {
        0 => 0xffff,
        checksum => checksum,
    };
    header[6..].copy_from_slice(&checksum.to_be_bytes());
    Some(header)
}

/// Sum of the 16-bit words.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let last = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>() + last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest datagram: what the length of UDP allows (RFC 768).
    const MAX_DATAGRAM: usize = 65_535 - HEADER;

    #[test]
    fn headers_have_the_ports_the_length_and_a_sum_that_comes_to_nothing() {
        for (client, destination, datagram) in [
            ("10.1.0.2:4000", "100.64.0.1:53", &b"odd"[..]),
            ("[fd00:1::2]:4000", "[fd64:6e67::1]:53", b"even"),
            ("10.1.0.2:4000", "100.64.0.1:53", b""),
        ] {
            let ends =
                Ends { client: client.parse().unwrap(), destination: destination.parse().unwrap() };
            let header = header(ends, datagram).unwrap();
            assert_eq!(header[..4], [0, 53, 15, 160]);
            assert_eq!(usize::from(header[5]), HEADER + datagram.len());
            let octets = |ip| match ip {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            let mut packet = [octets(ends.client.ip()), octets(ends.destination.ip())].concat();
            packet.extend([0, UDP, 0, header[5]]);
            packet.extend([&header[..], datagram].concat());
            assert_eq!(sum(&packet) % 0xffff, 0);
        }
        let ends = Ends {
            client: "10.1.0.2:1".parse().unwrap(),
            destination: "10.1.0.3:1".parse().unwrap(),
        };
        assert!(header(ends, &[0; MAX_DATAGRAM]).is_some());
        assert_eq!(header(ends, &[0; MAX_DATAGRAM + 1]), None);
    }
}
