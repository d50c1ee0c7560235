//! Both sides of connections, each against tokio-rustls at the other end.

use std::{future::Future, io::ErrorKind, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    AlertDescription, ClientConfig, Error, HandshakeKind, RootCertStore, ServerConfig,
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs, aws_lc_rs::cipher_suite},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::{Acceptor, Connector, TlsStream};

const NAME: &str = "router.example";
const ALPN: &[u8] = b"test";

/// What both ends prove themselves with, and believe.
struct Proof {
    roots: Arc<RootCertStore>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    provider: Arc<CryptoProvider>,
    version: &'static SupportedProtocolVersion,
}

impl Proof {
    fn new() -> Self {
        let (authority, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&authority).unwrap().der().clone()).unwrap();
        let issuer = Issuer::new(params, authority);
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        Self {
            roots: roots.into(),
            certificate: params.signed_by(&key, &issuer).unwrap().der().clone(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            provider: aws_lc_rs::default_provider().into(),
            version: &TLS13,
        }
    }

    fn with(suite: SupportedCipherSuite) -> Self {
        let provider =
            CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
        Self { provider: provider.into(), version: suite.version(), ..Self::new() }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config
    }

    fn stranger(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth()
    }

    fn server(&self) -> ServerConfig {
        let (roots, provider) = (Arc::clone(&self.roots), Arc::clone(&self.provider));
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config
    }

    /// Our server, and the client of tokio-rustls.
    async fn accepted(&self) -> (TlsStream, client::TlsStream<TcpStream>) {
        let (ours, theirs) = sockets().await;
        let (acceptor, connector) = (Acceptor::new(self.server()), connector(self.client()));
        let both = tokio::join!(acceptor.accept(ours), connector.connect(name(), theirs));
        (both.0.unwrap(), both.1.unwrap())
    }

    /// Our client, and the server of tokio-rustls.
    async fn connected(&self) -> (TlsStream, server::TlsStream<TcpStream>) {
        let (ours, theirs) = sockets().await;
        let (connector, acceptor) = (Connector::new(self.client()), acceptor(self.server()));
        let both = tokio::join!(connector.connect(name(), ours), acceptor.accept(theirs));
        (both.0.unwrap(), both.1.unwrap())
    }
}

fn name() -> ServerName<'static> {
    NAME.try_into().unwrap()
}

fn connector(config: ClientConfig) -> TlsConnector {
    Arc::new(config).into()
}

fn acceptor(config: ServerConfig) -> TlsAcceptor {
    Arc::new(config).into()
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), TcpStream::connect(address));
    (accepted.unwrap().0, connected.unwrap())
}

fn some_data(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// Sends much both ways at the same time, in several writes.
async fn exchange<A, B>(mut ours: A, mut theirs: B) -> (A, B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let expected = some_data(1_000_000);
    let (mut here, mut there) = (tokio::io::split(&mut ours), tokio::io::split(&mut theirs));
    tokio::join!(
        send(&mut here.1, &expected),
        send(&mut there.1, &expected),
        receive(&mut here.0, &expected),
        receive(&mut there.0, &expected),
    );
    drop((here, there));
    (ours, theirs)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), mut data: &[u8]) {
    for length in [1, 16_384, 16_385, 0, 5, 300_000] {
        let (now, later) = data.split_at(length);
        stream.write_all(now).await.unwrap();
        data = later;
    }
    stream.write_all(data).await.unwrap();
    stream.flush().await.unwrap();
}

async fn receive(stream: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).await.unwrap();
    assert!(received == expected);
}

/// The reason that rustls gave.
fn reason(error: &std::io::Error) -> &Error {
    error.get_ref().unwrap().downcast_ref().unwrap()
}

