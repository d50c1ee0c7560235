//! Where intercepted datagrams arrive.

use std::{
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use nightgate_abi::{INTERCEPT_MARK, listener::Transport};
use nightgate_lab::Namespace;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::World;

/// How long a socket waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has a gateway's namespace deliver intercepted packets to itself.
pub fn deliver_intercepted(gateway: &Namespace) {
    for family in ["-4", "-6"] {
        let rule = format!("{family} rule add fwmark {INTERCEPT_MARK} lookup 100");
        gateway.ip(&rule).expect("a rule");
        let route = format!("{family} route add local default dev lo table 100");
        gateway.ip(&route).expect("a route");
    }
}

/// A transparent socket that is told where datagrams were sent to.
pub fn datagram_listener(loopback: IpAddr) -> UdpSocket {
    let socket = transparent(SocketAddr::new(loopback, 0), Type::DGRAM);
    if loopback.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true).expect("set");
    } else {
        setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true).expect("set");
    }
    socket.set_recv_buffer_size(1 << 20).expect("set");
    socket.into()
}

/// A transparent socket that accepts connections.
pub fn connection_listener(loopback: IpAddr) -> TcpListener {
    let socket = transparent(SocketAddr::new(loopback, 0), Type::STREAM);
    socket.listen(16).expect("listening");
    socket.into()
}

/// A socket at an address that need not be the host's.
pub fn transparent(address: SocketAddr, kind: Type) -> Socket {
    let domain = Domain::for_address(address);
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(domain, kind, Some(protocol)).expect("a socket");
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true).expect("transparent"),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true).expect("transparent"),
    }
    socket.bind(&address.into()).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

/// Tells a gateway of a listener that is closed then.
pub fn close_listener(world: &mut World<'_>, transport: Transport, loopback: IpAddr) {
    let kind = match transport {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let socket = transparent(SocketAddr::new(loopback, 0), kind);
    if transport == Transport::Tcp {
        socket.listen(1).expect("listening");
    }
    let address = socket.local_addr().expect("bound").as_socket().expect("an address");
    world.datapath.set_listening_socket(transport, address, socket.as_fd()).expect("set");
}

/// The next datagram, its sender, and the destination it was sent to.
pub fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr, SocketAddr) {
    let mut bytes = vec![0; 1 << 16];
    let mut control = nix::cmsg_space!(nix::libc::sockaddr_in6);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )
    .expect("a datagram within five seconds");
    let destination = message.cmsgs().expect("control messages").find_map(|message| {
        if let ControlMessageOwned::Ipv4OrigDstAddr(address) = message {
            let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            return Some(SocketAddr::from((ip, u16::from_be(address.sin_port))));
        }
        let ControlMessageOwned::Ipv6OrigDstAddr(address) = message else { return None };
        let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
        Some(SocketAddr::from((ip, u16::from_be(address.sin6_port))))
    });
    let sender = message.address.expect("a sender");
    let sender = match (sender.as_sockaddr_in(), sender.as_sockaddr_in6()) {
        (Some(address), _) => SocketAddr::from((address.ip(), address.port())),
        (None, Some(address)) => SocketAddr::from((address.ip(), address.port())),
        (None, None) => panic!("a sender of neither family"),
    };
    let length = message.bytes;
    (bytes[..length].to_vec(), sender, destination.expect("the destination it was sent to"))
}
