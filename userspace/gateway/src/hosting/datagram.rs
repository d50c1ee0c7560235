//! Carries the datagrams of one UDP flow over one circuit: one datagram is one message.

use std::{cell::RefCell, io, time::Duration};

use bytes::Bytes;
use nightgate_e2ee::{RecordError, SealError};
use nightgate_router::{
    Circuit, CircuitSender, Payload,
    datagrams::{EMPTY, datagrams, flags_of},
    flag::{FIN, MULTIPART},
};
use nightgate_telemetry::{DatagramLoss, Metrics};
use tokio::{net::UdpSocket, time::Instant};

use crate::protection::{Protected, Sealer};

/// Longest datagram in bytes (UDP over IPv4: 65,535 less the headers of RFC 791 and RFC 768).
const MAX_DATAGRAM: usize = 65_507;

thread_local! {
    /// Room for one datagram: ten thousand flows that wait would take 640 MB if each had its own.
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_DATAGRAM]);
}

/// Why a flow ended otherwise than by silence or by its dialer.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatagramError {
    /// The server refused, or cannot be reached.
    #[error("the UDP server: {0}")]
    Server(#[from] io::Error),
    /// The circuit carried something that its peer did not seal.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Carries datagrams both ways until the dialer ends the circuit, or for `idle` none has come from either side.
///
/// # Errors
/// The server refused, or the circuit carried what its peer did not seal.
pub(super) async fn carry(
    socket: UdpSocket,
    circuit: Circuit,
    protection: Protected,
    idle: Duration,
    metrics: &Metrics,
) -> Result<(), DatagramError> {
    let Protected { mut sealer, mut opener, peer, .. } = protection;
    let Circuit { sender, mut receiver, .. } = circuit;
    if let Some(header) = sealer.header()
        && !send(&sender, 0, header).await
    {
        return Ok(());
    }
    let mut takes_empty = peer.is_some();
    let mut silent_at = Instant::now() + idle;
    loop {
        tokio::select! {
            received = receive(&socket) => {
                let mut datagram = received?;
                metrics.bytes_sent(datagram.len());
                let flags = flags_of(&datagram);
                if datagram.is_empty() {
                    datagram.extend(EMPTY);
                }
                if flags != 0 && !takes_empty {
                    metrics.datagram_lost(DatagramLoss::Empty);
                } else if !send(&sender, flags, sealer.seal(&mut datagram, flags)?).await {
                    return Ok(());
                }
            }
            message = receiver.recv() => {
                let Some(Payload { flags, body, .. }) = message else { return Ok(()) };
                let plaintext = opener.open(body, flags)?;
                takes_empty |= flags & MULTIPART != 0;
                metrics.bytes_received(plaintext.len());
                for datagram in datagrams(plaintext, flags) {
                    socket.send(&datagram).await?;
                }
                if flags & FIN != 0 {
                    return end(&sender, sealer).await;
                }
            }
            () = tokio::time::sleep_until(silent_at) => return end(&sender, sealer).await,
        }
        silent_at = Instant::now() + idle;
    }
}

/// The next datagram of a connected socket. Takes no memory while it waits, and is cancel safe.
///
/// # Errors
/// The server's host has answered that nobody listens, or the system fails.
pub async fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        socket.readable().await?;
        let received: io::Result<_> = ROOM.with_borrow_mut(|room| {
            let length = socket.try_recv(room)?;
            Ok(room[..length].to_vec())
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

/// Tells the dialer that nothing more comes.
async fn end(circuit: &CircuitSender, mut sealer: Sealer) -> Result<(), DatagramError> {
    let end = sealer.seal(&mut Vec::new(), FIN)?;
    send(circuit, FIN, end).await;
    Ok(())
}

/// Gives whether the circuit still stands.
async fn send(circuit: &CircuitSender, flags: u32, body: Bytes) -> bool {
    circuit.send(Payload { flags, uuid: Bytes::new(), body }).await.is_ok()
}
