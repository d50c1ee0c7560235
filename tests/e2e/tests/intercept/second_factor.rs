//! An alert behind the overlay's exit asks who dialed for its second factor again.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nightgate_lab::{run, until};
use serde_json::Value;
use totp_rs::{Algorithm, Builder, Secret, Totp};

use super::{HOSTED, LONG, PROXY, Scene};

/// Number of the signature that the rule is about.
const SIGNATURE: u32 = 7;

#[test]
fn an_alert_asks_the_dialer_for_its_second_factor_and_a_code_lets_it_dial_again() {
    let mut scene = Scene::after(HOSTED);
    scene.ask_for_second_factors();
    let (jwt, file) = (scene.deployment.file("laptop.jwt"), scene.deployment.file("laptop.json"));
    scene.operate(&format!("identity create laptop --jwt-out {}", jwt.display()));
    scene.operate(&format!("enroll {} --out {}", jwt.display(), file.display()));
    scene.operate("policy create laptop-dial dial --identity @laptop --service @web");
    scene.deployment.start_proxy(&file, "web", PROXY).expect("started");
    scene.wait("the service", || Ok(scene.fetches().then_some(())));
    let mfa = |words: &str| format!("mfa {words} --identity {}", file.display());
    let app = authenticator(&scene.operate(&mfa("enroll --json")));
    scene.operate(&mfa(&format!("verify {}", app.generate(now() - 30))));
    assert!(scene.fetches(), "the session that enrolled it, and those before, have shown it");

    let mut open = scene.connect_proxy();
    open.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
    let client = scene.server_sees();
    scene.alert(client);
    // Closed or reset: either way it is over.
    drop(open.read_to_end(&mut Vec::new()));
    assert!(!scene.fetches(), "dials are refused");
    let listed = until("the quarantine", LONG, || {
        let listed = scene.deployment.operator("quarantine list --json")?;
        let listed: Value = serde_json::from_str(&listed)?;
        Ok(listed.get(0).cloned())
    });
    let listed = listed.unwrap_or_else(|error| panic!("{error:#}\n{}", scene.verdicts()));
    assert_eq!((&listed["identity"]["name"], &listed["by"]), (&"laptop".into(), &"gw-b".into()));
    assert_eq!(listed["secondFactor"], true, "{listed:#}");
    assert_eq!(listed["evidence"]["signatureId"], SIGNATURE, "{listed:#}");
    assert_eq!(listed["evidence"]["client"], client.to_string(), "{listed:#}");
    let table = scene.operate("quarantine list");
    assert!(table.contains("it shows its second factor"), "{table}");
    let verdicts = scene.verdicts();
    assert!(verdicts.contains("until it shows its second factor"), "{verdicts}");
    assert!(!scene.fetches(), "and stay so");

    let wrong = scene.deployment.operator(&mfa("authenticate 000000"));
    assert!(wrong.is_err() && !scene.fetches(), "a wrong code: {wrong:?}");
    scene.operate(&mfa(&format!("authenticate {}", app.generate(now()))));
    scene.wait("the service after the code", || Ok(scene.fetches().then_some(())));
    let listed = scene.operate("quarantine list --json");
    assert_eq!(listed.trim(), "[]");
}

impl Scene {
    /// Starts gateway B again, with a rule for alerts of one signature.
    fn ask_for_second_factors(&mut self) {
        let path = self.deployment.file("gw-b.yaml");
        let text = std::fs::read_to_string(path).expect("a configuration");
        let rule = format!(
            "  policy:\n    - {{ id: odd, signatures: [{SIGNATURE}], action: require-mfa, for: 10m }}\n"
        );
        let text = text.replace("  policy:\n", &rule);
        self.deployment.write("gw-b.yaml", &text).expect("written");
        self.deployment.kill("gw-b").expect("killed");
        self.deployment.start_router("gateway", "gw-b").expect("started");
    }

    /// Writes what a sensor says of a connection to the web server.
    fn alert(&self, client: SocketAddr) {
        let line = format!(
            "{{\"event_type\":\"alert\",\"src_ip\":\"{}\",\"src_port\":{},\"dest_ip\":\"10.2.0.2\",\"dest_port\":8080,\
             \"proto\":\"TCP\",\"alert\":{{\"signature_id\":{SIGNATURE},\"signature\":\"odd\",\"severity\":3}}}}\n",
            client.ip(),
            client.port()
        );
        let path = self.deployment.file("ids/suricata/eve.json");
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let mut file = File::options().append(true).create(true).open(&path).expect("opened");
        file.write_all(line.as_bytes()).expect("written");
    }

    /// The address that the one open connection to the web server comes from.
    fn server_sees(&self) -> SocketAddr {
        let list = "ss -Htn state established dst 10.2.0.2:8080";
        until("a connection to the server", LONG, || {
            let listed = self.deployment.topology().gateway_b.shell(list)?;
            // Columns: both queues, the own address, the other's.
            Ok(listed.split_whitespace().nth(2).and_then(|own| own.parse().ok()))
        })
        .expect("a connection")
    }

    fn verdicts(&self) -> String {
        run(&mut self.deployment.question("gw-b", "verdicts")).expect("verdicts")
    }

    fn connect_proxy(&self) -> TcpStream {
        let host = &self.deployment.topology().sdk_host;
        let stream = host.enter(|| TcpStream::connect(PROXY)).expect("entered").expect("connected");
        stream.set_read_timeout(Some(LONG)).expect("set");
        stream
    }
}

/// The app that is set up with what an enrollment says.
fn authenticator(enrolled: &str) -> Totp {
    let made: Value = serde_json::from_str(enrolled).expect("JSON");
    let url = made["provisioningUrl"].as_str().expect("an address");
    let secret = url.split("secret=").nth(1).expect("a secret");
    let secret = secret.split('&').next().expect("a secret");
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_secret(Secret::try_from_base32(secret).expect("a secret"))
        .with_account_name("laptop")
        .build()
        .expect("an app")
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}
