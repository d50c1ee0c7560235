//! What it costs to hand a packet of a known flow to the gateway's process instead of forwarding it.
//!
//! The kernel gives no socket to packets of `BPF_PROG_TEST_RUN`, so real ones pass, and the kernel counts what the program takes
//! (`BPF_ENABLE_STATS`, Linux 5.8), which is some 20 ns more in each run. Each round's packets come from one process and pass on one CPU.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use nightgate_abi::{INTERCEPT_MARK, Intercept, listener::Transport};
use nightgate_datapath::Datapath;
use nightgate_gateway::{datagrams::DatagramListener, listener::listen_transparently};
use nightgate_lab::{
    Figure, Namespace,
    classbench::{self, Family},
};
use nightgate_ruleset::{Destination, InterceptImage, Network};

use super::{compiled, document, figure, prepare, zone};

/// Nanoseconds that it may take more than forwarding.
const TARGET: f64 = 200.0;
/// Rules of the gateway, beside those that accept what is measured.
const RULES: usize = 1_000;
/// The program at the interface towards the client.
const PROGRAM: &str = "tc_ingress";
/// Packets of a round.
const PACKETS: u64 = 20_000;
/// The best of these rounds counts, because disturbance only slows.
const ROUNDS: usize = 5;
const CLIENT: &str = "10.1.0.2";
const SERVICE: SocketAddr = socket([100, 64, 0, 1]);
const SERVER: SocketAddr = socket([198, 51, 100, 1]);
const PATIENCE: Duration = Duration::from_secs(5);

const fn socket([a, b, c, d]: [u8; 4]) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(a, b, c, d)), 80)
}

/// Client, gateway and server.
struct Lane {
    client: Namespace,
    gateway: Namespace,
    server: Namespace,
}

/// Measures segments of established connections and datagrams, with listeners of the product's.
///
/// # Errors
/// The process is not root, the kernel object was not built, or a packet does not become what it should.
pub fn run() -> Result<Vec<Figure>> {
    let lane = Lane::new()?;
    let _counting: OwnedFd = enable_stats(Stats::RunTime).context("count time of programs")?;
    let before = ids()?;
    lane.gateway.enter(|| lane.measure(&before))?
}

impl Lane {
    fn new() -> Result<Self> {
        let [client, gateway, server] = ["client", "bench", "server"].map(Namespace::new);
        let own = Self { client: client?, gateway: gateway?, server: server? };
        prepare(&own.gateway)?;
        for (interface, namespace, address, way) in [
            ("lan0-far", &own.client, CLIENT, "10.1.0.1"),
            ("wan0-far", &own.server, "10.2.0.254", "10.2.0.1"),
        ] {
            own.gateway.ip(&format!("link set {interface} netns {}", namespace.name()))?;
            namespace.ip(&format!("link set {interface} up"))?;
            namespace.add_address(interface, &format!("{address}/24"))?;
            namespace.add_route("default", way)?;
        }
        own.server.add_address("lo", &format!("{}/32", SERVER.ip()))?;
        own.gateway.ip(&format!("rule add fwmark {INTERCEPT_MARK} lookup 100"))?;
        own.gateway.ip("route add local default dev lo table 100")?;
        Ok(own)
    }

    fn measure(&self, before: &[u32]) -> Result<Vec<Figure>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _entered = runtime.enter();
        let mut datapath = gateway()?;
        let loopback = Ipv4Addr::LOCALHOST.into();
        let connections = listen_transparently(SocketAddr::new(loopback, 0))?.into_std()?;
        connections.set_nonblocking(false)?;
        let address = connections.local_addr()?;
        let socket = std::os::fd::AsFd::as_fd(&connections);
        datapath.set_listening_socket(Transport::Tcp, address, socket)?;
        let datagrams = DatagramListener::open(loopback)?;
        datapath.set_listening_socket(Transport::Udp, datagrams.address(), datagrams.as_fd())?;
        let server = self.server.enter(|| TcpListener::bind(SERVER))??;
        let sink = self.server.enter(|| UdpSocket::bind(SERVER))??;

