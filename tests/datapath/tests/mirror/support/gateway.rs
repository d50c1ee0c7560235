//! A gateway: the real programs, a transparent listener, the mirror.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, UdpSocket},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nightgate_abi::{
    INTERCEPT_MARK, Intercept,
    listener::Transport,
    mirror::{MirrorSession, MirrorSessionId, Outcome},
};
use nightgate_config::{Gateway as Model, Mirror, SensorName, ZoneName};
use nightgate_datapath::{Datapath, IfIndex};
use nightgate_datapath_tests::intercepted;
use nightgate_mirror::{Plan, SensorPath};
use nightgate_netlink::{Interception, Netlink, Prefix, Route, Undo};
use nightgate_ruleset::{Destination, InterceptImage};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::runtime::Runtime;

use super::BODY;

/// Name of the service that is mirrored.
const SERVICE: &str = "web";

/// Destination that is routed into the mirror device.
const INJECTED: &str = "10.66.0.1";

/// The gateway of the calling thread's network namespace.
pub(crate) struct Gateway {
    pub(crate) datapath: Datapath,
    pub(crate) netlink: Netlink,
    pub(crate) runtime: Runtime,
    undo: Undo,
    session: MirrorSessionId,
    value: MirrorSession,
    intercepts: Vec<Destination>,
}

impl Gateway {
    /// Mirrors the service to a sensor in VXLAN.
    pub(crate) fn vxlan(sensor: &str) -> Result<Self> {
        Self::start(&format!("address: '{sensor}'"), "vni: 42")
    }

    /// Loads and configures everything; mirrors the service to a sensor with these keys, by a session with these.
    pub(crate) fn start(sensor: &str, session_keys: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let model = model(sensor, session_keys)?;
        let (netlink, pair, undo) = runtime.block_on(async {
            let netlink = Netlink::connect()?;
            let (pair, mut undo) = netlink.create_mirror_pair().await?;
            let interception = Interception { mark: INTERCEPT_MARK, table: 20_039 };
            undo.append(netlink.intercept(interception).await?);
            let route = Route {
                destination: Prefix::host(super::ip(INJECTED)),
                gateway: None,
                interface: pair.device.index,
            };
            undo.append(netlink.add_route(route).await?);
            anyhow::Ok((netlink, pair, undo))
        })?;
        let mut datapath = Datapath::load()?;
        let rules = nightgate_ruleset::compile(&model).map_err(|errors| anyhow!("{errors:?}"))?;
        datapath.attach("lan0", &ZoneName::new("lan").context("a zone name")?)?;
        datapath.attach("wan0", &ZoneName::new("wan").context("a zone name")?)?;
        datapath.commit(&rules.image())?;
        datapath.attach_mirror(&pair.device.name, &pair.peer.name)?;
        datapath.set_mirror_device(IfIndex::new(pair.device.index.value()))?;
        let session = MirrorSessionId::new(1).context("a session")?;
        let mut gateway = Self {
            datapath,
            netlink,
            runtime,
            undo,
            session,
            value: MirrorSession::default(),
            intercepts: Vec::new(),
        };
        gateway.mirror(sensor, session_keys)?;
        Ok(gateway)
    }

    /// Mirrors the service to a sensor with these keys, by a session with these.
    pub(crate) fn mirror(&mut self, sensor: &str, session: &str) -> Result<()> {
        let mirror = model(sensor, session)?.mirror.context("a mirror section")?;
        let paths = self.runtime.block_on(paths(&self.netlink, &mirror))?;
        let plan = Plan::new(&mirror, &paths, 1_500).map_err(|errors| anyhow!("{errors:?}"))?;
        for sensor in plan.sensors() {
            self.datapath.mirror().set_sensor(sensor.number, sensor.value)?;
        }
        for session in plan.sessions() {
            self.datapath.mirror().set_session(session.id, session.value)?;
        }
        self.value = plan.sessions()[0].value;
        self.session = plan.sessions().first().context("a session of the service")?.id;
        Ok(())
    }

    /// Takes a sensor out of the session, by its place.
    pub(crate) fn lose_sensor(&mut self, place: usize) -> Result<()> {
        let mut value = self.value;
        value.sensors[place] = 0;
        self.datapath.mirror().set_session(self.session, value)?;
        Ok(())
    }

    /// Puts the firewall on the sensor's interface too; no rule accepts anything there.
    pub(crate) fn guard_sensor_interface(&mut self) -> Result<()> {
        let zone = ZoneName::new("monitoring").context("a zone name")?;
        self.datapath.attach("mon0", &zone)?;
        Ok(())
    }

