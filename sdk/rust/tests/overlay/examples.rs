//! The examples as processes of their own.

use std::{
    collections::HashSet,
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nightgate_sdk::enroll;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::support::{Overlay, free_address};

/// What must happen happens within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// State of a listening TCP socket and of an unconnected UDP socket in `/proc/net` (kernel
/// `include/net/tcp_states.h`).
const LISTENING: [(&str, &str); 4] = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];

/// An overlay with a service, and the identity files of a host and a client of it.
struct Pair {
    overlay: Overlay,
    folder: tempfile::TempDir,
}

impl Pair {
    async fn new(service: &str) -> Self {
        let overlay = Overlay::start().await;
        let folder = tempfile::tempdir().unwrap();
        overlay.operator.create_service(service, true).await;
        for role in ["host", "dial"] {
            let attribute = format!("{service}-{role}");
            let token = overlay.operator.create_identity(role, &[&attribute]).await;
            let identity = enroll(&token).await.unwrap();
            identity.save(folder.path().join(format!("{role}.json"))).unwrap();
        }
        Self { overlay, folder }
    }

    fn identity(&self, role: &str) -> PathBuf {
        self.folder.path().join(format!("{role}.json"))
    }

    async fn hosted(&self) {
        loop {
            if !self.overlay.router.status().await.terminators.is_empty() {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// An example, which is killed when the child is dropped.
fn example(name: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(
        program.exists(),
        "{} is missing: `cargo build -p nightgate-sdk --examples` makes it",
        program.display()
    );
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// What somebody could connect or send to at this process, as `ss -lntup` would list it.
fn listening(process: u32) -> Vec<String> {
    let process = Path::new("/proc").join(process.to_string());
    let sockets: HashSet<String> = fs::read_dir(process.join("fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|target| {
            let target = target.to_string_lossy();
            Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    assert!(!sockets.is_empty(), "it is connected to the overlay");
    let mut found = Vec::new();
    for (protocol, state) in LISTENING {
        let table = fs::read_to_string(process.join("net").join(protocol)).unwrap();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == state && sockets.contains(fields[9]) {
                found.push(format!("{protocol} {}", fields[1]));
            }
        }
    }
    found
}

async fn read_all(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_served_by_a_process_that_listens_on_nothing() {
    let pair = Pair::new("web").await;
    let server = example("axum_hidden").arg(pair.identity("host")).arg("web").spawn().unwrap();
    timeout(PATIENCE, pair.hosted()).await.unwrap();

    let client = example("web_client").arg(pair.identity("dial")).arg("http://web/").spawn();
    let page = timeout(PATIENCE, read_all(client.unwrap())).await.unwrap();

    assert_eq!(page, "Hello dial, this server has no listening port.\n");
    assert_eq!(listening(server.id().unwrap()), [""; 0]);
    // The other way round: the check does find what listens.
    let _socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = listening(std::process::id());
    assert!(own.iter().any(|line| line.starts_with("tcp")), "{own:?}");
    assert!(own.iter().any(|line| line.starts_with("udp")), "{own:?}");
    drop(server);
    pair.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn netcat_carries_standard_input_and_output() {
    let pair = Pair::new("pipe").await;
    let mut host = example("netcat");
    let mut host = host.arg("--listen").arg(pair.identity("host")).arg("pipe").spawn().unwrap();
    timeout(PATIENCE, pair.hosted()).await.unwrap();
    let mut client = example("netcat").arg(pair.identity("dial")).arg("pipe").spawn().unwrap();

    client.stdin.take().unwrap().write_all(b"question").await.unwrap();
    host.stdin.take().unwrap().write_all(b"answer").await.unwrap();

    let heard = async { tokio::join!(read_all(host), read_all(client)) };
    let heard = timeout(PATIENCE, heard).await.unwrap();
    assert_eq!(heard, ("question".to_owned(), "answer".to_owned()));
    pair.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_proxy_carries_a_connection_with_both_its_ends() {
    let pair = Pair::new("tcp").await;
    let server = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let (_host, _client, local) = proxies("tcp_proxy", &pair, "tcp", server.local_addr().unwrap());
    timeout(PATIENCE, pair.hosted()).await.unwrap();
    let connection = async {
        loop {
            match TcpStream::connect(local).await {
                Ok(connection) => return connection,
                Err(_not_yet) => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let mut connection = timeout(PATIENCE, connection).await.unwrap();

    connection.write_all(b"question").await.unwrap();
    connection.shutdown().await.unwrap();
    let (mut accepted, _) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
    let mut question = String::new();
    accepted.read_to_string(&mut question).await.unwrap();
    accepted.write_all(b"answer after the question's end").await.unwrap();
    drop(accepted);
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();

    assert_eq!((&*question, &*answer), ("question", "answer after the question's end"));
    pair.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_proxy_keeps_datagrams_apart() {
    let pair = Pair::new("udp").await;
    let server = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (_host, _client, local) = proxies("udp_proxy", &pair, "udp", server.local_addr().unwrap());
    timeout(PATIENCE, pair.hosted()).await.unwrap();
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut buffer = vec![0; 65_536];
    // The proxy may not be there yet, and datagrams are lost then.
    let first = async {
        loop {
            drop(socket.send_to(b"first", local).await);
            let heard = timeout(Duration::from_millis(200), server.recv_from(&mut buffer)).await;
            if let Ok(Ok((5, proxy))) = heard {
                return proxy;
            }
        }
    };
    let proxy = timeout(PATIENCE, first).await.unwrap();

    for length in [1, 1200, 40_000, 65_507] {
        server.send_to(&vec![7; length], proxy).await.unwrap();
        let received = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(received, length);
        socket.send_to(&vec![8; length], local).await.unwrap();
        let received = async {
            loop {
                // More than one of the first may have been on its way.
                let received = server.recv(&mut buffer).await.unwrap();
                if &buffer[..received] != b"first" {
                    return received;
                }
            }
        };
        assert_eq!(timeout(PATIENCE, received).await.unwrap(), length);
    }
    pair.overlay.stop().await;
}

/// The two ends of a proxy, and where the client's end can be reached.
fn proxies(
    program: &str,
    pair: &Pair,
    service: &str,
    server: SocketAddr,
) -> (Child, Child, SocketAddr) {
    let local = free_address(Ipv4Addr::LOCALHOST.into());
    let ends = [("host", server), ("dial", local)].map(|(role, address)| {
        let mut command = example(program);
        command.arg(pair.identity(role)).args([role, service, &address.to_string()]);
        command.spawn().unwrap()
    });
    let [host, client] = ends;
    (host, client, local)
}
