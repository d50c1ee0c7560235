//! Connections to servers behind this host.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use nightgate_abi::intercept::{HOSTED_ELSEWHERE, HOSTED_MARK, hosted_mark};
use nightgate_router::FailureCause;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, UdpSocket, lookup_host},
    time::timeout,
};

use super::target::Target;

/// A server that could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its name could not be looked up.
    #[error("resolve {address}: {source}")]
    Resolve {
        /// The name.
        address: String,
        /// Cause.
        source: io::Error,
    },
    /// Its name has no address, or none of the family of the source address.
    #[error("resolve {address}: the name has no address that can be used")]
    NoAddress {
        /// The name.
        address: String,
    },
    /// The source address that the dialer asked for cannot be had.
    #[error("connect from {address}: {source}; expected CAP_NET_ADMIN and a free port")]
    Source {
        /// The source.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// The connection cannot be marked for the kernel programs.
    #[error("mark a connection to {server}: {source}; expected CAP_NET_ADMIN")]
    Mark {
        /// The server.
        server: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// The system or the server refused.
    #[error("connect to {server}: {source}")]
    Connect {
        /// The server.
        server: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// The server did not answer.
    #[error("connect to {address}: no answer within {} s", waited.as_secs_f32())]
    Timeout {
        /// The server.
        address: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The proxy did not connect the server.
    #[error("connect to {address}: the proxy answered {answer:?}")]
    Proxy {
        /// The server.
        address: String,
        /// The first line of the proxy's answer.
        answer: String,
    },
}

/// What sets a socket towards a server apart from others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SocketKind {
    /// Mark of the packets that it sends (SO_MARK, socket(7)).
    pub mark: Option<u32>,
    /// Bytes of the largest segment of TCP, 88 to 32,767, in both directions (TCP_MAXSEG, tcp(7)).
    pub segment: Option<u32>,
}

/// Longest head of a proxy's answer in bytes.
const MAX_HEAD: usize = 8_192;

impl ConnectError {
    /// What the dialer is told.
    pub(super) fn cause(&self) -> FailureCause {
        match self {
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                FailureCause::ConnectionRefused
            }
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                FailureCause::ConnectTimeout
            }
            Self::Connect { .. }
            | Self::Resolve { .. }
            | Self::NoAddress { .. }
            | Self::Proxy { .. } => FailureCause::HostUnreachable,
            Self::Source { .. } | Self::Mark { .. } => FailureCause::HostRefused,
            Self::Timeout { .. } => FailureCause::ConnectTimeout,
        }
    }
}

/// Connects to the first address of a TCP server that answers, directly or through an HTTP proxy.
///
/// # Errors
/// No address answers within `limit`.
pub(super) async fn tcp(
    target: &Target,
    proxy: Option<&str>,
    (limit, kind): (Duration, SocketKind),
) -> Result<TcpStream, ConnectError> {
    let from = Own { address: target.source, kind };
    let attempt = async {
        let Some(proxy) = proxy else {
            return first(addresses(target).await?, |server| direct(server, from)).await;
        };
        let unreachable = |source| ConnectError::Resolve { address: proxy.to_owned(), source };
        let proxies: Vec<_> = lookup_host(proxy).await.map_err(unreachable)?.collect();
        let mut stream = first(proxies, |server| direct(server, from)).await?;
        through_proxy(&mut stream, target).await?;
        Ok(stream)
    };
    within(limit, target, attempt).await
}

/// Makes a socket that talks to one UDP server.
///
/// # Errors
/// Its name cannot be looked up within `limit`, or there is no way to its address.
pub(super) async fn udp(
    target: &Target,
    (limit, kind): (Duration, SocketKind),
) -> Result<UdpSocket, ConnectError> {
    let from = Own { address: target.source, kind };
    let attempt = async {
        first(addresses(target).await?, |server| async move {
            let socket = match from.address {
                Some(source) => bound(source, Type::DGRAM)
                    .and_then(|socket| UdpSocket::from_std(socket.into()))
                    .map_err(|error| ConnectError::Source { address: source, source: error })?,
                None => UdpSocket::bind(any(server))
                    .await
                    .map_err(|source| ConnectError::Connect { server, source })?,
            };
            from.mark(SockRef::from(&socket), server)?;
            let connected = socket.connect(server).await;
            connected.map_err(|source| ConnectError::Connect { server, source })?;
            Ok(socket)
        })
        .await
    };
    within(limit, target, attempt).await
}

async fn within<T>(
    limit: Duration,
    target: &Target,
    attempt: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let late = |_elapsed| ConnectError::Timeout { address: target.to_string(), waited: limit };
    timeout(limit, attempt).await.map_err(late)?
}

/// The addresses of a server, of the family of the source address if there is one; never empty.
async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
    let address = || target.to_string();
    let found = lookup_host((target.address.as_str(), target.port))
        .await
        .map_err(|source| ConnectError::Resolve { address: address(), source })?;
    let fits = |server: &SocketAddr| {
        target.source.is_none_or(|source| source.is_ipv4() == server.is_ipv4())
    };
    let addresses: Vec<_> = found.filter(fits).collect();
    match addresses.is_empty() {
        true => Err(ConnectError::NoAddress { address: address() }),
        false => Ok(addresses),
    }
}