        let program = own_program(before, || self.segments(SERVER, &server))?;
        let mut figures = Vec::new();
        for (what, [forwarded, intercepted]) in [
            (
                "segment",
                [
                    best(program, || self.segments(SERVER, &server))?,
                    best(program, || self.segments(SERVICE, &connections))?,
                ],
            ),
            (
                "datagram",
                [
                    best(program, || self.datagrams(SERVER))?,
                    best(program, || self.datagrams(SERVICE))?,
                ],
            ),
        ] {
            let case = |way: &str| format!("known {way} {what}, {RULES} rules, real traffic");
            figures.push(figure(case("forwarded"), forwarded, None));
            figures.push(figure(case("intercepted"), intercepted, None));
            let more = figure(case("intercepted"), intercepted - forwarded, Some(TARGET));
            figures.push(Figure { metric: "more than forwarded".into(), ..more });
        }
        drop(sink);
        Ok(figures)
    }

    /// Sends one byte after the other on one connection, and back.
    fn segments(&self, to: SocketAddr, listener: &TcpListener) -> Result<()> {
        let connect = || TcpStream::connect_timeout(&to, PATIENCE);
        let mut own = self.client.enter(connect)?.context("connect")?;
        let (mut other, _) = listener.accept()?;
        for stream in [&own, &other] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        for _ in 0..PACKETS {
            own.write_all(&[7])?;
            other.read_exact(&mut [0])?;
            other.write_all(&[7])?;
            own.read_exact(&mut [0])?;
        }
        Ok(())
    }

    /// Sends datagrams of one flow. Those that nobody reads are dropped behind the program.
    fn datagrams(&self, to: SocketAddr) -> Result<()> {
        let own = self.client.enter(|| UdpSocket::bind((CLIENT, 0)))??;
        for _ in 0..PACKETS {
            own.send_to(&[7; 64], to)?;
        }
        Ok(())
    }
}

/// The programs on both interfaces, the rules, and what is intercepted.
fn gateway() -> Result<Datapath> {
    let mut datapath = Datapath::load()?;
    datapath.attach("lan0", &zone("lan")?)?;
    datapath.attach("wan0", &zone("wan")?)?;
    let rules = classbench::yaml(&classbench::rules(Family::AccessList, RULES, 1), "r");
    let own = "- { id: overlay, from: lan, to: overlay, action: accept }\n- { id: out, from: lan, to: wan, action: accept }\n";
    datapath.commit(&compiled(&document(&format!("{own}{rules}")))?.1)?;
    let destinations = [Transport::Tcp, Transport::Udp].map(|transport| Destination {
        network: Network::host(SERVICE.ip()),
        protocol: match transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        },
        ports: (SERVICE.port(), SERVICE.port()),
        value: Intercept::new(7, 0),
    });
    let image = InterceptImage::compile(&destinations).map_err(|error| anyhow!("{error:?}"))?;
    datapath.set_intercepts(&image)?;
    Ok(datapath)
}

/// Nanoseconds of one run, the best of several rounds.
fn best(program: u32, round: impl Fn() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (time, runs) = spent(program)?;
        round()?;
        let (time, runs) = (spent(program)?.0 - time, spent(program)?.1 - runs);
        ensure!(runs >= PACKETS, "{runs} packets came, not {PACKETS}");
        best = best.min(time.as_secs_f64() * 1e9 / runs as f64);
    }
    Ok(best)
}

fn spent(program: u32) -> Result<(Duration, u64)> {
    for info in loaded_programs() {
        let info = info?;
        if info.id() == program {
            return Ok((info.run_time(), info.run_count()));
        }
    }
    Err(anyhow!("{PROGRAM} is not loaded any more"))
}

fn ids() -> Result<Vec<u32>> {
    loaded_programs().map(|info| Ok(info?.id())).collect()
}

/// The program that was not there before and takes the packets of a round: another gateway may have begun meanwhile.
fn own_program(before: &[u32], round: impl FnOnce() -> Result<()>) -> Result<u32> {
    let mut candidates = Vec::new();
    for info in loaded_programs() {
        let info = info?;
        if info.name_as_str() == Some(PROGRAM) && !before.contains(&info.id()) {
            candidates.push(info.id());
        }
    }
    round()?;
    let own = candidates.into_iter().find(|id| spent(*id).is_ok_and(|(_, runs)| runs >= PACKETS));
    own.with_context(|| format!("no {PROGRAM} took {PACKETS} packets"))
}
