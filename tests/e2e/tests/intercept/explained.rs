//! `nightgate fw explain` follows a packet from its name to the server behind the overlay, and names the first thing that
//! refuses it.

use nightgate_lab::{overlay::address, run};

use super::{HOSTED, Scene};

/// What the client reaches.
const WEB: &str = "web.corp:80";
/// Where nothing listens on the host's side.
const DEAF: &str = r#"{"protocol":"tcp","address":"10.2.0.2","port":9}"#;
/// Comes before all other rules.
const RULE: &str =
    "{ id: no-web, from: lan, to: overlay, protocol: tcp, destination_ports: [80], action: drop }";

#[test]
fn the_first_thing_that_refuses_is_named_wherever_it_is() {
    let mut scene = Scene::after(HOSTED);
    scene.says(WEB, "a trial connection stood");

    scene.says("wob.corp:80", "no such name");
    let own = std::fs::read_to_string(scene.deployment.file("gw-a.yaml")).expect("rules");
    scene.apply(&own.replace("rules:\n", &format!("rules:\n  - {RULE}\n")));
    scene.says(WEB, "drop by rule no-web");
    scene.apply(&own);

    let others = intercept("172.20.9.1", r#","allowedSourceAddresses":["10.99.0.0/24"]"#);
    scene.model("others", &others, DEAF, ["gw-b", "gw-a"]);
    scene.says("172.20.9.1:80", "refused: allowedSourceAddresses of service others");

    scene.operate("identity create nobody");
    scene.model("lonely", &intercept("172.20.9.2", ""), DEAF, ["nobody", "gw-a"]);
    scene.says("172.20.9.2:80", "refused: nobody hosts service lonely");

    scene.rules("- { id: deaf, from: local, to: lan, protocol: tcp, action: accept }");
    scene.service("deaf", &intercept("172.20.9.3", ""), DEAF);
    scene.says("172.20.9.3:80", "refused: a trial connection: ");
    scene.says("172.20.9.3:80", "Connection refused");

    let early = r#"{"method":"negotiated","earlyData":true}"#;
    let file = scene.deployment.write("early.end-to-end.v1", early).expect("written");
    scene.operate(&format!("config create deaf-early end-to-end.v1 --data {}", file.display()));
    scene.operate(
        "service update deaf --config deaf-intercept.v1 --config deaf-host.v1 --config deaf-early",
    );
    scene.says("172.20.9.3:80", "may go with the dial");

    scene.deployment.kill("r1").expect("killed");
    scene.says(WEB, "refused: no links lead to gw-b");
    scene.deployment.start_router("router", "r1").expect("started");
    scene.says(WEB, "a trial connection stood");

    // Who may not dial does not learn the name.
    scene.operate("policy delete web-dial");
    scene.says(WEB, "no such name");
}

fn intercept(destination: &str, more: &str) -> String {
    format!(
        r#"{{"protocols":["tcp"],"addresses":["{destination}"],"portRanges":[{{"low":80,"high":80}}]{more}}}"#
    )
}

impl Scene {
    /// Waits until the explanation of what the client sends there says so.
    fn says(&self, destination: &str, part: &str) {
        let line = format!("fw explain tcp {} > {destination}", address::CLIENT[0]);
        let explain = || run(&mut self.deployment.question("gw-a", &line));
        self.wait(&format!("{part:?} of {destination}"), || {
            let explained = explain().unwrap_or_else(|error| format!("{error:#}"));
            Ok(explained.contains(part).then_some(()))
        });
    }

    fn apply(&self, rules: &str) {
        let path = self.deployment.write("gw-a-rules.yaml", rules).expect("written");
        let line = format!("fw apply {}", path.display());
        run(&mut self.deployment.question("gw-a", &line)).expect("applied");
    }
}
