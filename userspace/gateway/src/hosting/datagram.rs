//! Carries the datagrams of one UDP flow over one circuit.

use std::{cell::RefCell, io, time::Duration};

use bytes::Bytes;
use nightgate_router::Circuit;
use nightgate_telemetry::{DatagramLoss, Metrics};
use tokio::{io::Interest, net::UdpSocket};

use crate::{
    datagrams::{
        arrivals::{prepare, read_bundles},
        departures::send_all,
        messages::{Inward, MESSAGE, MessageError, Outward, halves},
        silence::Silence,
    },
    protection::Protected,
};

/// Longest datagram in bytes (UDP over IPv4: 65,535 less the headers of RFC 791 and RFC 768).
const MAX_DATAGRAM: usize = 65_507;

/// Bytes the kernel queues while the process is busy: some hundred datagrams of 1,200 bytes, which take 2,304 each.
const RECEIVE_BUFFER: usize = 2 << 20;

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
    /// The circuit carried what it should not, or is over.
    #[error(transparent)]
    Message(#[from] MessageError),
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
    prepare(&socket, RECEIVE_BUFFER)?;
    let (mut outward, mut inward) = halves(circuit, protection);
    let silence = Silence::new(idle);
    let ended = tokio::select! {
        ended = upload(&socket, &mut outward, &silence, metrics) => ended,
        ended = download(&socket, &mut inward, &silence, metrics) => ended,
        () = silence.over() => Ok(()),
    };
    let ended = match ended {
        Ok(()) => outward.end().await.map_err(DatagramError::from),
        failed => failed,
    };
    match ended {
        // The dialer has closed the circuit: nobody is left to be told.
        Err(DatagramError::Message(MessageError::Closed(_))) => Ok(()),
        ended => ended,
    }
}

/// Sends what the server says, for ever.
async fn upload(
    socket: &UdpSocket,
    outward: &mut Outward,
    silence: &Silence,
    metrics: &Metrics,
) -> Result<(), DatagramError> {
    outward.begin().await?;
    loop {
        socket.readable().await?;
        let bundles = match socket.try_io(Interest::READABLE, || read_bundles(socket, MESSAGE)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            read => read?,
        };
        for bundle in bundles {
            silence.spoken();
            metrics.bytes_sent(bundle.payload());
            let lost = outward.send(bundle).await?;
            metrics.datagrams_lost(DatagramLoss::Empty, lost);
        }
    }
}

/// Sends what comes to the server, until the dialer has ended its direction or the circuit.
async fn download(
    socket: &UdpSocket,
    inward: &mut Inward,
    silence: &Silence,
    metrics: &Metrics,
) -> Result<(), DatagramError> {
    while let Some(message) = inward.next().await? {
        silence.spoken();
        let is_last = message.is_last();
        let datagrams: Vec<_> = message.datagrams().collect();
        metrics.bytes_received(datagrams.iter().map(Bytes::len).sum());
        send_all(socket, &datagrams).await?;
        if is_last {
            break;
        }
    }
    Ok(())
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
