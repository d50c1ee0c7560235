//! The tunneler's hooks: programs of a cgroup reach the tunneler's sockets, and see the addresses they wanted.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nightgate_abi::tunnel::{DNS_SERVICE, Door, Doors, Origin, OriginKey, flag};
use nightgate_datapath::{Destinations, Tunnel, TunnelHooks, TunnelPlace};
use nightgate_lab::{BpfFileSystem, Namespace, temporary_folder, until};

const TCP: u8 = 6;
const UDP: u8 = 17;
const PATIENCE: Duration = Duration::from_secs(20);
const SERVICE: u32 = 7;

/// Intercepted addresses of both families.
const WANTED: [&str; 2] = ["100.64.0.5:80", "[fd64::5]:80"];

/// A cgroup of its own; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = root.into_iter().find(|fields| fields[2] == "cgroup2").expect("a cgroup v2");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ng-test-{}-{number}", std::process::id());
        let path = Path::new(root[1]).join(name);
        fs::create_dir(&path).expect("a cgroup");
        Self(path)
    }

    /// Starts a Python program in the cgroup and the namespace.
    fn python(&self, namespace: &Namespace, program: &str) -> Child {
        // Inside, there would be another /sys.
        let enter = format!(
            "echo $$ > {}/cgroup.procs && exec ip netns exec {} python3 -c \"$0\"",
            self.0.display(),
            namespace.name()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &enter, program]).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().expect("started")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A tunneler's sockets.
struct Sockets {
    tcp: [TcpListener; 2],
    udp: Vec<[UdpSocket; 2]>,
}

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl Sockets {
    fn open() -> Self {
        let tcp = LOOPBACKS.map(|address| TcpListener::bind((address, 4_001)).expect("bound"));
        let slot = |slot: u16| {
            LOOPBACKS.map(|address| {
                let socket = UdpSocket::bind((address, 4_100 + slot)).expect("bound");
                socket.set_read_timeout(Some(PATIENCE)).expect("set");
                socket
            })
        };
        Self { tcp, udp: (0..16).map(slot).collect() }
    }

    fn place(cgroup: &Cgroup, flags: u32) -> TunnelPlace {
        TunnelPlace {
            hooks: TunnelHooks::Cgroups(vec![cgroup.0.clone()]),
            tcp_port: 4_001,
            udp_ports: std::array::from_fn(|slot| 4_100 + u16::try_from(slot).expect("a few")),
            flags,
            pins: None,
        }
    }
}

fn doors(services: &[(u8, u16, u16, u32)]) -> Doors {
    let mut doors = Doors::default();
    for (door, (protocol, low, high, service)) in doors.doors.iter_mut().zip(services) {
        *door =
            Door { service: *service, low: *low, high: *high, protocol: *protocol, pad: [0; 3] };
        doors.count += 1;
    }
    doors
}

/// Both families, TCP and UDP, port 80.
fn destinations() -> Destinations {
    let both = doors(&[(TCP, 80, 90, SERVICE), (UDP, 80, 90, SERVICE)]);
    [(("100.64.0.0", 10), both), (("fd64::", 64), both)]
        .map(|((address, length), doors)| ((address.parse().expect("an address"), length), doors))
        .into()
}

fn start(cgroup: &Cgroup, flags: u32) -> (Tunnel, Sockets) {
    let sockets = Sockets::open();
    let mut tunnel = Tunnel::start(&Sockets::place(cgroup, flags)).expect("started");
    tunnel.set_destinations(destinations()).expect("set");
    tunnel.live(PATIENCE).expect("alive");
    (tunnel, sockets)
}

/// Accepts, or fails where nobody comes.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(true).expect("set");
    let accepted = until("a connection", PATIENCE, || Ok(listener.accept().ok())).expect("one");
    accepted.0.set_nonblocking(false).expect("set");
    accepted
}

