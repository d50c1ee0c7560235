//! A client, a gateway that terminates its connections, and a sensor.

mod decode;
mod gateway;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
};

use anyhow::{Result, ensure};
use nightgate_lab::{Namespace, temporary_folder, veth};
use tempfile::TempDir;

pub(crate) use self::{
    decode::{Segment, Sensor},
    gateway::Gateway,
};

/// MTU of the client's network, bytes.
pub(crate) const LAN_MTU: usize = 1_500;

/// MTU of the network towards the sensor, bytes: enough for a full frame, a tag and the 98 bytes of GENEVE over IPv6.
const SENSOR_MTU: usize = 1_602;

/// Bytes that each side of an exchange sends: large enough for the kernel to build GSO packets.
pub(crate) const BODY: usize = 300_000;

/// Four namespaces: client - gateway - server, and a sensor beside the gateway. Removed when dropped.
pub(crate) struct Topology {
    pub(crate) client: Namespace,
    pub(crate) gateway: Namespace,
    pub(crate) sensor: Namespace,
    /// Behind the gateway, at 10.2.0.2 and fd02::2.
    pub(crate) server: Namespace,
    /// For files of the test.
    pub(crate) folder: TempDir,
}

impl Topology {
    pub(crate) fn new() -> Result<Self> {
        let client = Namespace::new("client")?;
        let gateway = Namespace::new("gateway")?;
        let sensor = Namespace::new("sensor")?;
        let server = Namespace::new("server")?;
        veth((&client, "eth0"), (&gateway, "lan0"))?;
        veth((&sensor, "eth0"), (&gateway, "mon0"))?;
        for (namespace, interface, host) in [(&client, "eth0", 2), (&gateway, "lan0", 1)] {
            namespace.ip(&format!("link set {interface} mtu {LAN_MTU}"))?;
            namespace.add_address(interface, &format!("10.1.0.{host}/24"))?;
            namespace.add_address(interface, &format!("fd01::{host}/64"))?;
        }
        for (namespace, interface, host) in [(&sensor, "eth0", 2), (&gateway, "mon0", 1)] {
            namespace.ip(&format!("link set {interface} mtu {SENSOR_MTU}"))?;
            namespace.add_address(interface, &format!("10.9.0.{host}/24"))?;
            namespace.add_address(interface, &format!("fd09::{host}/64"))?;
        }
        veth((&server, "eth0"), (&gateway, "wan0"))?;
        for (namespace, interface, host) in [(&server, "eth0", 2), (&gateway, "wan0", 1)] {
            namespace.add_address(interface, &format!("10.2.0.{host}/24"))?;
            namespace.add_address(interface, &format!("fd02::{host}/64"))?;
        }
        gateway.set("net/ipv4/ip_forward", "1")?;
        gateway.set("net/ipv6/conf/all/forwarding", "1")?;
        for (here, there, host) in [(&client, 2, 1), (&server, 1, 2)] {
            here.add_route(&format!("10.{there}.0.0/24"), &format!("10.{host}.0.1"))?;
            here.add_route(&format!("fd0{there}::/64"), &format!("fd0{host}::1"))?;
        }
        client.add_route("10.77.0.0/16", "10.1.0.1")?;
        client.add_route("fd77::/64", "fd01::1")?;
        Ok(Self { client, gateway, sensor, server, folder: temporary_folder()? })
    }

    /// Sends [`BODY`] bytes from the client to a service and reads as many back.
    pub(crate) fn exchange(&self, service: SocketAddr) -> Result<()> {
        self.client.enter(|| -> Result<()> {
            let mut stream = TcpStream::connect(service)?;
            stream.write_all(&vec![b'q'; BODY])?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            ensure!(answer == vec![b'r'; BODY], "an answer of {} bytes", answer.len());
            Ok(())
        })?
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("the test writes addresses")
}

/// A datagram and its answer, none of which gets lost.
pub(crate) fn ask(client: &UdpSocket, server: &UdpSocket, question: &[u8]) {
    let mut buffer = vec![0; question.len() + 1];
    client.send(question).unwrap();
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(buffer[..length], *question);
    server.send_to(question, from).unwrap();
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..length], *question);
}
