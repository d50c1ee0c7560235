//! The tunneler's own sockets: at the loopback addresses, and at no other.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use nightgate_abi::tunnel::SLOTS;
use nightgate_gateway::{
    datagrams::socket::{Receiver, Sender},
    listener::listen_transparently,
};

/// Sockets at 127.0.0.1 and, where there is IPv6, at ::1. Both families have the same ports.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) tcp: Vec<TcpListener>,
    /// By slot.
    pub(crate) udp: Vec<Vec<UdpSocket>>,
    /// What receives datagrams whatever their destination, and answers from there.
    pub(crate) transparent: Vec<(Receiver, Sender)>,
}

/// Ports that are tried until both families have one free.
const TRIES: usize = 64;

impl Sockets {
    /// Opens all of them at ports that the system chooses.
    pub(crate) fn open() -> io::Result<Self> {
        let tcp = pair(|address| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        })?;
        let udp = (0..SLOTS).map(|_slot| {
            pair(|address| {
                let socket = UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                Ok((socket.local_addr()?, socket))
            })
        });
        let udp = udp.collect::<io::Result<_>>()?;
        Ok(Self { tcp, udp, transparent: Vec::new() })
    }

    /// Opens those that take connections and datagrams whatever their destination. Needs a tokio runtime.
    pub(crate) fn open_transparent() -> io::Result<Self> {
        let tcp = pair(|address| {
            let listener = listen_transparently(address)?;
            Ok((listener.local_addr()?, listener.into_std()?))
        })?;
        let transparent = pair(|address| {
            let receiver = Receiver::open(address)?;
            Ok((receiver.address(), (receiver, Sender::open(address.ip())?)))
        })?;
        Ok(Self { tcp, udp: Vec::new(), transparent })
    }

    pub(crate) fn tcp_port(&self) -> io::Result<u16> {
        let first = self.tcp.first().ok_or_else(|| io::Error::other("no socket"))?;
        Ok(first.local_addr()?.port())
    }

    pub(crate) fn udp_ports(&self) -> io::Result<[u16; SLOTS as usize]> {
        let mut ports = [0; SLOTS as usize];
        for (port, sockets) in ports.iter_mut().zip(&self.udp) {
            let first = sockets.first().ok_or_else(|| io::Error::other("no socket"))?;
            *port = first.local_addr()?.port();
        }
        if let Some((receiver, _)) = self.transparent.first() {
            ports[0] = receiver.address().port();
        }
        Ok(ports)
    }
}

/// Sockets of both families at one port; of IPv4 alone where there is no IPv6.
fn pair<S>(open: impl Fn(SocketAddr) -> io::Result<(SocketAddr, S)>) -> io::Result<Vec<S>> {
    let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let (address, v4) = open((Ipv4Addr::LOCALHOST, 0).into())?;
        match open((IpAddr::V6(Ipv6Addr::LOCALHOST), address.port()).into()) {
            Ok((_, v6)) => return Ok(vec![v4, v6]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => failure = error,
            Err(error) => {
                tracing::warn!(%error, "no IPv6: what programs connect by IPv6 is refused where it is intercepted");
                return Ok(vec![v4]);
            }
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_open_but_at_the_loopback_addresses() {
        let sockets = Sockets::open().unwrap();
        let (port, ports) = (sockets.tcp_port().unwrap(), sockets.udp_ports().unwrap());
        for listener in &sockets.tcp {
            let address = listener.local_addr().unwrap();
            assert!(address.ip().is_loopback() && address.port() == port, "{address}");
        }
        for (socket, port) in sockets
            .udp
            .iter()
            .zip(ports)
            .flat_map(|(pair, port)| pair.iter().map(move |it| (it, port)))
        {
            let address = socket.local_addr().unwrap();
            assert!(address.ip().is_loopback() && address.port() == port, "{address}");
        }
    }
}
