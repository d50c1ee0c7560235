//! What copies for sensors cost: program time of one packet, a forwarded connection with and without, and how long datagrams
//! take whatever the sensor does.

mod latency;

use std::{
    io::Write as _,
    net::{Shutdown, TcpListener, TcpStream},
    panic::resume_unwind,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nightgate_abi::{
    Address,
    mirror::{Encapsulation, MirrorSensor, MirrorSession, MirrorSessionId, Outcome},
};
use nightgate_config::parse;
use nightgate_datapath::{Datapath, Hook, IfIndex, Probe};
use nightgate_lab::{Figure, Namespace, catch_interrupts, interrupted, sweep, veth};
use nightgate_netlink::Netlink;
use nightgate_ruleset::{ZoneName, compile};

use crate::statistics::{median, speed};

/// Runs of a program for one measurement.
const REPEAT: u32 = 50_000;
/// Measurements of each case, in turn: the best of program times counts, the median of throughputs.
const ROUNDS: usize = 5;
/// Frames that are copied, bytes.
const FRAMES: [usize; 3] = [64, 512, 1_514];
/// Nanoseconds for a copy, from the clone to the sensor's interface.
const COPY_TARGET: f64 = 800.0;
/// Nanoseconds for looking at filters that do not match, for the first packet of a flow.
const FILTER_TARGET: f64 = 20.0;
/// Throughput with everything mirrored, in parts of that without.
const THROUGHPUT_TARGET: f64 = 0.75;
/// How long one throughput is measured, after the run-up.
const TIME: Duration = Duration::from_millis(2_000);
const RUN_UP: Duration = Duration::from_millis(300);
/// Bytes of a read or write.
const CHUNK: usize = 128 * 1_024;

/// What is mirrored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Case {
    /// There is no session.
    Off,
    /// The filter of a session matches other flows.
    Other,
    /// Every flow, towards an interface that cuts segments into frames.
    Everything,
    /// Every flow, as it is: what is left of a copy without its encapsulation.
    Plain,
    /// Every flow, towards another interface: the barrier makes the frames.
    Barrier,
    /// Every flow, cloned to the sensor's interface, and nothing else done to the clones.
    Bare,
    /// Every flow, cloned to an interface that takes nothing: what is left of a copy without its way.
    Clone,
}

impl Case {
    const ALL: [Self; LANES] = [
        Self::Off,
        Self::Other,
        Self::Everything,
        Self::Plain,
        Self::Barrier,
        Self::Bare,
        Self::Clone,
    ];
}

const LANES: usize = 7;

/// Measures.
///
/// # Errors
/// The process is not root, the kernel object was not built, a copy does not become what it should, or the user
/// interrupts.
pub fn run() -> Result<Vec<Figure>> {
    catch_interrupts()?;
    sweep()?;
    let mut lanes = Case::ALL.into_iter().map(Lane::new).collect::<Result<Vec<_>>>()?;
    let mut figures = program_times(&mut lanes)?;
    figures.extend(throughput(&lanes)?);
    let [off, _, mirrored, ..] = lanes.as_slice() else { bail!("a lane is missing") };
    figures.extend(latency::run(off, mirrored)?);
    Ok(figures)
}

/// How long datagrams take, alone.
///
/// # Errors
/// As for [`run`].
pub fn latency() -> Result<Vec<Figure>> {
    catch_interrupts()?;
    sweep()?;
    latency::run(&Lane::new(Case::Off)?, &Lane::new(Case::Everything)?)
}

