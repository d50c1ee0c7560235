//! A gateway in a network namespace.

use std::net::SocketAddr;

use nightgate_abi::{Intercept, Reason, reason::Kind};
use nightgate_config::{ConfigError, Gateway, Tracking, parse};
use nightgate_datapath::{Datapath, Hook, IfIndex, Probe, ProbeResult, Verdict};
use nightgate_lab::Namespace;
use nightgate_ruleset::{Destination, InterceptImage, Network, RuleSet, ZoneName, compile};

/// Interface of zone `lan`: 10.1.0.1/24 and 2001:db8:1::1/64.
pub const LAN: &str = "lan0";
/// Interface of zone `wan`: 10.2.0.1/24, 2001:db8:2::1/64 and the default routes.
pub const WAN: &str = "wan0";
/// Interface in no zone, without programs: 10.4.0.1/24 and 2001:db8:4::1/64.
pub const PLAIN: &str = "plain0";

/// A gateway with the programs on two interfaces. The test runs in its namespace.
#[derive(Debug)]
pub struct World<'a> {
    /// The gateway's namespace.
    pub namespace: &'a Namespace,
    /// The programs.
    pub datapath: Datapath,
    /// The rules in force.
    pub rules: RuleSet,
}

/// What became of a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// What the program returned.
    pub verdict: Verdict,
    /// The reason that was counted.
    pub reason: Reason,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// Makes a gateway with these rules, given as lines of YAML, and calls a function inside its namespace.
pub fn with_world<T: Send>(rules: &str, test: impl FnOnce(&mut World<'_>) -> T + Send) -> T {
    with_uncommitted_world(|world| {
        world.commit(rules);
        test(world)
    })
}

/// Makes a gateway without rules in force, and calls a function inside its namespace.
pub fn with_uncommitted_world<T: Send>(test: impl FnOnce(&mut World<'_>) -> T + Send) -> T {
    let namespace = gateway_namespace();
    namespace
        .enter(|| {
            let mut datapath = Datapath::load().expect("the kernel object: `cargo xtask build`");
            datapath.attach(LAN, &zone("lan")).expect("attach");
            datapath.attach(WAN, &zone("wan")).expect("attach");
            test(&mut World { namespace: &namespace, datapath, rules: rule_set(" []") })
        })
        .expect("enter the namespace")
}

/// Makes the namespace of a gateway, without programs.
pub fn gateway_namespace() -> Namespace {
    let namespace = Namespace::new("datapath").expect("a namespace: tests run as root");
    prepare(&namespace).expect("interfaces, addresses and routes");
    namespace
}

/// Compiles rules for `lan` and `wan`, given as lines of YAML.
pub fn rule_set(rules: &str) -> RuleSet {
    tracked_rule_set(rules, Tracking::default())
}

/// Likewise, with settings of how flows are kept that no file could say, such as times of 0 s.
pub fn tracked_rule_set(rules: &str, tracking: Tracking) -> RuleSet {
    let mut gateway = gateway(rules).unwrap_or_else(|errors| panic!("{rules}\n{errors:#?}"));
    gateway.tracking = tracking;
    compile(&gateway).expect("rules within the limits")
}

/// The configuration of a gateway with these rules.
///
/// # Errors
/// What is wrong with them.
pub fn gateway(rules: &str) -> Result<Gateway, Vec<ConfigError>> {
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [{LAN}] }}\n  wan: {{ \
         interfaces: [{WAN}] }}\nrules:\n{rules}\n"
    );
    Ok(parse(&text, "rules.yaml")?.gateway.expect("a gateway"))
}

