//! Two hundred reloads under traffic: two sets of 10,000 rules in turn, packets forwarded meanwhile.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nightgate_abi::{Reason, reason::Kind};
use nightgate_config::parse as parse_config;
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use nightgate_lab::{
    Namespace,
    classbench::{Family, Header, Numbers, Rule, header, rules, yaml},
};
use nightgate_packet::{Packet, parse};
use nightgate_ruleset::{RuleSet, Verdict, ZoneName, classify, compile};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tcp_flags::SYN;

const RELOADS: usize = 200;
const RULES: usize = 10_000;
/// Packets of each fate.
const PACKETS: usize = 48;
/// How long a packet or an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the connection goes that both sets accept.
const SERVER: &str = "10.2.0.254:7000";
/// Packets that are sent at once.
const BURST: usize = 32;
/// Stands before the number of a packet.
const MARK: [u8; 4] = *b"ngrl";

/// What the sets say about a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Both,
    First,
    Second,
    Neither,
}

/// The two sets number `lan` and `wan` differently and hold different rules, so that a packet that is judged by
/// the interfaces of one and the rules of the other, or by rules of both, becomes something that one of them, or
/// neither, says: what both accept is lost, or what neither accepts arrives.
#[test]
fn two_hundred_reloads_judge_no_packet_by_a_mix() {
    let sets = [1, 2].map(RuleSetUnderTest::new);
    let packets = choose(&sets);
    with_world(" []", |world| {
        let images = sets.each_ref().map(|set| set.compiled.image());
        let (lan, wan) = lay_out(world);
        world.datapath.commit(&images[0]).expect("commit");
        let before = world.datapath.statistics().expect("statistics");

        let [is_over, is_unheard] = [false; 2].map(AtomicBool::new);
        let arrivals: Vec<AtomicU64> = packets.iter().map(|_| AtomicU64::new(0)).collect();
        let capture = wan.enter(capture).expect("entered");
        let server = wan.enter(|| TcpListener::bind(SERVER).expect("bound")).expect("entered");
        thread::scope(|scope| {
            // The capture outlives the bursts: what the last one sends still has to be seen.
            let (over, unheard) = (Over(&is_over), Over(&is_unheard));
            scope.spawn(|| receive(&capture, &arrivals, &is_unheard));
            scope.spawn(|| echo(&server));
            let send = || send_bursts(&packets, &arrivals, &is_over);
            let entered = &lan;
            let bursts = scope.spawn(move || entered.enter(send).expect("entered"));
            let talk = scope.spawn(|| lan.enter(|| talk(&is_over)).expect("entered"));
            for image in images.iter().cycle().skip(1).take(RELOADS) {
                world.datapath.commit(image).expect("commit");
                assert!(!bursts.is_finished() && !talk.is_finished(), "the traffic has ended");
            }
            drop(over);
            let (bursts, answers) = (bursts.join().expect("sent"), talk.join().expect("talked"));
            drop(unheard);
            assert!(bursts > RELOADS && answers > RELOADS, "{bursts} bursts, {answers} answers");
        });

        let after = world.datapath.statistics().expect("statistics");
        for reason in Reason::ALL.iter().filter(|reason| reason.kind() == Kind::Drop) {
            let count = after.get(*reason).packets - before.get(*reason).packets;
            let is_a_sets_word = matches!(reason, Reason::Rule | Reason::NoRule);
            assert!(is_a_sets_word || count == 0, "{count} packets refused: {reason}");
        }
        for ((packet, fate), arrived) in packets.iter().zip(&arrivals) {
            let arrived = arrived.load(Ordering::Relaxed);
            assert!(*fate != Fate::Neither || arrived == 0, "neither set accepts {packet:?}");
        }
        for meant in [Fate::Both, Fate::First, Fate::Second] {
            let with_fate = packets.iter().zip(&arrivals).filter(|((_, fate), _)| *fate == meant);
            let arrived: u64 = with_fate.map(|(_, arrived)| arrived.load(Ordering::Relaxed)).sum();
            assert!(arrived > 0, "no packet of {meant:?} arrived");
        }
    });
}