fn program_times(lanes: &mut [Lane]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for length in FRAMES {
        let [off, other, everything, plain, barrier, bare, clone] = best(lanes, &udp(length))?;
        let case = |what: &str| format!("{what}, {length}-byte frame");
        figures.push(figure(case("forwarded, no session"), "program time", off, "ns", None));
        let extra = (other - off).max(0.0);
        figures.push(figure(
            case("a session that does not match"),
            "added",
            extra,
            "ns",
            Some(FILTER_TARGET),
        ));
        let copy = everything - off;
        figures.push(figure(case("copy in VXLAN"), "added", copy, "ns", Some(COPY_TARGET)));
        let copy = plain - off;
        figures.push(figure(case("copy without encapsulation"), "added", copy, "ns", None));
        let copy = barrier - off;
        figures.push(figure(case("the same through the barrier"), "added", copy, "ns", None));
        let copy = bare - off;
        figures.push(figure(case("bare clone to the sensor"), "added", copy, "ns", None));
        let copy = clone - off;
        figures.push(figure(case("bare clone that is dropped at once"), "added", copy, "ns", None));
    }
    let [off, other, ..] = best(lanes, &reset())?;
    let extra = (other - off).max(0.0);
    let case = "first packet, a session that does not match".to_owned();
    figures.push(figure(case, "added", extra, "ns", Some(FILTER_TARGET)));
    Ok(figures)
}

/// The best program time of a frame in each lane.
fn best(lanes: &mut [Lane], frame: &[u8]) -> Result<[f64; LANES]> {
    let mut best = [f64::INFINITY; LANES];
    for _ in 0..ROUNDS {
        for (lane, best) in lanes.iter_mut().zip(&mut best) {
            *best = best.min(lane.program_time(frame)?);
        }
    }
    Ok(best)
}

fn throughput(lanes: &[Lane]) -> Result<Vec<Figure>> {
    let [off, _, everything, _, barrier, bare, _] = lanes else { bail!("a lane is missing") };
    let measured = [off, everything, barrier, bare];
    let mut speeds = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (lane, speeds) in measured.iter().zip(&mut speeds) {
            if interrupted() {
                bail!("interrupted");
            }
            speeds.push(lane.stream()?);
        }
    }
    let lost = everything.lost()?;
    let [without, with, through, cloned] = speeds.map(median);
    let case = || "forwarded TCP connection, two cores".to_owned();
    let ratio = with / without;
    let parts = figure(case(), "mirrored / not", ratio, "", Some(THROUGHPUT_TARGET));
    Ok(vec![
        figure(case(), "no session", without, "Mbit/s", None),
        figure(case(), "everything mirrored", with, "Mbit/s", None),
        Figure { holds: Some(ratio >= THROUGHPUT_TARGET), ..parts },
        figure(case(), "the same through the barrier / not", through / without, "", None),
        figure(case(), "bare clones to the sensor / not", cloned / without, "", None),
        figure(case(), "copies lost", lost, "%", None),
    ])
}

fn figure(case: String, metric: &str, value: f64, unit: &str, target: Option<f64>) -> Figure {
    Figure {
        suite: "mirror".into(),
        case,
        metric: metric.into(),
        value,
        unit: unit.into(),
        peer: None,
        target,
        holds: target.map(|target| value <= target),
    }
}

/// Client, gateway, server and sensor, and what the gateway mirrors.
struct Lane {
    client: Namespace,
    gateway: Namespace,
    server: Namespace,
    sensor: Namespace,
    datapath: Datapath,
    lan: IfIndex,
    case: Case,
}