#[tokio::test]
async fn everything_arrives_with_every_cipher_in_both_roles() {
    let suites = [
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    for suite in suites {
        let proof = Proof::with(suite);
        let (ours, theirs) = proof.accepted().await;
        assert_eq!(ours.peer_certificate(), Some(&proof.certificate));
        assert_eq!(ours.protocol(), Some(ALPN));
        exchange(ours, theirs).await;
        let (ours, theirs) = proof.connected().await;
        assert_eq!(ours.peer_certificate(), Some(&proof.certificate));
        assert_eq!(ours.protocol(), Some(ALPN));
        exchange(ours, theirs).await;
    }
}

#[tokio::test]
async fn records_come_byte_by_byte() {
    let proof = Proof::new();
    let (ours, between) = sockets().await;
    let (beyond, theirs) = sockets().await;
    let relay = tokio::spawn(dribble(between, beyond));
    let (acceptor, connector) = (Acceptor::new(proof.server()), connector(proof.client()));
    let both = tokio::join!(acceptor.accept(ours), connector.connect(name(), theirs));
    let (mut ours, mut theirs) = (both.0.unwrap(), both.1.unwrap());
    let expected = some_data(20_000);
    theirs.write_all(&expected).await.unwrap();
    theirs.flush().await.unwrap();
    receive(&mut ours, &expected).await;
    relay.abort();
}

/// Passes on what comes from the second, a byte at a time, and the rest as it comes.
async fn dribble(mut to: TcpStream, mut from: TcpStream) {
    to.set_nodelay(true).unwrap();
    let (mut to_read, mut to_write) = to.split();
    let (mut from_read, mut from_write) = from.split();
    let slow = async {
        while let Ok(byte) = from_read.read_u8().await {
            to_write.write_u8(byte).await.unwrap();
        }
    };
    let back = tokio::io::copy(&mut to_read, &mut from_write);
    drop(tokio::join!(slow, back));
}

#[tokio::test]
async fn either_end_takes_new_keys_at_any_time() {
    for number in 0..3 {
        let (ours, mut theirs) = Proof::new().accepted().await;
        for _ in 0..=number {
            theirs.get_mut().1.refresh_traffic_keys().unwrap();
        }
        let (mut ours, theirs) = exchange(ours, theirs).await;
        ours.records.limit = 3;
        let (ours, mut theirs) = exchange(ours, theirs).await;
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        exchange(ours, theirs).await;
    }
}

#[tokio::test]
async fn keys_of_tls_1_2_are_used_up_at_some_time() {
    let suite = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    let (mut ours, _theirs) = Proof::with(suite).accepted().await;
    ours.records.limit = 3;
    ours.write_all(b"first").await.unwrap();
    let error = ours.write_all(b"too many").await.unwrap_err();
    assert_eq!(*reason(&error), Error::EncryptError);
}

#[tokio::test]
async fn what_was_said_to_be_all_is_all() {
    let (mut ours, mut theirs) = Proof::new().accepted().await;
    theirs.write_all(b"all").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut received = Vec::new();
    ours.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"all");
    assert_eq!(ours.read(&mut [0]).await.unwrap(), 0, "an end stays an end");
    ours.write_all(b"answer").await.unwrap();
    ours.shutdown().await.unwrap();
    let error = ours.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    received.clear();
    theirs.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"answer");
}

#[tokio::test]
async fn what_breaks_off_is_not_all() {
    let (mut ours, mut theirs) = Proof::new().accepted().await;
    theirs.write_all(b"not all").await.unwrap();
    theirs.flush().await.unwrap();
    let (mut tcp, _) = theirs.into_inner();
    tcp.shutdown().await.unwrap();
    let mut received = Vec::new();
    let error = ours.read_to_end(&mut received).await.unwrap_err();
    assert_eq!((error.kind(), received.as_slice()), (ErrorKind::UnexpectedEof, &b"not all"[..]));
}