/// Ends the traffic, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct RuleSetUnderTest {
    generated: Vec<Rule>,
    compiled: RuleSet,
}

impl RuleSetUnderTest {
    /// Generated rules, and one for the connection, which is last in one set and first in the other.
    fn new(seed: u64) -> Self {
        let generated = rules(Family::AccessList, RULES - 2, seed);
        let text = yaml(&generated, &format!("set{seed}-"));
        let live = "- { id: live, from: lan, to: wan, destination: 10.2.0.254, action: accept }\n\
                    - { id: noise, from: [lan, wan, local], to: [lan, wan, local], protocol: icmpv6, action: accept }\n";
        let (zones, text) = if seed == 1 {
            ("", format!("{live}{text}"))
        } else {
            ("  first: { interfaces: [none0] }\n", format!("{text}{live}"))
        };
        Self { generated, compiled: rule_set(zones, &text) }
    }

    fn accepts(&self, header: &Header) -> bool {
        let frame = ip_packet(header, 0);
        let Ok(Packet::Ip(meta)) = parse(&frame.as_slice()) else {
            panic!("a well-formed packet: {header:?}")
        };
        let [from, to] = ["lan", "wan"]
            .map(|name| self.compiled.zones()[&ZoneName::new(name).expect("a zone's name")]);
        matches!(classify(&self.compiled, from, to, &meta), Verdict::Accept(_))
    }
}

/// Packets from the LAN of each fate, in turn.
fn choose(sets: &[RuleSetUnderTest; 2]) -> Vec<(Header, Fate)> {
    let mut numbers = Numbers(7);
    let mut chosen = Vec::new();
    let mut counts = [0; 4];
    while counts.iter().any(|count| *count < PACKETS) {
        let header = header(&sets[numbers.below(2)].generated, &mut numbers);
        if header.from != "lan" {
            continue;
        }
        let fate = match sets.each_ref().map(|set| set.accepts(&header)) {
            [true, true] => Fate::Both,
            [true, false] => Fate::First,
            [false, true] => Fate::Second,
            [false, false] => Fate::Neither,
        };
        let is_known = chosen.iter().any(|(known, _)| *known == header);
        if !is_known && counts[fate as usize] < PACKETS {
            counts[fate as usize] += 1;
            chosen.push((header, fate));
        }
    }
    chosen
}

/// Moves the far ends into namespaces of their own, which use the gateway as their way out.
fn lay_out(world: &World<'_>) -> (Namespace, Namespace) {
    world.namespace.set("net/ipv4/conf/all/rp_filter", "0").expect("set");
    world.namespace.set(&format!("net/ipv4/conf/{LAN}/rp_filter"), "0").expect("set");
    let ends = [(LAN, 1, "9", "9"), (WAN, 2, "254", "fe")];
    let [lan, wan] = ends.map(|(interface, network, v4, v6)| {
        let namespace = Namespace::new(interface).expect("a namespace");
        let far = format!("{interface}-far");
        world.namespace.ip(&format!("link set {far} netns {}", namespace.name())).expect("moved");
        namespace.ip(&format!("link set {far} up")).expect("up");
        namespace.add_address(&far, &format!("10.{network}.0.{v4}/24")).expect("an address");
        namespace.add_address(&far, &format!("2001:db8:{network}::{v6}/64")).expect("an address");
        namespace.add_route("default", &format!("10.{network}.0.1")).expect("a route");
        namespace.add_route("default", &format!("2001:db8:{network}::1")).expect("a route");
        namespace
    });
    (lan, wan)
}