impl Lane {
    fn new(case: Case) -> Result<Self> {
        let [client, gateway, server, sensor] =
            ["client", "gateway", "server", "sensor"].map(Namespace::new);
        let (client, gateway, server, sensor) = (client?, gateway?, server?, sensor?);
        for (namespace, end) in [(&client, "lan0"), (&server, "wan0"), (&sensor, "mon0")] {
            veth((namespace, "eth0"), (&gateway, end))?;
        }
        for (namespace, interface, address) in [
            (&client, "eth0", "10.1.0.2/24"),
            (&gateway, "lan0", "10.1.0.1/24"),
            (&gateway, "wan0", "10.2.0.1/24"),
            (&server, "eth0", "10.2.0.2/24"),
            (&gateway, "mon0", "10.9.0.1/24"),
        ] {
            namespace.add_address(interface, address)?;
        }
        client.add_route("default", "10.1.0.1")?;
        server.add_route("default", "10.2.0.1")?;
        gateway.set("net/ipv4/ip_forward", "1")?;
        sensor.ip("link set eth0 mtu 1600 address 02:00:00:00:09:02")?;
        gateway.ip("link set mon0 mtu 1600")?;
        // What a sensor does with copies is not the gateway's cost: this one drops them as soon as it can.
        sensor.shell("nft add table netdev sensor")?;
        sensor.shell(
            "nft add chain netdev sensor take { type filter hook ingress device eth0 priority 0 ; policy drop ; }",
        )?;
        if case != Case::Barrier {
            gateway.shell("ethtool -K mon0 tx off tso off gso off")?;
        }
        // One whose other end is down: it drops what is sent to it.
        gateway.ip("link add void0 type veth peer name void1")?;
        gateway.ip("link set void0 up")?;
        gateway.ip("neigh add 10.9.0.2 dev mon0 lladdr 02:00:00:00:09:02 nud permanent")?;
        let (datapath, lan) = gateway.enter(|| install(case))??;
        Ok(Self { client, gateway, server, sensor, datapath, lan, case })
    }

    /// Nanoseconds of one run.
    fn program_time(&mut self, frame: &[u8]) -> Result<f64> {
        let before = self.copies(Outcome::Mirrored)?;
        let probe = Probe {
            hook: Hook::Ingress,
            interface: self.lan,
            received_by: None,
            frame,
            repeat: REPEAT,
        };
        let Self { gateway, datapath, .. } = self;
        let result = gateway.enter(|| datapath.probe(&probe))??;
        let copied = self.copies(Outcome::Mirrored)? - before;
        let expected = match self.case {
            Case::Off | Case::Other | Case::Bare | Case::Clone => 0,
            Case::Everything | Case::Plain | Case::Barrier => REPEAT.into(),
        };
        ensure!(copied == expected, "{copied} copies instead of {expected}");
        Ok(result.duration.as_secs_f64() * 1e9)
    }

    fn copies(&self, outcome: Outcome) -> Result<u64> {
        let statistics = self.datapath.mirror_statistics()?;
        let rows = statistics.sessions.values();
        Ok(rows.filter_map(|row| row.get(&outcome)).map(|counter| counter.packets).sum())
    }

    /// Percent of the copies that were due and did not leave.
    fn lost(&self) -> Result<f64> {
        let [due, sent] = [self.copies(Outcome::Matched)?, self.copies(Outcome::Mirrored)?];
        Ok((due - sent.min(due)) as f64 * 100.0 / due.max(1) as f64)
    }

    /// Megabits of a forwarded connection's data in a second.
    fn stream(&self) -> Result<f64> {
        let listener = self.server.enter(|| TcpListener::bind("10.2.0.2:7000"))??;
        let sender = self.client.enter(|| TcpStream::connect("10.2.0.2:7000"))??;
        let (receiver, _) = listener.accept()?;
        // Connections that end are over at once here: the sender would not hear of it.
        let end = sender.try_clone()?;
        thread::scope(|scope| {
            scope.spawn(|| send(sender));
            let speed = scope.spawn(|| receive(receiver)).join();
            end.shutdown(Shutdown::Both).ok();
            speed
        })
        .unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Loads the programs in the gateway's namespace.
fn install(case: Case) -> Result<(Datapath, IfIndex)> {
    let filter = match case {
        Case::Off => "",
        Case::Other => {
            "mirror:\n  sensors: { ids: { interface: mon0, address: 10.9.0.2 } }\n  sessions:\n    - { id: other, \
             sensor: ids, filter: { from: lan, to: wan, protocol: tcp, destination_ports: [9] } }\n"
        }
        Case::Everything | Case::Plain | Case::Barrier | Case::Bare | Case::Clone => {
            "mirror:\n  sensors: { ids: { interface: mon0, address: 10.9.0.2 } }\n  sessions:\n    - { id: all, \
             sensor: ids, filter: { from: lan, to: wan } }\n"
        }
    };
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [lan0] }}\n  wan: {{ interfaces: \
         [wan0] }}\nrules:\n- {{ id: out, from: lan, to: wan, action: accept }}\n{filter}"
    );
    let config = parse(&text, "bench.yaml").map_err(|errors| anyhow!("{errors:?}"))?;
    let mut gateway = config.gateway.context("a gateway")?;
    // Closed connections are over at once, so that every reset is the first packet of a flow.
    gateway.tracking.timeouts.tcp_closing = Duration::ZERO;
    let rules = compile(&gateway).map_err(|errors| anyhow!("{errors:?}"))?;
    let mut datapath = Datapath::load()?;
    let zone = |name: &str| ZoneName::new(name).context("a zone's name");
    let lan = datapath.attach("lan0", &zone("lan")?)?;
    datapath.attach("wan0", &zone("wan")?)?;
    datapath.commit(&rules.image())?;
    if let Some(device) = bare_device(case) {
        set_session(&mut datapath, case)?;
        datapath.set_mirror_device(Some(IfIndex::of(device)?))?;
    } else if case != Case::Off {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The pair ends with the namespace.
        let (pair, _) =
            runtime.block_on(async { Netlink::connect()?.create_mirror_pair().await })?;
        set_session(&mut datapath, case)?;
        datapath.attach_mirror(&pair.device.name, &pair.peer.name)?;
        datapath.set_mirror_device(IfIndex::new(pair.device.index.value()))?;
    }
    Ok((datapath, lan))
}

