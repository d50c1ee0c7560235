//! Handshakes, which rustls makes over its interface without buffers.

use std::{io, mem, sync::Arc};

use bytes::{Buf as _, BytesMut};
use rustls::{
    ClientConfig, CommonState, Error, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus,
    },
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    TlsStream,
    keys::Keys,
    records::{Records, record_length},
};

/// What a connection's other end showed in the handshake.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) certificate: Option<CertificateDer<'static>>,
    pub(crate) protocol: Option<Vec<u8>>,
}

impl Peer {
    fn of(state: &CommonState) -> Self {
        Self {
            certificate: state.peer_certificates().and_then(|chain| chain.first().cloned()),
            protocol: state.alpn_protocol().map(<[u8]>::to_vec),
        }
    }
}

pub(crate) async fn accept(config: Arc<ServerConfig>, mut tcp: TcpStream) -> io::Result<TlsStream> {
    let mut connection = UnbufferedServerConnection::new(config).map_err(failed)?;
    let take = Server::process_tls_records;
    let ahead = shake(&mut connection, take, &mut tcp).await?;
    let peer = Peer::of(&connection);
    let (secrets, keys) = connection.dangerous_into_kernel_connection().map_err(failed)?;
    let records = Records::new(Keys::Server(keys), secrets).map_err(failed)?;
    Ok(TlsStream::new(tcp, records, ahead, peer))
}

pub(crate) async fn connect(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    mut tcp: TcpStream,
) -> io::Result<TlsStream> {
    let mut connection = UnbufferedClientConnection::new(config, name).map_err(failed)?;
    let take = Client::process_tls_records;
    let ahead = shake(&mut connection, take, &mut tcp).await?;
    let peer = Peer::of(&connection);
    let (secrets, keys) = connection.dangerous_into_kernel_connection().map_err(failed)?;
    let records = Records::new(Keys::Client(keys), secrets).map_err(failed)?;
    Ok(TlsStream::new(tcp, records, ahead, peer))
}

pub(crate) fn failed(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

type Client = UnbufferedConnectionCommon<ClientConnectionData>;
type Server = UnbufferedConnectionCommon<ServerConnectionData>;

/// rustls' function that takes records: it has one for clients and another for servers.
type TakeRecords<Data> = for<'c, 'i> fn(
    &'c mut UnbufferedConnectionCommon<Data>,
    &'i mut [u8],
) -> UnbufferedStatus<'c, 'i, Data>;

/// What is to be done next.
enum Step {
    /// rustls has more to say.
    Again,
    Write,
    Read,
    Done,
    Fail(Error),
}

/// Makes the handshake; gives what came after it, and is not opened.
async fn shake<Data>(
    connection: &mut UnbufferedConnectionCommon<Data>,
    take: TakeRecords<Data>,
    tcp: &mut TcpStream,
) -> io::Result<BytesMut> {
    let (mut incoming, mut outgoing) = (BytesMut::new(), Vec::new());
    // rustls is shown one record at a time, so that it opens none that follows the handshake.
    let mut shown = 0;
    loop {
        let UnbufferedStatus { discard, state } = take(connection, &mut incoming[..shown]);
        let mut step = next(state, &mut outgoing)?;
        incoming.advance(discard);
        shown -= discard;
        if matches!(step, Step::Done) && (connection.is_handshaking() || shown > 0) {
            step = Step::Read;
        }
        match step {
            Step::Again => {}
            Step::Write => tcp.write_all(&mem::take(&mut outgoing)).await?,
            Step::Read => shown = read_record(tcp, &mut incoming, shown).await?,
            Step::Done => return Ok(incoming),
            Step::Fail(error) => {
                let words = last_words(connection, take);
                drop(tcp.write_all(&words).await);
                return Err(failed(error));
            }
        }
    }
}

fn next<Data>(
    state: Result<ConnectionState<'_, '_, Data>, Error>,
    outgoing: &mut Vec<u8>,
) -> io::Result<Step> {
    Ok(match state {
        Ok(ConnectionState::EncodeTlsData(data)) => {
            encode(data, outgoing)?;
            Step::Again
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Step::Write
        }
        Ok(ConnectionState::BlockedHandshake) => Step::Read,
        Ok(ConnectionState::WriteTraffic(_)) => Step::Done,
        // Early data is never accepted, and nothing is opened after the handshake.
        Ok(_) => Step::Fail(Error::HandshakeNotComplete),
        Err(error) => Step::Fail(error),
    })
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    let Err(EncodeError::InsufficientSize(room)) = data.encode(&mut []) else { return Ok(()) };
    let at = outgoing.len();
    outgoing.resize(at + room.required_size, 0);
    data.encode(&mut outgoing[at..]).map_err(io::Error::other)?;
    Ok(())
}

/// The alert that tells the other end why. As long as there is something to say, rustls looks at no records.
fn last_words<Data>(
    connection: &mut UnbufferedConnectionCommon<Data>,
    take: TakeRecords<Data>,
) -> Vec<u8> {
    let mut words = Vec::new();
    while connection.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(data)) = take(connection, &mut []).state else {
            break;
        };
        if encode(data, &mut words).is_err() {
            break;
        }
    }
    words
}

/// Reads until there is one more record than the `shown` bytes hold; gives where that ends.
async fn read_record(
    tcp: &mut TcpStream,
    incoming: &mut BytesMut,
    shown: usize,
) -> io::Result<usize> {
    loop {
        match record_length(&incoming[shown..]) {
            Ok(Some(length)) if incoming.len() - shown >= length => return Ok(shown + length),
            Ok(_) => {}
            // rustls knows what to say to that.
            Err(_) if incoming.len() > shown => return Ok(incoming.len()),
            Err(_) => {}
        }
        if tcp.read_buf(incoming).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the handshake broke off"));
        }
    }
}