/// Sees every frame that comes to the namespace.
fn capture() -> Socket {
    // ETH_P_ALL of linux/if_ether.h, in network order.
    let everything = Protocol::from(i32::from(3_u16.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(everything)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    socket
}

/// Counts the packets that arrive by their number.
fn receive(mut capture: &Socket, arrivals: &[AtomicU64], is_over: &AtomicBool) {
    let mut frame = [0; 2048];
    while !is_over.load(Ordering::Relaxed) {
        let length = match capture.read(&mut frame) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => panic!("read frames: {error}"),
        };
        let Some((rest, number)) = frame[..length].split_last_chunk() else { continue };
        if rest.ends_with(&MARK) {
            arrivals[u32::from_be_bytes(*number) as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends the packets in bursts, and waits for those that both sets accept; returns how many bursts.
fn send_bursts(packets: &[(Header, Fate)], arrivals: &[AtomicU64], is_over: &AtomicBool) -> usize {
    // IPPROTO_RAW: what is sent has its header.
    let raw = [Domain::IPV4, Domain::IPV6]
        .map(|domain| Socket::new(domain, Type::RAW, Some(Protocol::from(255))).expect("a socket"));
    let mut sent = vec![0_u64; packets.len()];
    let mut bursts = 0;
    loop {
        for (burst, numbers) in packets.chunks(BURST).zip((0..packets.len()).step_by(BURST)) {
            for ((header, _), number) in burst.iter().zip(numbers..) {
                let socket = &raw[usize::from(header.destination.is_ipv6())];
                let packet = ip_packet(header, u32::try_from(number).expect("few"))[14..].to_vec();
                let to = SocketAddr::new(header.destination, 0);
                socket.send_to(&packet, &to.into()).expect("sent");
                sent[number] += 1;
            }
            let deadline = Instant::now() + PATIENCE;
            for ((header, fate), number) in burst.iter().zip(numbers..) {
                let arrived = &arrivals[number];
                while *fate == Fate::Both && arrived.load(Ordering::Relaxed) < sent[number] {
                    assert!(Instant::now() < deadline, "lost, though both accept it: {header:?}");
                    thread::sleep(Duration::from_micros(50));
                }
            }
            bursts += 1;
            if is_over.load(Ordering::Relaxed) {
                return bursts;
            }
        }
    }
}

/// Answers each byte of one connection, if one comes.
fn echo(server: &TcpListener) {
    SockRef::from(server).set_read_timeout(Some(PATIENCE)).expect("set");
    let Ok((mut stream, _)) = server.accept() else { return };
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|length| length == 1) {
        stream.write_all(&byte).expect("written");
    }
}

/// Talks over a connection that both sets accept; returns how many answers came.
fn talk(is_over: &AtomicBool) -> usize {
    let server = SERVER.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut answers = 0;
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(b"?").expect("written");
        stream.read_exact(&mut [0]).expect("an answer");
        answers += 1;
        thread::sleep(Duration::from_millis(1));
    }
    answers
}

/// The zones of the world and some more, and rules.
fn rule_set(more_zones: &str, rules: &str) -> RuleSet {
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n{more_zones}  lan: {{ interfaces: [{LAN}] }}\n  \
         wan: {{ interfaces: [{WAN}] }}\nrules:\n{rules}"
    );
    let config = parse_config(&text, "rules.yaml").expect("good rules");
    compile(&config.gateway.expect("a gateway")).expect("within the limits")
}

/// The packet in its Ethernet frame, with its number at the end.
fn ip_packet(header: &Header, number: u32) -> Vec<u8> {
    let mark = [MARK, number.to_be_bytes()].concat();
    let [[s0, s1], [d0, d1]] = header.ports.map(u16::to_be_bytes);
    let transport = match header.protocol {
        6 => vec![s0, s1, d0, d1, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0],
        17 => vec![s0, s1, d0, d1, 0, 16, 0, 0],
        _ => vec![0; 4],
    };
    ip(header.source, header.destination, header.protocol, &[transport, mark].concat())
}
