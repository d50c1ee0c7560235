//! The least that has to be done between two gateways: connections on one TLS connection with mutual certificates, and
//! records that are encrypted once more between the ends. No policy, no flow control, no way around a router that
//! dies, no agreement on keys: what is left is what the machine, tokio and rustls take.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use aegis::aegis256x4::Aegis256X4;
use anyhow::{Context as _, Result, bail, ensure};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, ReadHalf,
        WriteHalf,
    },
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, mpsc},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::peers::End;

/// First word of the command line of such a relay.
pub const BARE: &str = "bare-relay";

/// Plaintext of a record, at most, in bytes; as the product's.
const RECORD: usize = 64 * 1_024 - 256;
/// Bytes in front of a record: the connection's number and the record's length.
const HEAD: usize = 8;
/// Bytes of an authentication tag.
const TAG: usize = 16;
/// Records that wait for one connection.
const WAITING: usize = 32;
/// Bytes that are read of the TLS connection at once.
const READ: usize = 128 * 1_024;
/// Any will do: nothing is secret here.
const KEY: [u8; 32] = [7; 32];

type Waiting = HashMap<u32, mpsc::Sender<Vec<u8>>>;

/// What the relay at `end` is told.
pub(super) fn configuration([listen, connect]: [&str; 2], end: End) -> String {
    let end = match end {
        End::A => "a",
        End::B => "b",
    };
    format!("{end} {listen} {connect}")
}

/// Relays until it is killed.
///
/// # Errors
/// The configuration is none, a certificate is missing, or an address is taken.
pub fn relay(file: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [end, listen, connect] = words[..] else { bail!("{file}: not END LISTEN CONNECT") };
    let runtime = tokio::runtime::Runtime::new()?;
    let (listen, connect) = (listen.to_owned(), connect.to_owned());
    let is_dialer = end == "a";
    // Not on the thread that waits for it, which hears of every event from another.
    let relay = runtime.spawn(async move {
        if is_dialer { dialer(&listen, &connect).await } else { host(&listen, &connect).await }
    });
    runtime.block_on(relay)?
}

async fn dialer(listen: &str, connect: &str) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let tcp = loop {
        match TcpStream::connect(connect).await {
            Ok(tcp) => break tcp,
            Err(_not_there_yet) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };
    tcp.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(client_config()?));
    let stream =
        connector.connect(ServerName::try_from("peer")?, BufReader::with_capacity(READ, tcp));
    let (reader, writer) = tokio::io::split(stream.await?);
    let link = Arc::new(Mutex::new(writer));
    let waiting = Arc::new(Mutex::new(Waiting::new()));
    tokio::spawn(receive(reader, Arc::clone(&waiting), None));
    let next = AtomicU32::new(0);
    loop {
        let (tcp, _) = listener.accept().await?;
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(WAITING);
        waiting.lock().await.insert(number, sender);
        carry(tcp, number, receiver, Arc::clone(&link))?;
    }
}

async fn host(listen: &str, connect: &str) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let acceptor = TlsAcceptor::from(Arc::new(server_config()?));
    let (tcp, _) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    let stream = acceptor.accept(BufReader::with_capacity(READ, tcp)).await?;
    let (reader, writer) = tokio::io::split(stream);
    let host = Host { server: connect.to_owned(), link: Arc::new(Mutex::new(writer)) };
    receive(reader, Arc::default(), Some(host)).await
}

/// Where connections that the other relay begins go to.
struct Host<S> {
    server: String,
    link: Arc<Mutex<WriteHalf<S>>>,
}