/// The first success, or the last failure.
async fn first<T, F: Future<Output = Result<T, ConnectError>>>(
    servers: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, ConnectError> {
    let mut failure = ConnectError::NoAddress { address: String::new() };
    for server in servers {
        match connect(server).await {
            Ok(connected) => return Ok(connected),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The gateway's end of a connection to a server.
#[derive(Clone, Copy)]
struct Own {
    /// The host's own if absent.
    address: Option<SocketAddr>,
    kind: SocketKind,
}

impl Own {
    fn mark(&self, socket: SockRef<'_>, server: SocketAddr) -> Result<(), ConnectError> {
        // The kernel programs have to know answers to an address that is not this host's.
        let foreign = self.address.map(|_source| hosted_mark(HOSTED_MARK, HOSTED_ELSEWHERE));
        let marked = self.kind.mark.or(foreign).map_or(Ok(()), |mark| socket.set_mark(mark));
        marked.map_err(|source| ConnectError::Mark { server, source })
    }
}

async fn direct(server: SocketAddr, from: Own) -> Result<TcpStream, ConnectError> {
    let failed = |source| ConnectError::Connect { server, source };
    let socket = match (from.address, server) {
        (Some(address), _) => {
            let socket = bound(address, Type::STREAM)
                .map_err(|error| ConnectError::Source { address, source: error })?;
            TcpSocket::from_std_stream(socket.into())
        }
        (None, SocketAddr::V4(_)) => TcpSocket::new_v4().map_err(failed)?,
        (None, SocketAddr::V6(_)) => TcpSocket::new_v6().map_err(failed)?,
    };
    from.mark(SockRef::from(&socket), server)?;
    if let Some(segment) = from.kind.segment {
        SockRef::from(&socket).set_tcp_mss(segment).map_err(failed)?;
    }
    socket.connect(server).await.map_err(failed)
}

/// A socket with an address that need not be this host's (IP_TRANSPARENT, ip(7)).
fn bound(source: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(source), kind, None)?;
    match source {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    // A client's port may still be waiting for the end of its connection before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&source.into())?;
    Ok(socket)
}

fn any(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Asks an HTTP proxy to connect a server (CONNECT, RFC 9110 section 9.3.6).
async fn through_proxy(stream: &mut TcpStream, target: &Target) -> Result<(), ConnectError> {
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let head = async {
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        // What follows the head is the server's already, so it is read byte by byte.
        while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
            head.push(stream.read_u8().await?);
        }
        Ok::<_, io::Error>(head)
    };
    let answer = match head.await {
        Ok(head) => String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    };
    match answer.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(ConnectError::Proxy { address: target.to_string(), answer }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use nightgate_model::configs::Protocol;
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn target(address: &str, port: u16) -> Target {
        Target { protocol: Protocol::Tcp, address: address.into(), port, source: None }
    }

    async fn listener(address: IpAddr) -> (TcpListener, u16) {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn a_server_that_listens_is_connected() {
        for (address, name) in
            [(IpAddr::V4(Ipv4Addr::LOCALHOST), "localhost"), (Ipv6Addr::LOCALHOST.into(), "::1")]
        {
            let (_listener, port) = listener(address).await;
            tcp(&target(name, port), None, (LIMIT, SocketKind::default())).await.unwrap();
        }
    }

    #[tokio::test]
    async fn failures_say_what_they_are() {
        let port = listener(Ipv4Addr::LOCALHOST.into()).await.1;
        let refused = tcp(&target("127.0.0.1", port), None, (LIMIT, SocketKind::default()))
            .await
            .unwrap_err();
        assert_eq!(refused.cause(), FailureCause::ConnectionRefused);
        assert!(refused.to_string().contains(&port.to_string()), "{refused}");

        let unknown =
            tcp(&target("no-such-host.invalid", 80), None, (LIMIT, SocketKind::default()))
                .await
                .unwrap_err();
        assert_eq!(unknown.cause(), FailureCause::HostUnreachable);

        // A socket that listens and whose queue is full answers nobody.
        let (full, port) = {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
            socket.listen(0).unwrap();
            let port = socket.local_addr().unwrap().as_socket().unwrap().port();
            (socket, port)
        };
        let mut queued = Vec::new();
        let late = loop {
            let limit = (Duration::from_millis(200), SocketKind::default());
            match tcp(&target("127.0.0.1", port), None, limit).await {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(late.cause(), FailureCause::ConnectTimeout);
        drop(full);
    }

    #[tokio::test]
    async fn a_proxy_connects_or_says_why_not() {
        let (proxy, port) = listener(Ipv4Addr::LOCALHOST.into()).await;
        let proxy_address = format!("127.0.0.1:{port}");
        let serving = tokio::spawn(async move {
            for answer in ["HTTP/1.1 200 OK\r\n\r\nfrom the server", "HTTP/1.1 403 No\r\n\r\n"] {
                let (mut stream, _) = proxy.accept().await.unwrap();
                let mut request = vec![0; 200];
                let length = stream.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"CONNECT db.corp:5432 HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let server = target("db.corp", 5432);

        let mut stream =
            tcp(&server, Some(&proxy_address), (LIMIT, SocketKind::default())).await.unwrap();
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).await.unwrap();
        assert_eq!(greeting, "from the server");
        let refused =
            tcp(&server, Some(&proxy_address), (LIMIT, SocketKind::default())).await.unwrap_err();
        assert_eq!(refused.cause(), FailureCause::HostUnreachable);
        assert!(refused.to_string().contains("403"), "{refused}");
        serving.await.unwrap();
    }
}
