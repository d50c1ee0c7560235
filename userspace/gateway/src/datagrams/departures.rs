//! Sends many datagrams in few calls: those of one length go as one packet that the kernel or the interface cuts
//! (UDP_SEGMENT, udp(7)).

use std::{
    io::{self, IoSlice},
    os::fd::AsRawFd as _,
};

use bytes::Bytes;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::{io::Interest, net::UdpSocket};

/// Datagrams of one call at most (`UDP_MAX_SEGMENTS` before Linux 6.9).
const SEGMENTS: usize = 64;

/// Bytes of one call at most: the longest packet of IPv4 less its header and that of UDP (RFC 791, RFC 768).
const BYTES: usize = 65_535 - 20 - 8;

/// Sends datagrams over a connected socket, in their order; waits while it takes no more.
///
/// # Errors
/// The server has refused an earlier one, or the system fails.
pub(crate) async fn send_all(socket: &UdpSocket, mut datagrams: &[Bytes]) -> io::Result<()> {
    while !datagrams.is_empty() {
        let (run, rest) = datagrams.split_at(of_one_length(datagrams));
        datagrams = rest;
        if run.len() > 1 && send_at_once(socket, run).await.is_ok() {
            continue;
        }
        // Alone, or the interface cuts nothing, or they are longer than its packets.
        for datagram in run {
            socket.send(datagram).await?;
        }
    }
    Ok(())
}

/// How many of the first ones the kernel takes at once: all but the last as long as the first, that one no longer.
fn of_one_length(datagrams: &[Bytes]) -> usize {
    let Some(first) = datagrams.first().map(Bytes::len).filter(|length| *length > 0) else {
        return datagrams.len().min(1);
    };
    let most = (BYTES / first).clamp(1, SEGMENTS);
    let equal = datagrams.iter().take(most).take_while(|it| it.len() == first).count();
    let last = datagrams.get(equal).filter(|it| equal < most && (1..first).contains(&it.len()));
    equal + usize::from(last.is_some())
}

async fn send_at_once(socket: &UdpSocket, datagrams: &[Bytes]) -> io::Result<()> {
    let length = datagrams.first().and_then(|it| u16::try_from(it.len()).ok());
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let slices: Vec<_> = datagrams.iter().map(|it| IoSlice::new(it)).collect();
    let send = || {
        let control = [ControlMessage::UdpGsoSegments(&length)];
        let fd = socket.as_raw_fd();
        sendmsg::<()>(fd, &slices, &control, MsgFlags::MSG_DONTWAIT, None)?;
        Ok(())
    };
    socket.async_io(Interest::WRITABLE, send).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_one_length_and_a_shorter_one_behind_go_at_once() {
        let lengths = |lengths: &[usize]| {
            let all: Vec<_> = lengths.iter().map(|length| Bytes::from(vec![0; *length])).collect();
            of_one_length(&all)
        };
        assert_eq!(lengths(&[]), 0);
        assert_eq!(lengths(&[7]), 1);
        assert_eq!(lengths(&[7, 7, 7]), 3);
        assert_eq!(lengths(&[7, 7, 3, 7]), 3);
        assert_eq!(lengths(&[7, 8]), 1);
        assert_eq!(lengths(&[7, 0, 7]), 1, "nothing is cut into empty ones");
        assert_eq!(lengths(&[0, 0]), 1);
        assert_eq!(lengths(&[1; 100]), SEGMENTS);
        assert_eq!(lengths(&[1_200; 100]), 54);
        assert_eq!(lengths(&[60_000; 2]), 1);
    }

    #[tokio::test]
    async fn boundaries_and_order_are_kept_over_both_families() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(loopback).await.unwrap();
            let client = UdpSocket::bind(loopback).await.unwrap();
            client.connect(server.local_addr().unwrap()).await.unwrap();
            let sent: Vec<Bytes> = [1_200; 20]
                .into_iter()
                .chain([400, 0, 1, 1, 20_000, 20_000, 5])
                .enumerate()
                .map(|(number, length)| vec![u8::try_from(number).unwrap(); length].into())
                .collect();
            send_all(&client, &sent).await.unwrap();
            let mut buffer = vec![0; 65_535];
            for datagram in &sent {
                let length = server.recv(&mut buffer).await.unwrap();
                assert!(buffer[..length] == datagram[..], "{} bytes", datagram.len());
            }
        }
    }
}
