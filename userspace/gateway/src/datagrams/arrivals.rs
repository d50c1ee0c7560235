//! Reads what waits in a socket of datagrams: many in one call, and several in one buffer where their sender or the
//! interface has put them together (UDP_GRO, udp(7)).

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _},
};

use nightgate_router::datagrams::Bundle;
use nix::{
    libc,
    sys::socket::{
        ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
    },
};

/// Buffers that one call fills at most.
pub(crate) const AT_ONCE: usize = 16;

/// Bytes of a buffer: what the kernel puts together at most, and the longest datagram.
const BUFFER: usize = 64 << 10;

thread_local! {
    /// All sockets of a thread share them: ten thousand flows that wait would take 10 GB if each had its own. What
    /// was never filled takes no memory.
    static BUFFERS: RefCell<Vec<u8>> = RefCell::new(vec![0; AT_ONCE * BUFFER]);
}

/// One or several datagrams of the same client and destination.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    bytes: &'a [u8],
    /// Bytes of each but the last, if there are several.
    segment: Option<usize>,
    /// Who sent them, where the socket is not connected.
    pub(crate) client: Option<SocketAddr>,
    /// Where to, where the socket tells.
    pub(crate) destination: Option<SocketAddr>,
}

impl Arrival<'_> {
    /// The datagrams in their order.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let segment = self.segment.unwrap_or(BUFFER);
        let empty = self.bytes.is_empty().then_some(self.bytes);
        empty.into_iter().chain(self.bytes.chunks(segment))
    }
}

/// Lets a socket take several datagrams into one buffer, and hold so many bytes until they are read.
///
/// # Errors
/// The system refuses.
pub(crate) fn prepare(socket: &impl AsFd, buffer: usize) -> io::Result<()> {
    setsockopt(socket, sockopt::UdpGroSegment, &true)?;
    if setsockopt(socket, sockopt::RcvBufForce, &buffer).is_err() {
        // Without CAP_NET_ADMIN as much as the system gives (net.core.rmem_max).
        setsockopt(socket, sockopt::RcvBuf, &buffer)?;
    }
    Ok(())
}

/// Reads what waits, at most [`AT_ONCE`] buffers. Gives how many it were.
///
/// # Errors
/// Nothing waits (`WouldBlock`), or the socket cannot be read.
pub(crate) fn read(socket: &impl AsFd, mut each: impl FnMut(&Arrival<'_>)) -> io::Result<usize> {
    BUFFERS.with_borrow_mut(|buffers| {
        let mut slices: Vec<_> =
            buffers.chunks_mut(BUFFER).map(|it| [IoSliceMut::new(it)]).collect();
        // Not kept: the kernel writes into it how long each one's control messages were, and the next ones may be longer.
        let space = nix::cmsg_space!(libc::sockaddr_in6, libc::c_int);
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(AT_ONCE, Some(space));
        let socket = socket.as_fd().as_raw_fd();
        let messages =
            recvmmsg(socket, &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        let mut count = 0;
        for message in messages {
            let bytes = message.iovs().next().unwrap_or_default();
            let mut arrival = Arrival { bytes, segment: None, client: None, destination: None };
            arrival.client = message.address.as_ref().and_then(address);
            for control in message.cmsgs()? {
                arrival.note(&control);
            }
            each(&arrival);
            count += 1;
        }
        Ok(count)
    })
}

/// Reads what waits in a connected socket, as bundles of at most so many bytes, except for a datagram that is longer.
///
/// # Errors
/// Nothing waits (`WouldBlock`), or the socket cannot be read.
pub(crate) fn read_bundles(socket: &impl AsFd, most: usize) -> io::Result<Vec<Bundle>> {
    let mut bundles: Vec<Bundle> = Vec::new();
    read(socket, |arrival| {
        for datagram in arrival.datagrams() {
            let fits = |last: &&mut Bundle| last.size() + Bundle::size_of(datagram) <= most;
            match bundles.last_mut().filter(fits) {
                Some(last) => last.push(datagram),
                None => bundles.push(Bundle::from(datagram)),
            }
        }
    })?;
    Ok(bundles)
}

impl Arrival<'_> {
    fn note(&mut self, control: &ControlMessageOwned) {
        // Kinds that nobody asked for say nothing here.
        if let ControlMessageOwned::UdpGroSegments(length) = control {
            self.segment = usize::try_from(*length).ok().filter(|length| *length > 0);
        }
        if let ControlMessageOwned::Ipv4OrigDstAddr(address) = control {
            let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            self.destination = Some(SocketAddr::from((ip, u16::from_be(address.sin_port))));
        }
        if let ControlMessageOwned::Ipv6OrigDstAddr(address) = control {
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            self.destination = Some(SocketAddr::from((ip, u16::from_be(address.sin6_port))));
        }
    }
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nightgate_router::{datagrams::datagrams, flag};
    use tokio::{io::Interest, net::UdpSocket};

    use super::*;
    use crate::datagrams::{departures::send_all, messages::MESSAGE};

    #[tokio::test]
    async fn datagrams_that_were_put_together_are_told_apart_over_both_families() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(loopback).await.unwrap();
            prepare(&server, 4 << 20).unwrap();
            let client = UdpSocket::bind(loopback).await.unwrap();
            client.connect(server.local_addr().unwrap()).await.unwrap();
            let lengths = [1_200; 100].into_iter().chain([400, 0, 0, 1, 1, 65_500, 5]);
            let sent: Vec<Bytes> = lengths
                .enumerate()
                .map(|(at, length)| vec![u8::try_from(at).unwrap(); length].into())
                .collect();
            send_all(&client, &sent).await.unwrap();
            let mut came = Vec::new();
            while came.len() < sent.len() {
                server.readable().await.unwrap();
                let read = server.try_io(Interest::READABLE, || read_bundles(&server, MESSAGE));
                for bundle in read.unwrap_or_default() {
                    assert!(bundle.size() <= MESSAGE || bundle.count() == 1);
                    let body = bundle.into_body().into();
                    came.extend(datagrams(body, flag::MULTIPART_MESSAGE));
                }
            }
            assert!(came == sent);
        }
    }
}