#[tokio::test]
async fn what_comes_before_garbage_counts_and_the_other_end_is_told() {
    let cases: [(&[u8], AlertDescription); 5] = [
        // Not encrypted with the key.
        (
            &[23, 3, 3, 0, 20, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
            AlertDescription::BadRecordMac,
        ),
        // Shorter than any record with a tag.
        (&[23, 3, 3, 0, 1, 9], AlertDescription::BadRecordMac),
        // Longer than any record.
        (&[23, 3, 3, 255, 255], AlertDescription::DecodeError),
        // Not TLS.
        (b"GET / HTTP/1.1", AlertDescription::DecodeError),
        // An alert that anybody could have sent.
        (&[21, 3, 3, 0, 2, 1, 0], AlertDescription::UnexpectedMessage),
    ];
    for (garbage, alert) in cases {
        let (mut ours, mut theirs) = Proof::new().accepted().await;
        theirs.write_all(b"data").await.unwrap();
        theirs.flush().await.unwrap();
        theirs.get_mut().0.write_all(garbage).await.unwrap();
        let mut received = Vec::new();
        let error = ours.read_to_end(&mut received).await.unwrap_err();
        assert_eq!((error.kind(), received.as_slice()), (ErrorKind::InvalidData, &b"data"[..]));
        let told = theirs.read(&mut [0]).await.unwrap_err();
        assert_eq!(*reason(&told), Error::AlertReceived(alert));
        let error = ours.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "what failed does not end");
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_what_is_missing() {
    let proof = Proof::new();
    let (ours, theirs) = sockets().await;
    let (acceptor, connector) = (Acceptor::new(proof.server()), connector(proof.stranger()));
    let (ours, theirs) = tokio::join!(acceptor.accept(ours), connector.connect(name(), theirs));
    assert_eq!(*reason(&ours.unwrap_err()), Error::NoCertificatesPresented);
    let told = theirs.unwrap().read(&mut [0]).await.unwrap_err();
    assert_eq!(*reason(&told), Error::AlertReceived(AlertDescription::CertificateRequired));
}

#[tokio::test]
async fn who_does_not_speak_tls_is_turned_away() {
    let (ours, mut theirs) = sockets().await;
    theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = Acceptor::new(Proof::new().server()).accept(ours).await.unwrap_err();
    assert!(matches!(reason(&error), Error::InvalidMessage(_)));
    let (ours, theirs) = sockets().await;
    drop(theirs);
    let error = Acceptor::new(Proof::new().server()).accept(ours).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn tickets_make_the_next_handshake_shorter() {
    let proof = Proof::new();
    let (acceptor, connector) = (Acceptor::new(proof.server()), connector(proof.client()));
    let (server, client) = (self::acceptor(proof.server()), Connector::new(proof.client()));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (ours, theirs) = sockets().await;
        let both = tokio::join!(acceptor.accept(ours), connector.connect(name(), theirs));
        let (ours, theirs) = (both.0.unwrap(), both.1.unwrap());
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(kind));
        assert_eq!(ours.peer_certificate(), Some(&proof.certificate));
        exchange(ours, theirs).await;
        let (ours, theirs) = sockets().await;
        let both = tokio::join!(client.connect(name(), ours), server.accept(theirs));
        let (ours, theirs) = (both.0.unwrap(), both.1.unwrap());
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(kind));
        assert_eq!(ours.peer_certificate(), Some(&proof.certificate));
        exchange(ours, theirs).await;
    }
}

#[tokio::test]
async fn two_of_our_ends_talk_and_one_of_them_moves_to_another_runtime() {
    let proof = Proof::new();
    let (near, far) = sockets().await;
    let (acceptor, connector) = (Acceptor::new(proof.server()), Connector::new(proof.client()));
    let both = tokio::join!(acceptor.accept(near), connector.connect(name(), far));
    let (mut near, mut far) = (both.0.unwrap(), both.1.unwrap());
    let echo = in_another_runtime(async move {
        near.move_here().unwrap();
        let (mut reader, mut writer) = tokio::io::split(near);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let data = some_data(50_000);
    far.write_all(&data).await.unwrap();
    far.flush().await.unwrap();
    receive(&mut far, &data).await;
    far.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    echo.join().unwrap();
}

fn in_another_runtime(
    work: impl Future<Output = ()> + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(work);
    })
}
