//! Carries one TCP connection over one circuit.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, Bytes};
use nightgate_e2ee::{RecordError, SealError};
use nightgate_router::{Circuit, CircuitReceiver, CircuitSender, FailureCause, Payload};
use nightgate_telemetry::{End, Metrics};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::Notify,
};
use tokio_util::io::poll_read_buf;

use crate::{
    protection::{Opener, Protected, Sealer},
    sight::{Sight, Sights},
};

/// Data flag (header 1010) that ends a direction.
const FIN: u32 = 1;

/// A silent connection is probed after this long, so that a vanished peer does not hold a circuit
/// for ever.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why a connection ended before both of its directions did.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The client or server behind this gateway broke off.
    #[error("read from the TCP connection: {0}")]
    Read(#[source] io::Error),
    /// The client or server behind this gateway broke off.
    #[error("write to the TCP connection: {0}")]
    Write(#[source] io::Error),
    /// The circuit broke before its peer had ended its stream.
    #[error("the circuit ended: {0}")]
    Cut(FailureCause),
    /// The circuit carried something that its peer did not seal.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Carries bytes both ways until both directions have ended or the circuit is closed.
///
/// What either side says first is shown to `sights`. Either side's half close is passed on. Nothing is read
/// from one side before the other has taken what came earlier. The connection is reset on an error, so that a
/// stream that was cut never looks complete.
///
/// # Errors
/// The connection or the circuit broke, or the circuit carried what its peer did not seal.
pub async fn carry(
    mut stream: TcpStream,
    circuit: Circuit,
    protection: Protected,
    mut sights: Sights,
    metrics: &Metrics,
) -> Result<(), CarryError> {
    let Protected { sealer, opener, taken, early_data, .. } = protection;
    let Circuit { sender, mut receiver, .. } = circuit;
    let result = async {
        prepare(&stream).map_err(CarryError::Read)?;
        begin(&mut stream, (taken, &early_data), &mut sights, metrics).await?;
        let (read, write) = stream.split();
        let ended = Notify::new();
        let upload = upload(read, &sender, sealer, sights.connection, metrics);
        let download = download(&mut receiver, write, (opener, sights.circuit), &ended, metrics);
        tokio::pin!(upload, download);
        let (mut sent, mut received) = (false, false);
        while !(sent && received) {
            tokio::select! {
                result = &mut upload, if !sent => { result?; sent = true; }
                () = ended.notified(), if !received => received = true,
                result = &mut download => return result,
            }
        }
        Ok(())
    }
    .await;
    if result.is_err() {
        reset(stream);
    }
    result
}

/// Closes a connection with a RST instead of a FIN.
pub fn reset(stream: TcpStream) {
    // Without it the client would see an orderly end; there is nothing else to do if it fails.
    if let Err(error) = SockRef::from(&stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "connection could not be reset");
    }
    drop(stream);
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Deals with what went with the dial: the host's server gets it, and what the client has sent so is not sent again.
async fn begin(
    stream: &mut TcpStream,
    (taken, early_data): (usize, &[u8]),
    sights: &mut Sights,
    metrics: &Metrics,
) -> Result<(), CarryError> {
    if taken > 0 {
        let mut first = vec![0; taken];
        stream.read_exact(&mut first).await.map_err(CarryError::Read)?;
        sights.connection.look(&first);
        metrics.bytes_sent(taken);
        metrics.early_data(End::Dialer, taken);
    }
    if !early_data.is_empty() {
        sights.circuit.look(early_data);
        stream.write_all(early_data).await.map_err(CarryError::Write)?;
        metrics.bytes_received(early_data.len());
        metrics.early_data(End::Host, early_data.len());
    }
    Ok(())
}

async fn upload(
    mut connection: ReadHalf<'_>,
    circuit: &CircuitSender,
    mut sealer: Sealer,
    mut sight: Sight,
    metrics: &Metrics,
) -> Result<(), CarryError> {
    if let Some(header) = sealer.header() {
        send(circuit, 0, header).await;
    }
    let mut plaintext = Vec::new();
    loop {
        let length = poll_fn(|context| read(&mut connection, &sealer, &mut plaintext, context))
            .await
            .map_err(CarryError::Read)?;
        if length == 0 {
            send(circuit, FIN, sealer.seal(&mut plaintext, FIN)?).await;
            return Ok(());
        }
        sight.look(&plaintext);
        metrics.bytes_sent(length);
        send(circuit, 0, sealer.seal(&mut plaintext, 0)?).await;
    }
}

/// Reads what one message can carry. A connection that is silent keeps no buffer, and one that had less to give than
/// was asked for is not asked again before it has more.
fn read(
    connection: &mut ReadHalf<'_>,
    sealer: &Sealer,
    plaintext: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let most = sealer.max_plaintext();
    plaintext.reserve_exact(most + sealer.overhead());
    let read = poll_read_buf(Pin::new(connection), context, &mut (&mut *plaintext).limit(most));
    if read.is_pending() {
        *plaintext = Vec::new();
    }
    read
}

/// Sends one message; returns never if the circuit is closed, because then the receiving half says
/// what is to be done, after it has delivered what arrived before.
async fn send(circuit: &CircuitSender, flags: u32, body: Bytes) {
    if circuit.send(Payload { flags, uuid: Bytes::new(), body }).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn download(
    circuit: &mut CircuitReceiver,
    mut connection: WriteHalf<'_>,
    (mut opener, mut sight): (Opener, Sight),
    ended: &Notify,
    metrics: &Metrics,
) -> Result<(), CarryError> {
    let mut open = true;
    while let Some(Payload { flags, body, .. }) = circuit.recv().await {
        if !open {
            continue;
        }
        let plaintext = opener.open(body, flags)?;
        sight.look(&plaintext);
        metrics.bytes_received(plaintext.len());
        connection.write_all(&plaintext).await.map_err(CarryError::Write)?;
        if flags & FIN != 0 {
            connection.shutdown().await.map_err(CarryError::Write)?;
            open = false;
            ended.notify_one();
        }
    }
    match circuit.cause() {
        // OpenZiti's SDKs end a stream by closing the circuit, without a FIN before; ours do not.
        None | Some(FailureCause::ClosedByPeer) if open => {
            opener.finish()?;
            connection.shutdown().await.map_err(CarryError::Write)
        }
        Some(cause) if open => Err(CarryError::Cut(cause)),
        None | Some(_) => Ok(()),
    }
}