    /// Intercepts a destination and answers `connections` connections to it, one after another.
    pub(crate) fn serve(
        &mut self,
        service: SocketAddr,
        connections: usize,
    ) -> Result<JoinHandle<Result<()>>> {
        let listener = self.intercept(service)?;
        Ok(thread::spawn(move || (0..connections).try_for_each(|_| answer(&listener, service))))
    }

    /// Intercepts a destination of the mirrored service.
    pub(crate) fn intercept(&mut self, service: SocketAddr) -> Result<TcpListener> {
        let listener = transparent_listener(service.is_ipv4())?;
        let socket = std::os::fd::AsFd::as_fd(&listener);
        self.datapath.set_listening_socket(Transport::Tcp, listener.local_addr()?, socket)?;
        self.intercepts.push(intercepted(6, service, Intercept::new(1, self.session.number())));
        self.datapath.set_intercepts(&InterceptImage::compile(&self.intercepts)?)?;
        Ok(listener)
    }

    /// Copies of the session that had an outcome.
    pub(crate) fn copies(&self, outcome: Outcome) -> Result<u64> {
        let statistics = self.datapath.mirror_statistics()?;
        let counts = statistics.sessions.get(&self.session);
        Ok(counts.and_then(|row| row.get(&outcome)).map_or(0, |counter| counter.packets))
    }

    /// Hands `count` datagrams of `length` bytes to the mirror device, as copies with a mark: the session's number, or a
    /// [`CopyMark`](nightgate_abi::mirror::CopyMark).
    pub(crate) fn inject(&self, mark: u32, length: usize, count: usize) -> Result<()> {
        let socket = UdpSocket::bind("10.1.0.1:5000")?;
        SockRef::from(&socket).set_mark(mark)?;
        let destination = SocketAddr::new(super::ip(INJECTED), 53);
        for _ in 0..count {
            socket.send_to(&vec![b'x'; length], destination)?;
        }
        Ok(())
    }

    /// Copies that left for the sensor.
    pub(crate) fn sent(&self) -> Result<u64> {
        Ok(self.copies(Outcome::Mirrored)? + self.copies(Outcome::NoNeighbour)?)
    }

    /// Takes everything back.
    pub(crate) fn stop(self) -> Result<()> {
        drop(self.datapath);
        self.runtime.block_on(self.netlink.undo(self.undo))?;
        Ok(())
    }
}

fn model(sensor: &str, session: &str) -> Result<Model> {
    let which = if session.contains("sensor:") { "" } else { "sensor: ids, " };
    let text = format!(
        "version: 1
router: {{ identity: gateway.json }}
zones:
  lan: {{ interfaces: [lan0] }}
  monitoring: {{ interfaces: [mon0] }}
  wan: {{ interfaces: [wan0] }}
rules:
  - {{ id: out, from: lan, to: wan, action: accept }}
  - {{ id: overlay, from: lan, to: overlay, action: accept }}
mirror:
  sensors:
    ids: {{ interface: mon0, {sensor} }}
  sessions:
    - {{ id: web, services: [{SERVICE}], filter: {{ from: lan, to: wan }}, {which}{session} }}
"
    );
    let config = nightgate_config::parse(&text, "test").map_err(|errors| anyhow!("{errors:?}"))?;
    config.gateway.context("a gateway")
}

async fn paths(netlink: &Netlink, mirror: &Mirror) -> Result<BTreeMap<SensorName, SensorPath>> {
    let mut paths = BTreeMap::new();
    for (name, sensor) in &mirror.sensors {
        let interface = netlink.interface(sensor.interface.as_str()).await?;
        let source = match sensor.address {
            Some(address) => Some(netlink.next_hop(address, &interface).await?.source),
            None => None,
        };
        let (ifindex, mtu) = (interface.index.value(), interface.mtu);
        let path = SensorPath { ifindex, mtu, source, cuts: interface.cuts_segments()? };
        paths.insert(name.clone(), path);
    }
    Ok(paths)
}

fn transparent_listener(is_ipv4: bool) -> Result<TcpListener> {
    let (domain, any) =
        if is_ipv4 { (Domain::IPV4, "127.0.0.1:0") } else { (Domain::IPV6, "[::1]:0") };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_ip_transparent_v4(true)?;
    socket.bind(&any.parse::<SocketAddr>()?.into())?;
    socket.listen(16)?;
    Ok(socket.into())
}

fn answer(listener: &TcpListener, service: SocketAddr) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    ensure!(stream.local_addr()? == service, "the original destination is the local address");
    let mut request = vec![0; BODY];
    stream.read_exact(&mut request)?;
    ensure!(request == vec![b'q'; BODY], "the request arrived whole");
    stream.write_all(&vec![b'r'; BODY])?;
    stream.shutdown(Shutdown::Write)?;
    // The client's end of the connection, so that both directions are complete.
    ensure!(stream.read(&mut request)? == 0, "nothing follows the request");
    Ok(())
}
