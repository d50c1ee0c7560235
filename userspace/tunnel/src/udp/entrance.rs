//! Where datagrams of programs come in: a socket of the tunneler for each slot of a program's destinations, or one that
//! takes datagrams whatever their destination.

use std::{io, net::SocketAddr, sync::Arc};

use nightgate_abi::tunnel::{Origin, OriginKey};
use nightgate_gateway::datagrams::socket::{Ends, Receiver, Sender};
use tokio::net::UdpSocket;

use crate::shared::Shared;

/// IP protocol number (IANA).
const UDP: u8 = 17;

pub(crate) enum Entrance {
    /// Hooks on cgroups have exchanged the destination for this socket's.
    Slot(Arc<UdpSocket>, u32),
    /// Hooks on interfaces have left it as it was.
    Transparent(Receiver, Arc<Sender>),
}

/// A datagram's program and destination.
pub(super) struct Arrival {
    /// What hooks on cgroups know it by.
    pub(super) key: Option<OriginKey>,
    pub(super) origin: Origin,
    pub(super) source: SocketAddr,
    pub(super) reply: Reply,
}

/// The way back.
pub(super) enum Reply {
    Slot(Arc<UdpSocket>, SocketAddr),
    Transparent(Arc<Sender>, Ends),
}

impl Entrance {
    pub(crate) fn slot(socket: UdpSocket, slot: u32) -> Self {
        Self::Slot(Arc::new(socket), slot)
    }

    pub(crate) fn transparent(receiver: Receiver, sender: Sender) -> Self {
        Self::Transparent(receiver, Arc::new(sender))
    }

    /// The next datagram: its length, and whence it is if hooks have brought it here.
    pub(super) async fn receive(
        &self,
        buffer: &mut [u8],
        shared: &Shared,
    ) -> io::Result<(usize, Option<Arrival>)> {
        match self {
            Self::Slot(socket, slot) => {
                let (length, source) = socket.recv_from(buffer).await?;
                // Asked for each: another socket may have the port by now.
                let arrival = shared.origin(source, UDP, *slot).map(|(key, origin)| {
                    let reply = Reply::Slot(Arc::clone(socket), source);
                    Arrival { key: Some(key), origin, source, reply }
                });
                Ok((length, arrival))
            }
            Self::Transparent(receiver, sender) => {
                let (length, ends) = receiver.receive(buffer).await?;
                let source = ends.client;
                let arrival = shared.taken(source, ends.destination, UDP).map(|origin| {
                    let reply = Reply::Transparent(Arc::clone(sender), ends);
                    Arrival { key: None, origin, source, reply }
                });
                Ok((length, arrival))
            }
        }
    }
}

impl Arrival {
    /// The program's address, and where it wanted to.
    pub(super) fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.source, SocketAddr::new(self.origin.destination.to_ip(), self.origin.port))
    }

    /// Forgets the program's destination. A connected socket's next datagram passes no hook that could enter it again.
    pub(super) fn forget(&self, shared: &Shared) {
        if let Some(key) = self.key.filter(|_| self.origin.connected == 0) {
            shared.forget(&key);
        }
    }
}

impl Reply {
    pub(super) async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match self {
            Self::Slot(socket, source) => socket.send_to(datagram, source).await.map(drop),
            Self::Transparent(sender, ends) => match sender.send(*ends, datagram) {
                // Lost, as datagrams may be.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                sent => sent,
            },
        }
    }
}