impl World<'_> {
    /// Puts other rules in force.
    pub fn commit(&mut self, rules: &str) {
        self.rules = rule_set(rules);
        self.datapath.commit(&self.rules.image()).expect("commit");
    }

    /// Intercepts these destinations and no others.
    pub fn intercept(&mut self, destinations: &[Destination]) {
        let image = InterceptImage::compile(destinations).expect("few destinations");
        self.datapath.set_intercepts(&image).expect("set");
    }

    /// Tells the programs the interfaces' addresses, which masqueraded flows get.
    pub fn tell_addresses(&mut self) {
        for (interface, number) in [(LAN, 1), (WAN, 2)] {
            let index = IfIndex::of(interface).expect("an interface");
            let addresses = [format!("10.{number}.0.1"), format!("2001:db8:{number}::1")]
                .map(|address| address.parse().expect("an address"));
            self.datapath.set_addresses(index, &addresses).expect("addresses");
        }
    }

    /// Sends a frame in by an interface.
    pub fn receive(&mut self, interface: &str, frame: &[u8]) -> Outcome {
        self.run(Hook::Ingress, interface, None, frame)
    }

    /// Sends a frame of the gateway itself out by an interface.
    pub fn send(&mut self, interface: &str, frame: &[u8]) -> Outcome {
        self.run(Hook::Egress, interface, None, frame)
    }

    /// Sends a forwarded frame out by an interface.
    pub fn forward(&mut self, received_by: &str, interface: &str, frame: &[u8]) -> Outcome {
        self.run(Hook::Egress, interface, Some(received_by), frame)
    }

    /// Runs a program. The reason it gives has to go with its verdict and to be counted, with the frame's
    /// length; beside it, the counters move with what the kernel sends by itself.
    pub fn run(
        &mut self,
        hook: Hook,
        interface: &str,
        received_by: Option<&str>,
        frame: &[u8],
    ) -> Outcome {
        let before = self.datapath.statistics().expect("statistics");
        let ProbeResult { verdict, reason, frame: after_run, .. } =
            self.probe(hook, interface, received_by, frame);
        let after = self.datapath.statistics().expect("statistics");
        let expected = match reason.kind() {
            Kind::Pass => Verdict::Pass,
            Kind::Drop if reason == Reason::Rejected && verdict == Verdict::Redirect => verdict,
            Kind::Drop => Verdict::Drop,
            Kind::Event => panic!("{reason} says nothing about the packet"),
        };
        assert_eq!(verdict, expected, "{reason}");
        let (before, after) = (before.get(reason), after.get(reason));
        assert!(after.packets > before.packets, "{reason} is counted");
        assert!(after.bytes >= before.bytes + frame.len() as u64, "{reason} counts bytes");
        Outcome { verdict, reason, frame: after_run }
    }

    /// Runs a program without a look at the counters, which takes most of the time of [`World::run`].
    pub fn probe(
        &mut self,
        hook: Hook,
        interface: &str,
        received_by: Option<&str>,
        frame: &[u8],
    ) -> ProbeResult {
        let index = |name| IfIndex::of(name).expect("an interface of the world");
        let (interface, received_by) = (index(interface), received_by.map(index));
        let probe = Probe { hook, interface, received_by, frame, repeat: 1 };
        self.datapath.probe(&probe).expect("run")
    }
}

/// One address and port that is intercepted.
pub fn intercepted(protocol: u8, service: SocketAddr, value: Intercept) -> Destination {
    let (network, port) = (Network::host(service.ip()), service.port());
    Destination { network, protocol, ports: (port, port), value }
}

fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).expect("a zone's name")
}

fn prepare(namespace: &Namespace) -> Result<(), Box<dyn std::error::Error>> {
    namespace.set("net/ipv4/ip_forward", "1")?;
    namespace.set("net/ipv6/conf/all/forwarding", "1")?;
    for (number, interface) in [(1, LAN), (2, WAN), (4, PLAIN)] {
        // The destination of the frames of tests.
        let address = "address 02:00:00:00:00:01";
        namespace
            .ip(&format!("link add {interface} {address} type veth peer name {interface}-far"))?;
        namespace.ip(&format!("link set {interface}-far up"))?;
        namespace.ip(&format!("link set {interface} up"))?;
        namespace.add_address(interface, &format!("10.{number}.0.1/24"))?;
        namespace.add_address(interface, &format!("2001:db8:{number}::1/64"))?;
    }
    namespace.add_route("default", "10.2.0.254")?;
    namespace.add_route("default", "2001:db8:2::fe")?;
    namespace.ip("route add blackhole 10.66.0.0/16")?;
    namespace.ip("-6 route add blackhole 2001:db8:66::/48")?;
    Ok(())
}
