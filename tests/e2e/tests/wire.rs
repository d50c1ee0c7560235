//! The laboratory's wire does to frames what it is told, and nothing else.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use nightgate_lab::{Impairment, Namespace, Way, Wire};

const LEFT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Nothing that is on its way takes longer.
const QUIET: Duration = Duration::from_millis(500);

/// Two namespaces, a wire, and a socket at each end.
struct Bench {
    left: Namespace,
    right: Namespace,
    wire: Wire,
    sender: UdpSocket,
    receiver: UdpSocket,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let (left, right) = (Namespace::new("left").unwrap(), Namespace::new("right").unwrap());
        let wire = Wire::new((&left, "eth0"), (&right, "eth0"), seed).unwrap();
        left.add_address("eth0", &format!("{LEFT}/24")).unwrap();
        right.add_address("eth0", &format!("{RIGHT}/24")).unwrap();
        let socket = |namespace: &Namespace, own, other| {
            let socket = namespace.enter(|| UdpSocket::bind((own, 9_000)).unwrap()).unwrap();
            socket.connect((other, 9_000)).unwrap();
            socket.set_read_timeout(Some(QUIET)).unwrap();
            socket
        };
        let (sender, receiver) = (socket(&left, LEFT, RIGHT), socket(&right, RIGHT, LEFT));
        let bench = Self { left, right, wire, sender, receiver };
        // Both ends know each other's hardware address from here on.
        assert_eq!(bench.send(1), [0]);
        bench
    }

    /// Sends datagrams with the numbers from 0, a few at a time; gives those that arrive, as they do.
    fn send(&self, count: u32) -> Vec<u32> {
        let receive = || {
            let mut arrived = Vec::new();
            let mut number = [0; 4];
            while self.receiver.recv(&mut number).is_ok() {
                arrived.push(u32::from_be_bytes(number));
            }
            arrived
        };
        std::thread::scope(|scope| {
            let receiver = scope.spawn(receive);
            for number in 0..count {
                self.sender.send(&number.to_be_bytes()).unwrap();
                if number % 20 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            receiver.join().unwrap()
        })
    }

    /// Sends so many bytes over TCP; gives how long it took until the receiver had them.
    fn transfer(&self, length: usize) -> Duration {
        let address = SocketAddr::from((RIGHT, 9_001));
        let listener = self.right.enter(|| TcpListener::bind(address).unwrap()).unwrap();
        let mut sender = self.left.enter(|| TcpStream::connect(address).unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let chunk = vec![0; 64 * 1_024];
                for begin in (0..length).step_by(chunk.len()) {
                    sender.write_all(&chunk[..chunk.len().min(length - begin)]).unwrap();
                }
            });
            let (mut received, mut buffer) = (0, vec![0; 64 * 1_024]);
            while received < length {
                received += receiver.read(&mut buffer).unwrap();
            }
        });
        started.elapsed()
    }
}

#[test]
fn without_impairment_everything_arrives_in_order() {
    let bench = Bench::new(1);
    assert_eq!(bench.send(2_000), (0..2_000).collect::<Vec<_>>());
    assert_eq!(bench.wire.carried(Way::LeftToRight).lost, 0);
}

#[test]
fn a_delay_holds_in_both_directions() {
    let bench = Bench::new(1);
    bench.wire.impair(Way::LeftToRight, Impairment::delay(30));
    bench.wire.impair(Way::RightToLeft, Impairment::delay(20));
    let started = Instant::now();
    bench.sender.send(b"there").unwrap();
    bench.receiver.recv(&mut [0; 8]).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(30));
    bench.receiver.send(b"back").unwrap();
    bench.sender.recv(&mut [0; 8]).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[test]
fn frames_are_lost_and_overtaken_as_told() {
    let bench = Bench::new(1);
    let loss = Impairment { loss: 0.1, ..Impairment::default() };
    bench.wire.impair(Way::LeftToRight, loss);
    let arrived = bench.send(2_000);
    assert!((1_700..1_900).contains(&arrived.len()), "{} of 2,000", arrived.len());
    assert!(arrived.is_sorted());

    let late = Duration::from_millis(5);
    let reorder = Impairment { reorder: 0.1, late, ..Impairment::default() };
    bench.wire.impair(Way::LeftToRight, reorder);
    let mut arrived = bench.send(2_000);
    assert!(!arrived.is_sorted(), "nothing was overtaken");
    arrived.sort_unstable();
    assert_eq!(arrived, (0..2_000).collect::<Vec<_>>());
}

#[test]
fn a_cut_direction_carries_nothing_until_it_is_healed() {
    let bench = Bench::new(1);
    bench.wire.cut(Way::LeftToRight);
    assert_eq!(bench.send(10), Vec::<u32>::new());
    bench.receiver.send(b"back").unwrap();
    bench.sender.recv(&mut [0; 8]).unwrap();
    bench.wire.heal();
    assert_eq!(bench.send(10), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_rate_bounds_a_transfer() {
    let bench = Bench::new(1);
    bench.wire.impair_both(Impairment { rate: Some(20_000_000), ..Impairment::default() });
    // 2.5 MB take a second at 20 Mbit/s.
    assert!(bench.transfer(2_500_000) >= Duration::from_millis(900));
}

/// A figure for people: `cargo test -p nightgate-e2e-tests --test wire -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn how_much_a_wire_of_25_milliseconds_carries() {
    let bench = Bench::new(1);
    for namespace in [&bench.left, &bench.right] {
        for buffer in ["rmem", "wmem"] {
            namespace.set(&format!("net/ipv4/tcp_{buffer}"), "4096 1048576 67108864").unwrap();
        }
    }
    bench.wire.impair_both(Impairment::delay(25));
    let bytes = 1 << 30;
    let seconds = bench.transfer(bytes).as_secs_f64();
    let carried = [Way::LeftToRight, Way::RightToLeft].map(|way| bench.wire.carried(way));
    println!("{:.2} Gbit/s, {carried:?}", bytes as f64 * 8e-9 / seconds);
}
