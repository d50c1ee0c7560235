//! What a gateway that hosts copies between itself and its servers, for whom, and what it never does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{SocketAddr, UdpSocket},
    thread,
};

use anyhow::Result;
use nightgate_lab::{packet_comments, run};
use serde_json::Value;

use super::{HOSTED, LONG, PROXY, Scene, datagrams::receive};

/// A server of datagrams behind gateway B.
const ECHO: &str = "[fd00:2::2]:5353";

#[test]
fn plaintext_behind_the_overlay_is_copied_by_service_and_by_who_dials() {
    let mut scene = Scene::after(HOSTED);
    scene.mirror_hosted();
    let web = SocketAddr::new(scene.resolve("web.corp"), 80);
    scene.wait("the service", || Ok(scene.answers(web).then_some(())));
    scene.wait("packets of the page", || {
        let found = scene.captured("http.request && ip.src == 10.2.0.1 && ip.dst == 10.2.0.2");
        Ok(found.contains("service=web identity=gw-a circuit=").then_some(()))
    });
    let answers = scene.captured("http.response.code == 200 && ip.dst == 10.2.0.1");
    assert!(answers.contains("service=web identity=gw-a"), "{answers}");
    let before = scene.copied();
    let of_laptop = before.get("of-laptop").copied().unwrap_or_default();
    assert!(before["web"] > 0 && of_laptop == 0, "{before:?}");

    // The same service, dialed by others: the session of theirs is the first in the list.
    for name in ["laptop", "backup"] {
        let (jwt, file) = (scene.deployment.file("of.jwt"), scene.deployment.file("of.json"));
        let (jwt, file) = (jwt.display(), file.display());
        scene.operate(&format!("identity create {name} --jwt-out {jwt}"));
        scene.operate(&format!("enroll {jwt} --out {file}"));
        scene.operate(&format!("policy create {name}-dial dial --identity @{name} --service @web"));
        let file = scene.deployment.file("of.json");
        scene.deployment.start_proxy(&file, "web", PROXY).expect("started");
        scene.wait("the service for an identity", || Ok(scene.fetches().then_some(())));
        scene.deployment.kill("proxy").expect("killed");
        for end in ["jwt", "json"] {
            fs::remove_file(scene.deployment.file(&format!("of.{end}"))).expect("removed");
        }
    }
    let after = scene.copied();
    assert!(after["of-laptop"] > 0 && after["web"] > 0, "{after:?}");
    scene.wait("packets of the identity", || {
        Ok(scene.captured("http.request").contains("identity=laptop").then_some(()))
    });
    let found = scene.captured("http.request");
    assert!(!found.contains("identity=backup"), "{found}");
    let circuits: BTreeSet<_> = found.lines().collect();
    assert_eq!(circuits.len(), found.lines().count(), "each request once: {found}");

    scene.copies_datagrams_that_the_controller_asks_for();
    // Of no other interface, and with checksums that are right.
    assert_eq!(scene.captured("ip.addr == 192.0.2.0/24"), "");
    let bad = "tcp.checksum.status == 0 || udp.checksum.status == 0 || ip.checksum.status == 0";
    assert_eq!(scene.captured(bad), "");
}

impl Scene {
    /// Starts gateway B again: it copies what it hosts to an interface, from which packets go to a file.
    fn mirror_hosted(&mut self) {
        let gateway = &self.deployment.topology().gateway_b;
        gateway.ip("link add cap0 type veth peer name cap1").expect("added");
        for end in ["cap0", "cap1"] {
            gateway.ip(&format!("link set {end} mtu 9000 up")).expect("up");
        }
        let own = fs::read_to_string(self.deployment.file("gw-b.yaml")).expect("a configuration");
        let own = own.replace(
            "rules:\n",
            "rules:\n  - { id: echo, from: local, to: lan, protocol: udp, action: accept }\n",
        );
        let text = format!(
            "{own}mirror:
  sensors:
    disk: {{ interface: cap0, encapsulation: local }}
    later: {{ interface: cap2, encapsulation: local }}
  never: {{ identities: [backup] }}
  sessions:
    - {{ id: of-laptop, identities: [laptop], interfaces: [lan0], sensor: disk }}
    - {{ id: elsewhere, identities: [gw-a], services: [files], sensor: disk }}
    - {{ id: web, services: [web], sensor: disk }}
telemetry: {{ packets: {{ interface: cap0, path: '{}' }} }}
",
            self.captures()
        );
        self.deployment.write("gw-b.yaml", &text).expect("written");
        self.deployment.kill("gw-b").expect("killed");
        self.deployment.start_router("gateway", "gw-b").expect("started");
    }