fn output(child: Child) -> String {
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn connections_reach_the_tunneler_and_look_as_if_they_had_not() {
    let (namespace, cgroup) = (Namespace::new("host").expect("a namespace"), Cgroup::new());
    namespace
        .enter(|| {
            let (tunnel, sockets) = start(&cgroup, 0);
            for (wanted, listener) in WANTED.iter().zip(&sockets.tcp) {
                let wanted: SocketAddr = wanted.parse().expect("an address");
                let (address, port) = (wanted.ip(), wanted.port());
                let program = format!(
                    "import socket\n\
                     s = socket.create_connection(('{address}', {port}))\n\
                     s.sendall(b'hello'); s.shutdown(1)\n\
                     print(s.getpeername()[:2], s.recv(99))"
                );
                let child = cgroup.python(&namespace, &program);
                let (mut stream, source) = accept(listener);
                let (_, origin) = origin(&tunnel, source, TCP, 0).expect("an origin");
                assert_eq!((origin.destination.to_ip(), origin.port), (address, port));
                assert_eq!((origin.service, origin.process), (SERVICE, child.id()));
                assert_eq!((origin.user, origin.group, origin.protocol), (0, 0, TCP));
                assert!(origin.command.starts_with(b"python3"), "{:?}", origin.command);
                let number =
                    fs::metadata(&cgroup.0).map(|it| std::os::unix::fs::MetadataExt::ino(&it));
                assert_eq!(origin.cgroup, number.expect("a number"));
                let mut received = String::new();
                stream.read_to_string(&mut received).expect("received");
                assert_eq!(received, "hello");
                stream.write_all(b"world").expect("sent");
                drop(stream);
                assert_eq!(output(child), format!("('{address}', {port}) b'world'"));
            }
        })
        .expect("entered");
}

#[test]
fn an_ipv6_socket_reaches_an_ipv4_service() {
    let (namespace, cgroup) = (Namespace::new("host").expect("a namespace"), Cgroup::new());
    namespace
        .enter(|| {
            let (tunnel, sockets) = start(&cgroup, 0);
            let program = "import socket\n\
                 s = socket.socket(socket.AF_INET6)\n\
                 s.connect(('::ffff:100.64.0.5', 80))\n\
                 print(s.getpeername()[:2])";
            let child = cgroup.python(&namespace, program);
            let (_stream, source) = accept(&sockets.tcp[0]);
            let (_, origin) = origin(&tunnel, source, TCP, 0).expect("an origin");
            assert_eq!(origin.destination.to_ip(), "100.64.0.5".parse::<IpAddr>().expect("one"));
            assert_eq!(output(child), "('::ffff:100.64.0.5', 80)");
        })
        .expect("entered");
}

#[test]
fn nobody_reaches_the_tunneler_directly_and_other_destinations_are_left_alone() {
    let (namespace, cgroup) = (Namespace::new("host").expect("a namespace"), Cgroup::new());
    namespace
        .enter(|| {
            let (_tunnel, sockets) = start(&cgroup, 0);
            let other = TcpListener::bind("127.0.0.1:80").expect("bound");
            for socket in &sockets.tcp {
                let direct = socket.local_addr().expect("bound");
                let short = Duration::from_millis(500);
                TcpStream::connect_timeout(&direct, short).expect_err("kept out");
            }
            let sender = UdpSocket::bind("127.0.0.1:0").expect("bound");
            drop(sender.send_to(b"forged", "127.0.0.1:4100"));
            sockets.udp[0][0].set_nonblocking(true).expect("set");
            sockets.udp[0][0].recv_from(&mut [0; 9]).expect_err("nothing came");

            let program = "import socket\ns = socket.create_connection(('127.0.0.1', 80))\n\
                           print(s.getpeername())";
            let child = cgroup.python(&namespace, program);
            drop(accept(&other));
            assert_eq!(output(child), "('127.0.0.1', 80)");
        })
        .expect("entered");
}

#[test]
fn datagrams_of_one_socket_reach_their_own_destinations() {
    let (namespace, cgroup) = (Namespace::new("host").expect("a namespace"), Cgroup::new());
    namespace
        .enter(|| {
            let (tunnel, sockets) = start(&cgroup, 0);
            for (index, network) in ["100.64.0.", "fd64::"].iter().enumerate() {
                let family = ["AF_INET", "AF_INET6"][index];
                let program = format!(
                    "import socket\n\
                     s = socket.socket(socket.{family}, socket.SOCK_DGRAM)\n\
                     s.settimeout(20)\n\
                     for n in (1, 2, 1): s.sendto(b'to %d' % n, ('{network}%d' % n, 80))\n\
                     for n in range(3): print(s.recvfrom(99)[1][0], end=' ')\n\
                     c = socket.socket(socket.{family}, socket.SOCK_DGRAM)\n\
                     c.settimeout(20)\n\
                     c.connect(('{network}3', 80)); c.send(b'connected')\n\
                     print(c.recv(99).decode(), c.getpeername()[0])"
                );
                let child = cgroup.python(&namespace, &program);
                for (slot, count) in [(0, 2), (1, 1)] {
                    for _ in 0..count {
                        let socket = &sockets.udp[slot][index];
                        let (text, source, origin) = receive(&tunnel, socket, slot);
                        let wanted = format!("{network}{}", slot + 1);
                        assert_eq!(origin.destination.to_ip().to_string(), wanted);
                        assert_eq!((text, origin.connected), (format!("to {}", slot + 1), 0));
                        socket.send_to(b"answer", source).expect("sent");
                    }
                }
                let socket = &sockets.udp[0][index];
                let (text, source, origin) = receive(&tunnel, socket, 0);
                assert_eq!(origin.destination.to_ip().to_string(), format!("{network}3"));
                assert_eq!((text.as_str(), origin.connected), ("connected", 1));
                socket.send_to(b"reply", source).expect("sent");
                let said = output(child);
                let mut words: Vec<_> = said.split(' ').collect();
                words[..3].sort_unstable();
                let [one, two, three] = [1, 2, 3].map(|n| format!("{network}{n}"));
                assert_eq!(words, [&one, &one, &two, "reply", &three]);
            }
        })
        .expect("entered");
}

#[test]
fn dns_queries_are_turned_to_the_tunneler_where_it_is_wanted() {
    let (namespace, cgroup) = (Namespace::new("host").expect("a namespace"), Cgroup::new());
    namespace
        .enter(|| {
            let (tunnel, sockets) = start(&cgroup, flag::DNS);
            let program = "import socket\n\
                 s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                 s.sendto(b'query', ('192.0.2.53', 53))";
            let child = cgroup.python(&namespace, program);
            let (text, _, origin) = receive(&tunnel, &sockets.udp[0][0], 0);
            assert_eq!((text.as_str(), origin.service, origin.port), ("query", DNS_SERVICE, 53));
            output(child);
        })
        .expect("entered");
}

#[test]
fn without_the_tunneler_connections_go_as_if_it_had_never_been_or_not_at_all() {
    let (namespace, cgroup) = (Namespace::new("host").expect("a namespace"), Cgroup::new());
    let folder = temporary_folder().expect("a folder");
    namespace
        .enter(|| {
            // What is not intercepted ends here.
            namespace.ip("address add 100.64.0.5/32 dev lo").expect("added");
            let real = TcpListener::bind("100.64.0.5:80").expect("bound");
            let program = "import socket\n\
                 try: print(socket.create_connection(('100.64.0.5', 80)).getpeername())\n\
                 except OSError as error: print(error.errno)";
            let try_it = || output(cgroup.python(&namespace, program));

            let (tunnel, sockets) = start(&cgroup, 0);
            drop((tunnel, sockets));
            assert_eq!(try_it(), "('100.64.0.5', 80)");

            let (mut tunnel, sockets) = start(&cgroup, 0);
            tunnel.live(Duration::ZERO).expect("dead");
            assert_eq!(try_it(), "('100.64.0.5', 80)");
            drop((tunnel, sockets));

            let bpf = BpfFileSystem::mount(folder.path()).expect("mounted");
            let mut place = Sockets::place(&cgroup, flag::FAIL_CLOSED);
            place.pins = Some(bpf.path().join("nightgate/tunnel"));
            let mut tunnel = Tunnel::start(&place).expect("started");
            tunnel.set_destinations(destinations()).expect("set");
            tunnel.live(Duration::ZERO).expect("dead");
            assert_eq!(try_it(), "1", "EPERM");
            drop(tunnel);
            assert_eq!(try_it(), "('100.64.0.5', 80)");
            drop(real);
        })
        .expect("entered");
}

fn origin(
    tunnel: &Tunnel,
    source: SocketAddr,
    protocol: u8,
    slot: u32,
) -> Option<(OriginKey, Origin)> {
    tunnel.origin(source, protocol, slot).expect("read")
}

fn receive(tunnel: &Tunnel, socket: &UdpSocket, slot: usize) -> (String, SocketAddr, Origin) {
    let mut buffer = [0; 99];
    let (length, source) = socket.recv_from(&mut buffer).expect("received");
    let (_, origin) =
        origin(tunnel, source, UDP, u32::try_from(slot).expect("a few")).expect("an origin");
    (String::from_utf8_lossy(&buffer[..length]).into_owned(), source, origin)
}
