//! The resolvers of the gateway's host, systemd-resolved and resolv.conf, ask the private DNS while the gateway runs, and no
//! longer: neither after a stop nor after a crash.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use nightgate_lab::{
    Process, SystemdResolved,
    overlay::{Deployment, address, after},
    run, until,
};
use nix::sys::signal::Signal;

const GATEWAY: &str = "gw-a";
const LONG: Duration = Duration::from_secs(90);
/// Scenes until a client of the gateway reaches web.corp.
const START: usize = 6;
/// How addresses of the private DNS begin.
const ADDRESSES: &str = "fd64:6e67:";
/// The host's resolver configuration before any gateway.
const BEFORE: &str = "nameserver 192.0.2.53\nsearch example\n";

struct Scene {
    deployment: Deployment,
    resolved: SystemdResolved,
    resolv_conf: PathBuf,
    /// The configuration of the gateway without either.
    plain: String,
}

impl Scene {
    fn new() -> Self {
        let mut deployment = after(START).expect("a stage");
        deployment.kill(GATEWAY).expect("killed");
        let (namespace, folder) = (&deployment.topology().gateway_a, deployment.file(""));
        let resolved = SystemdResolved::start(namespace, &folder).expect("started");
        let resolv_conf = deployment.file("resolv.conf");
        fs::write(&resolv_conf, BEFORE).expect("written");
        let plain = fs::read_to_string(deployment.file("gw-a.yaml")).expect("a configuration");
        Self { deployment, resolved, resolv_conf, plain }
    }

    /// Writes the configuration, with more in the section of the private DNS.
    fn configure(&self, more: &str) {
        let text = self.plain.replace("dns:\n", &format!("dns:\n{more}"));
        self.deployment.write("gw-a.yaml", &text).expect("written");
    }

    /// Starts the gateway so that it finds this systemd-resolved.
    fn gateway(&self) -> Process {
        let mut command = self.deployment.role_command("gateway", "run", GATEWAY);
        self.resolved.show_to(&mut command);
        Process::spawn("gateway", command, &self.deployment.file("")).expect("started")
    }

    /// Waits until both resolvers ask the private DNS.
    fn is_asked(&self, gateway: &Process) {
        until("an answer", LONG, || {
            Ok(self.ask("query --cache=no web.corp").contains(ADDRESSES).then_some(()))
        })
        .unwrap_or_else(|error| {
            let (asked, status) = (self.ask("query --cache=no web.corp"), self.ask("status"));
            panic!("{error:#}\n{asked}\n{status}\n{}\n{}", self.resolved.log(), gateway.log())
        });
        let server: IpAddr = address::GATEWAY_A[0].parse().expect("an address");
        let text = self.host_resolver();
        assert!(text.contains(&format!("nameserver {server}\n")) && text != BEFORE, "{text}");
    }

    fn ask(&self, line: &str) -> String {
        let asked = self.resolved.ask(&self.deployment.topology().gateway_a, line);
        asked.unwrap_or_else(|error| format!("{error:#}"))
    }

    fn host_resolver(&self) -> String {
        fs::read_to_string(&self.resolv_conf).expect("a resolver configuration")
    }

    fn has_interface(&self) -> bool {
        let gateway = &self.deployment.topology().gateway_a;
        gateway.ip("link show").expect("listed").contains("ngdns0")
    }

    fn is_as_before(&self) {
        assert!(!self.has_interface());
        assert_eq!(self.host_resolver(), BEFORE);
        until("forgotten", LONG, || Ok((!self.ask("status").contains("corp")).then_some(())))
            .expect("as before");
    }
}

#[test]
fn resolvers_ask_the_private_dns_while_the_gateway_runs_and_are_given_back_after_a_crash_too() {
    let scene = Scene::new();
    let file = scene.resolv_conf.display();
    let both =
        format!("  upstreams: ['192.0.2.53:53']\n  resolved: [corp]\n  resolv_conf: '{file}'\n");
    scene.configure(&both);

    let mut gateway = scene.gateway();
    scene.is_asked(&gateway);
    let status = scene.ask("status ngdns0");
    assert!(status.contains("~corp") && status.contains("-DefaultRoute"), "{status}");
    let unknown = scene.ask("query --cache=no nothing.elsewhere.corp");
    assert!(unknown.contains("resolve call failed"), "{unknown}");

    // One that was killed is started again, and stopped in order.
    gateway.stop(Signal::SIGKILL, LONG).expect("killed");
    assert!(scene.has_interface() && scene.host_resolver() != BEFORE);
    let mut gateway = scene.gateway();
    scene.is_asked(&gateway);
    gateway.stop(Signal::SIGTERM, LONG).expect("stopped");
    scene.is_as_before();

    // After another kill, somebody takes down what is left.
    let mut gateway = scene.gateway();
    scene.is_asked(&gateway);
    gateway.stop(Signal::SIGKILL, LONG).expect("killed");
    run(&mut scene.deployment.role_command("gateway", "down", GATEWAY)).expect("down");
    scene.is_as_before();

    // Or the next gateway is told of no resolver.
    let mut gateway = scene.gateway();
    scene.is_asked(&gateway);
    gateway.stop(Signal::SIGKILL, LONG).expect("killed");
    scene.configure("");
    let mut gateway = scene.gateway();
    until("the resolvers as before", LONG, || {
        Ok((!scene.has_interface() && scene.host_resolver() == BEFORE).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.log()));
    scene.is_as_before();
    gateway.stop(Signal::SIGTERM, LONG).expect("stopped");

    // Where there is no systemd-resolved, it says so, and leaves nothing.
    scene.configure(&both);
    let command = scene.deployment.role_command("gateway", "run", GATEWAY);
    let mut gateway =
        Process::spawn("alone", command, &scene.deployment.file("")).expect("started");
    gateway.wait_for_output("dns.resolv_conf does not", LONG).expect("said");
    until("its end", LONG, || {
        Ok((!scene.has_interface() && scene.host_resolver() == BEFORE).then_some(()))
    })
    .expect("nothing is left");
}