    fn captures(&self) -> String {
        self.deployment.file("captures/hosted.pcapng").display().to_string()
    }

    /// Comments of the captured packets that a filter finds.
    fn captured(&self, filter: &str) -> String {
        packet_comments(self.captures().as_ref(), filter)
    }

    /// Frames that each session of gateway B was to copy; all are accounted for.
    fn copied(&self) -> BTreeMap<String, u64> {
        let answer = run(&mut self.deployment.question("gw-b", "mirror --json")).expect("counts");
        let rows: Vec<Value> = serde_json::from_str(&answer).expect("rows");
        let (mut due, mut sum) = (BTreeMap::new(), BTreeMap::<String, u64>::new());
        for row in &rows {
            let session = row["session"].as_str().expect("a session").to_owned();
            let packets = row["packets"].as_u64().expect("a count");
            if row["outcome"] == "matched" {
                due.insert(session, packets);
            } else {
                *sum.entry(session).or_default() += packets;
            }
        }
        assert_eq!(due, sum, "{answer}");
        due
    }

    /// A service over UDP whose server has an address of IPv6, and a session of the controller's.
    fn copies_datagrams_that_the_controller_asks_for(&self) {
        let server: SocketAddr = ECHO.parse().expect("an address");
        let echo = self.deployment.topology().server.enter(|| UdpSocket::bind(server));
        let echo = echo.expect("entered").expect("bound");
        echo.set_read_timeout(Some(LONG)).expect("set");
        let answering = thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while let Ok((length, client)) = echo.recv_from(&mut buffer) {
                echo.send_to(&buffer[..length], client).expect("answered");
                if &buffer[..length] == b"stop" {
                    return;
                }
            }
        });
        self.service(
            "echo",
            r#"{"protocols":["udp"],"addresses":["10.77.0.5"],"portRanges":[{"low":5000,"high":5000}]}"#,
            r#"{"protocol":"udp","address":"fd00:2::2","port":5353}"#,
        );
        self.watch("create watch mirror.v1", "later");
        self.operate(
            "service update echo --config echo-intercept.v1 --config echo-host.v1 --config watch",
        );
        let to: SocketAddr = "10.77.0.5:5000".parse().expect("an address");
        let client = self.client(to.ip());
        let from = client.local_addr().expect("an address").ip();
        self.is_carried(&format!("udp {from} > {to}"));
        let echoed = |text: &[u8]| -> Result<()> {
            client.send_to(text, to)?;
            assert_eq!(receive(&client).0, text);
            Ok(())
        };
        let are_copied = || {
            echoed(b"plaintext")?;
            Ok((self.copied().get("by-echo").copied().unwrap_or_default() > 2).then_some(()))
        };
        // The interface is not there yet; as soon as it is, the session can be.
        self.wait("a reason", || {
            let logs = self.deployment.log_tails(200);
            Ok(logs.contains("no interface is named").then_some(()))
        });
        let gateway = &self.deployment.topology().gateway_b;
        gateway.ip("link add cap2 type veth peer name cap3").expect("added");
        for end in ["cap2", "cap3"] {
            gateway.ip(&format!("link set {end} mtu 9000 up")).expect("up");
        }
        self.wait("datagrams copied after all", are_copied);
        self.watch("update watch", "disk");
        for way in ["ipv6.dst == fd00:2::2", "ipv6.src == fd00:2::2"] {
            self.wait("datagrams in the file", || {
                echoed(b"plaintext")?;
                let found = self.captured(&format!("udp.port == 5353 && {way}"));
                Ok(found.contains("service=echo identity=gw-a").then_some(()))
            });
        }
        echoed(b"stop").expect("an echo");
        answering.join().expect("an echo");
    }

    /// Has the controller ask gateway B for copies of the datagrams.
    fn watch(&self, command: &str, sensor: &str) {
        let document = format!(
            r#"{{"sensor":"{sensor}","expires":"2100-01-01T00:00:00Z","gateways":["gw-b"]}}"#
        );
        let file = self.deployment.write("watch.json", &document).expect("written");
        self.operate(&format!("config {command} --data {}", file.display()));
    }
}