/// Gives every record to its connection.
async fn receive<S>(
    mut reader: ReadHalf<S>,
    waiting: Arc<Mutex<Waiting>>,
    host: Option<Host<S>>,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    loop {
        let mut head = [0; HEAD];
        reader.read_exact(&mut head).await?;
        let [a, b, c, d, length @ ..] = head;
        let (number, length) =
            (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(length) as usize);
        ensure!(length <= RECORD + TAG, "a record of {length} bytes");
        let mut record = Vec::with_capacity(length);
        (&mut reader).take(length as u64).read_to_end(&mut record).await?;
        let mut known = waiting.lock().await;
        if let (Some(host), false) = (&host, known.contains_key(&number)) {
            let (sender, receiver) = mpsc::channel(WAITING);
            known.insert(number, sender);
            let (server, link) = (host.server.clone(), Arc::clone(&host.link));
            tokio::spawn(async move {
                carry(TcpStream::connect(server).await?, number, receiver, link)
            });
        }
        let sender = if length == 0 { known.remove(&number) } else { known.get(&number).cloned() };
        drop(known);
        if let (Some(sender), true) = (sender, length > 0) {
            // The connection may have broken.
            drop(sender.send(record).await);
        }
    }
}

/// Carries one connection both ways.
fn carry<S>(
    tcp: TcpStream,
    number: u32,
    receiver: mpsc::Receiver<Vec<u8>>,
    link: Arc<Mutex<WriteHalf<S>>>,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    tcp.set_nodelay(true)?;
    let (reader, writer) = tcp.into_split();
    tokio::spawn(upload(reader, number, link));
    tokio::spawn(download(receiver, writer));
    Ok(())
}

async fn upload<S>(
    mut reader: OwnedReadHalf,
    number: u32,
    link: Arc<Mutex<WriteHalf<S>>>,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut buffer = vec![0; HEAD + RECORD + TAG];
    for counter in 0_u64.. {
        let read = reader.read(&mut buffer[HEAD..HEAD + RECORD]).await.unwrap_or(0);
        let length = if read == 0 { 0 } else { read + TAG };
        buffer[..4].copy_from_slice(&number.to_le_bytes());
        buffer[4..HEAD].copy_from_slice(&u32::try_from(length)?.to_le_bytes());
        if read > 0 {
            let tag = cipher(counter).encrypt_in_place(&mut buffer[HEAD..HEAD + read], &[]);
            buffer[HEAD + read..HEAD + length].copy_from_slice(&tag);
        }
        let mut link = link.lock().await;
        link.write_all(&buffer[..HEAD + length]).await?;
        link.flush().await?;
        if read == 0 {
            break;
        }
    }
    Ok(())
}

async fn download(mut receiver: mpsc::Receiver<Vec<u8>>, mut writer: OwnedWriteHalf) -> Result<()> {
    let mut counter = 0;
    while let Some(mut record) = receiver.recv().await {
        let length = record.len() - TAG;
        let (plaintext, tag) = record.split_at_mut(length);
        let tag: &[u8; TAG] = (&*tag).try_into()?;
        let opened = cipher(counter).decrypt_in_place(plaintext, tag, &[]);
        opened.map_err(|error| anyhow::anyhow!("record {counter}: {error}"))?;
        writer.write_all(plaintext).await?;
        counter += 1;
    }
    writer.shutdown().await.context("end a connection")
}

fn cipher(counter: u64) -> Aegis256X4<TAG> {
    let mut nonce = [0; 32];
    nonce[..8].copy_from_slice(&counter.to_le_bytes());
    Aegis256X4::new(&KEY, &nonce)
}

fn client_config() -> Result<ClientConfig> {
    let (chain, key) = own()?;
    let builder = ClientConfig::builder().with_root_certificates(roots()?);
    Ok(builder.with_client_auth_cert(chain, key)?)
}

fn server_config() -> Result<ServerConfig> {
    let (chain, key) = own()?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots()?)).build()?;
    Ok(ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key)?)
}

fn roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(Path::new("ca.pem"))?)?;
    Ok(roots)
}

fn own() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = vec![CertificateDer::from_pem_file("peer.pem")?];
    Ok((chain, PrivateKeyDer::from_pem_file("peer.pem")?))
}
