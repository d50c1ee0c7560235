//! A real IDS, with strict checksums and two threads, sees every request whole, whatever the copies come in.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nightgate_datapath::MirrorStatistics;
use nightgate_lab::{Checksums, Suricata, SuricataStatistics};
use serde_json::Value;

use crate::support::{Gateway, LAN_MTU, Topology, ip};

/// Requests in each encapsulation.
const REQUESTS: usize = 1_000;
/// Bytes of the body of every request and answer: the kernel sends it in large segments.
const BODY: usize = 20_000;
/// Where requests go, in turn: to services that the gateway terminates, and to a server behind it.
const SERVICES: [&str; 4] = ["10.77.0.1", "fd77::1", "10.2.0.2", "fd02::2"];
/// Ethernet header, the longest overhead (GENEVE over IPv4), and a tag.
const AROUND: usize = 14 + 78 + 4;

/// Keys of sensor and session for each encapsulation that Suricata decodes, with a word for its marker and the tag that
/// its alerts have.
const CASES: [(&str, &str, &str, Option<u64>); 5] = [
    ("vxlan", "address: 10.9.0.2, encapsulation: vxlan", "vlan: 42", Some(42)),
    ("geneve", "address: 10.9.0.2, encapsulation: geneve", "vlan: service", Some(1)),
    ("erspan", "address: 10.9.0.2, encapsulation: erspan", "vlan: 7", Some(7)),
    ("gre", "address: 10.9.0.2, encapsulation: gre", "vni: 9", None),
    ("local", "encapsulation: local", "vlan: 8", Some(8)),
];

#[test]
fn suricata_alerts_once_for_each_request_in_each_encapsulation() {
    let topology = Topology::new().unwrap();
    let folder = topology.folder.path();
    let mut suricata =
        Suricata::start(&topology.sensor, "eth0", folder, &rules(), Checksums::Strict).unwrap();
    topology.gateway.enter(|| exchange(&topology, &suricata)).unwrap().unwrap();
    for (sid, (name, _, _, vlan)) in (1..).zip(CASES) {
        suricata.wait_for_alerts(sid, REQUESTS).unwrap();
        let alerts = suricata.alerts(sid).unwrap();
        assert_eq!(alerts.len(), REQUESTS, "{name}");
        for alert in alerts {
            // What is forwarded is of no service.
            let is_forwarded = name == "geneve" && is_of_server(&alert);
            let vlan = vlan.filter(|_| !is_forwarded);
            assert_eq!(alert["vlan"][0].as_u64(), vlan, "{name}: {alert}");
        }
    }
    let SuricataStatistics { sessions, invalid_checksums, gaps, longest, dropped } =
        suricata.stop().unwrap();
    assert_eq!(sessions, (CASES.len() * REQUESTS) as u64);
    assert_eq!((invalid_checksums, gaps, dropped), (0, 0, 0));
    assert!(longest <= (LAN_MTU + AROUND) as u64, "a frame of {longest} bytes");
}

fn is_of_server(alert: &Value) -> bool {
    SERVICES[2..]
        .iter()
        .any(|server| alert["dest_ip"].as_str().is_some_and(|ip_text| ip(ip_text) == ip(server)))
}

/// One rule for each encapsulation.
fn rules() -> String {
    let rule = |(sid, (name, ..)): (u64, (&str, &str, &str, Option<u64>))| {
        format!(
            "alert http any any -> any any (msg:\"{name}\"; http.uri; content:\"/attack-marker/{name}\"; sid:{sid}; \
             rev:1;)\n"
        )
    };
    (1..).zip(CASES).map(rule).collect()
}

/// All requests of all encapsulations.
fn exchange(topology: &Topology, suricata: &Suricata) -> Result<()> {
    let (_, sensor, session, _) = CASES[0];
    let mut gateway = Gateway::start(sensor, session)?;
    for (index, address) in (0..).zip(SERVICES) {
        let address = SocketAddr::new(ip(address), 80);
        let listener = if index < 2 {
            gateway.intercept(address)?
        } else {
            topology.server.enter(|| TcpListener::bind(address))??
        };
        thread::spawn(move || serve(&listener));
    }
    for (sid, (name, sensor, session, _)) in (1..).zip(CASES) {
        gateway.mirror(sensor, session)?;
        topology.client.enter(|| {
            (0..REQUESTS).try_for_each(|index| {
                let service = SocketAddr::new(ip(SERVICES[index % SERVICES.len()]), 80);
                request(service, name).with_context(|| format!("request {index} in {name}"))?;
                // What a sensor has no room for on a busy machine is not the question here.
                if index % 200 == 0 { suricata.wait_for_alerts(sid, index) } else { Ok(()) }
            })
        })??;
    }
    let statistics = gateway.datapath.mirror_statistics()?;
    for row in statistics.sessions.values() {
        ensure!(MirrorStatistics::queue_dropped(row) == 0, "nothing is lost on the way: {row:?}");
    }
    gateway.stop()
}

/// Asks a server for a page whose address has the marker of an encapsulation.
fn request(server: SocketAddr, name: &str) -> Result<()> {
    let mut stream = TcpStream::connect(server)?;
    let head = format!(
        "POST /attack-marker/{name} HTTP/1.1\r\nHost: test\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), &[b'q'; BODY]].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200") && answer.len() > BODY, "a whole answer");
    Ok(())
}

/// Answers every request with a page. Ends with the process.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        answer(stream).ok();
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "a whole head");
    }
    reader.read_exact(&mut [0; BODY])?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), &[b'r'; BODY]].concat())?;
    Ok(stream.shutdown(Shutdown::Write)?)
}
