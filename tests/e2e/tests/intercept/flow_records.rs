//! What gateways tell of flows: those they intercept, host and forward, also while one of them is killed.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use nightgate_lab::{HttpServer, overlay::address, run};
use serde_json::Value;

use super::{HOSTED, LONG, Scene};

/// What OpenSSL says first to `db.corp`.
const CLIENT_HELLO: &[u8] =
    include_bytes!("../../../fuzz/corpus/client_hello/5e74fef52023e8b814c7ede9f1e4d6d6ce2433f1");

#[test]
fn every_flow_is_told_of_once_with_who_reached_what() {
    let mut scene = Scene::after(HOSTED);
    for gateway in ["gw-a", "gw-b"] {
        scene.record_flows(gateway);
    }
    scene.let_out();
    let public: SocketAddr = (address::PUBLIC[0].parse::<IpAddr>().expect("an address"), 80).into();
    let _server =
        HttpServer::start(&scene.deployment.topology().public, public, "a page").expect("served");
    let web = SocketAddr::new(scene.resolve("web.corp"), 80);
    scene.wait("the service", || Ok(scene.answers(web).then_some(())));
    let carried = fetch(scene.connect(web));
    let forwarded = fetch(scene.connect(public));
    scene.echo(web.ip());

    let record = scene.record("gw-a", &is_from(carried));
    for (field, value) in [
        ("event_type", "flow"),
        ("host", "gw-a"),
        ("in_iface", "lan0"),
        ("dest_ip", &web.ip().to_string()),
        ("proto", "TCP"),
        ("src_zone", "lan"),
        ("dest_zone", "overlay"),
        ("verdict", "accept"),
        ("rule", "overlay"),
        ("service", "web"),
        ("identity", "gw-a"),
    ] {
        assert_eq!(record[field], value, "{field}: {record:#}");
    }
    assert_eq!((&record["dest_port"], &record["mirrored"]), (&80.into(), &true.into()));
    assert_eq!(record["tcp"]["tcp_flags"], "1b", "SYN, ACK, PSH and FIN: {record:#}");
    let flow = &record["flow"];
    assert_eq!((&flow["reason"], &flow["state"]), (&"end-of-flow".into(), &"closed".into()));
    for count in ["pkts_toserver", "pkts_toclient", "bytes_toserver", "bytes_toclient"] {
        assert!(flow[count].as_u64().is_some_and(|count| count > 3), "{record:#}");
    }
    assert!(record["timestamp"].as_str() >= flow["end"].as_str(), "{record:#}");

    // Where the service is hosted, whoever dialed it is known too.
    let hosted = scene.record("gw-b", &|other| other["circuit"] == record["circuit"]);
    assert_eq!((&hosted["identity"], &hosted["service"]), (&"gw-a".into(), &"web".into()));
    assert_eq!((&hosted["src_zone"], &hosted["rule"]), (&"local".into(), &"web".into()));

    scene.tells_names(web);
    scene.tells_refusals();

    let record = scene.record("gw-a", &is_from(forwarded));
    assert!(record.get("service").is_none() && record["rule"] == "out", "{record:#}");
    assert!(record["nat"]["src_ip"].is_string() && record["src_ip"] == address::CLIENT[0]);
    let echo = scene.record("gw-a", &|record| record["proto"] == "ICMP");
    assert_eq!(echo["icmp_type"], 8, "{echo:#}");

    scene.is_told_after_a_crash(public);
    scene.is_told_elsewhere(public);
}

impl Scene {
    /// Starts a gateway again that writes records of flows.
    fn record_flows(&mut self, gateway: &str) {
        let text = fs::read_to_string(self.deployment.file(&format!("{gateway}.yaml")));
        let file = self.flow_file(gateway);
        let text = text.expect("a configuration")
            + &format!(
                "timeouts: {{ icmp: 2s, udp_opening: 2s, udp: 2s }}\nlog_unmatched: true\ntelemetry: {{ flows: {{ file: {{ path: '{file}' }} }} }}\n"
            );
        self.deployment.write(&format!("{gateway}.yaml"), &text).expect("written");
        self.deployment.kill(gateway).expect("killed");
        self.deployment.start_router("gateway", gateway).expect("started");
    }