/// Where clones go to that no program sees.
fn bare_device(case: Case) -> Option<&'static str> {
    match case {
        Case::Bare => Some("mon0"),
        Case::Clone => Some("void0"),
        Case::Off | Case::Other | Case::Everything | Case::Plain | Case::Barrier => None,
    }
}

fn set_session(datapath: &mut Datapath, case: Case) -> Result<()> {
    let sensor = MirrorSensor {
        address: Address::from_v4([10, 9, 0, 2]),
        source: Address::from_v4([10, 9, 0, 1]),
        ifindex: IfIndex::of("mon0")?.get(),
        udp_port: 4_789,
        encapsulation: match case {
            Case::Plain => Encapsulation::Local.number(),
            Case::Off
            | Case::Other
            | Case::Everything
            | Case::Barrier
            | Case::Bare
            | Case::Clone => Encapsulation::Vxlan.number(),
        },
        cuts: (case != Case::Barrier).into(),
    };
    datapath.mirror().set_sensor(1, sensor)?;
    let mut session = MirrorSession { vni: 42, ..MirrorSession::default() };
    session.sensors[0] = 1;
    datapath.mirror().set_session(MirrorSessionId::new(1).context("a number")?, session)?;
    Ok(())
}

/// Sends until nobody receives.
fn send(mut stream: TcpStream) {
    let chunk = vec![0; CHUNK];
    while stream.write_all(&chunk).is_ok() {}
}

fn receive(stream: TcpStream) -> Result<f64> {
    speed(stream, RUN_UP, TIME)
}

/// A datagram from the client to the server, without checksum.
fn udp(length: usize) -> Vec<u8> {
    let ports = [0x0f, 0xa0, 0x1b, 0x58];
    let payload = length - 14 - 20 - 8;
    let size = u16::try_from(payload + 8).unwrap_or_default().to_be_bytes();
    [&ip(17, payload + 8)[..], &ports, &size, &[0, 0], &vec![7; payload]].concat()
}

/// A reset from the client to the server.
fn reset() -> Vec<u8> {
    const RST: u8 = 0x04;
    let segment =
        [0x0f, 0xa1, 0x1b, 0x58, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, RST, 0xff, 0xff, 0, 0, 0, 0];
    [&ip(6, segment.len())[..], &segment].concat()
}

/// Ethernet and IPv4 headers.
fn ip(protocol: u8, payload: usize) -> [u8; 34] {
    let [high, low] = u16::try_from(20 + payload).unwrap_or_default().to_be_bytes();
    [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0,
        0, 10, 1, 0, 2, 10, 2, 0, 2,
    ]
}