    /// What a client says of TLS is told at both ends of its circuit, and what it asked of DNS where it did.
    fn tells_names(&self, web: SocketAddr) {
        let mut stream = self.connect(web);
        let (first, second) = CLIENT_HELLO.split_at(100);
        stream.write_all(first).expect("sent");
        stream.flush().expect("sent");
        stream.write_all(second).expect("sent");
        let port = stream.local_addr().expect("an address").port();
        stream.shutdown(Shutdown::Write).expect("ended");
        // The server speaks no TLS: whatever it says, it is told of.
        drop(stream.read_to_end(&mut Vec::new()));
        drop(stream);
        let record = self.record("gw-a", &is_from(port));
        let hosted = self.record("gw-b", &|other| other["circuit"] == record["circuit"]);
        for record in [record, hosted] {
            assert_eq!(record["tls"]["sni"], "db.corp", "{record:#}");
            assert_eq!(record["tls"]["ja4"], "t13d1812h2_85036bcba153_d41ae481755e");
        }
        let asked = |record: &Value| record["dns"]["queries"][0]["rrname"] == "web.corp";
        let record = self.record("gw-a", &asked);
        assert_eq!((&record["proto"], &record["dest_port"]), (&"UDP".into(), &53.into()));
    }

    /// What no rule accepts is told of with its reason, as it is logged.
    fn tells_refusals(&self) {
        let gateway = SocketAddr::new(address::GATEWAY_A[0].parse().expect("an address"), 9);
        let connect = || TcpStream::connect_timeout(&gateway, Duration::from_millis(500));
        let client = &self.deployment.topology().client;
        client.enter(connect).expect("entered").expect_err("refused");
        let is_refused =
            |record: &Value| record["event_type"] == "drop" && record["dest_port"] == 9;
        let record = self.record("gw-a", &is_refused);
        assert_eq!(record["verdict"], "drop", "{record:#}");
        assert_eq!((&record["src_zone"], &record["dest_zone"]), (&"lan".into(), &"local".into()));
        assert_eq!(record["in_iface"], "lan0", "{record:#}");
        assert_eq!(record["drop"]["reason"], "no-rule", "{record:#}");
        assert_eq!(record["tcp"]["tcp_flags_ts"], "02", "{record:#}");
        assert!(record.get("flow").is_none() && record["community_id"].is_string());
    }

    /// A connection ends while no process runs; the next one tells of it, and of nothing twice.
    fn is_told_after_a_crash(&mut self, public: SocketAddr) {
        let stream = self.connect(public);
        self.deployment.kill("gw-a").expect("killed");
        let port = fetch(stream);
        self.deployment.start_router("gateway", "gw-a").expect("started");
        let record = self.record("gw-a", &is_from(port));
        assert_eq!(record["flow"]["reason"], "end-of-flow", "{record:#}");
        let mut seen = BTreeMap::<u64, u32>::new();
        for record in self.records("gw-a") {
            *seen.entry(record["flow_id"].as_u64().expect("an id")).or_default() += 1;
        }
        // What ends in the second of the crash may be told by both processes; nothing did.
        assert!(seen.values().all(|times| *times == 1), "{seen:?}");
        let metrics = self.deployment.ask("gw-a", "metrics").expect("metrics");
        let delivered = "nightgate_flow_records_total{output=\"file\",result=\"delivered\"}";
        assert!(metrics.contains(delivered), "{metrics}");
    }

    /// Another file, without a restart.
    fn is_told_elsewhere(&self, public: SocketAddr) {
        let text = fs::read_to_string(self.deployment.file("gw-a.yaml"));
        let [before, after] = ["gw-a", "gw-a-2"].map(|name| self.flow_file(name));
        let text = text.expect("a configuration").replace(&before, &after);
        let path = self.deployment.write("gw-a.yaml", &text).expect("written");
        let line = format!("fw apply {}", path.display());
        let said = run(&mut self.deployment.question("gw-a", &line)).expect("applied");
        assert!(said.contains("flow-records"), "{said}");
        let port = fetch(self.connect(public));
        self.record("gw-a-2", &is_from(port));
        assert!(!self.records("gw-a").iter().any(is_from(port)), "in the file before too");
    }

    /// The record that a condition holds for, when it is there.
    fn record(&self, gateway: &str, condition: &dyn Fn(&Value) -> bool) -> Value {
        let mut found = None;
        self.wait("a record", || {
            found = self.records(gateway).into_iter().find(|record| condition(record));
            Ok(found.as_ref().map(|_| ()))
        });
        found.expect("a record")
    }

    fn records(&self, gateway: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.flow_file(gateway)).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    fn flow_file(&self, gateway: &str) -> String {
        self.deployment.file(&format!("flows/{gateway}.jsonl")).display().to_string()
    }

    fn connect(&self, server: SocketAddr) -> TcpStream {
        let connect = || TcpStream::connect_timeout(&server, LONG);
        let client = &self.deployment.topology().client;
        client.enter(connect).expect("entered").expect("connected")
    }
}

/// Gets a page until the connection is closed; gives the client's port.
fn fetch(mut stream: TcpStream) -> u16 {
    stream.set_read_timeout(Some(LONG)).expect("set");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("answered");
    assert!(page.contains("200 OK"), "{page}");
    stream.local_addr().expect("an address").port()
}

fn is_from(port: u16) -> impl Fn(&Value) -> bool {
    move |record| record["proto"] == "TCP" && record["src_port"] == port
}
