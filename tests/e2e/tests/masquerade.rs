//! Masqueraded flows have the address that their interface has, also when it changes while nobody tells the kernel.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use nightgate_lab::{
    Namespace,
    overlay::{Deployment, after},
    until, veth,
};

const GATEWAY: &str = "gw-a";
const LONG: Duration = Duration::from_secs(30);
/// After this long, what was sent has been refused: where the interface has no address, nothing can be translated.
const SHORT: Duration = Duration::from_secs(2);
/// Scenes until the gateways run.
const START: usize = 3;
/// Who is outside, and the addresses that the gateway has there one after the other.
const STRANGER: &str = "10.77.0.2";
const ADDRESSES: [&str; 3] = ["10.77.0.1", "10.77.0.11", "10.77.0.21"];

#[test]
fn the_address_of_the_outside_follows_the_interface_through_kill_and_restart() {
    let mut scene = Scene::new();
    let [first, second, third] = ADDRESSES;
    scene.sees(first, "the first address");

    scene.replace_address(first, second);
    scene.sees(second, "the second address: a running gateway follows");

    scene.deployment.kill(GATEWAY).expect("killed");
    scene.replace_address(second, third);
    scene.sees(second, "the second address: it is the one known last");

    scene.deployment.start_router("gateway", GATEWAY).expect("started");
    scene.sees(third, "the third address: a gateway that starts looks");
}

/// A gateway that hides its lan from a stranger.
struct Scene {
    deployment: Deployment,
    _stranger: Namespace,
    receiver: UdpSocket,
}

impl Scene {
    fn new() -> Self {
        let deployment = after(START).expect("a stage");
        let stranger = Namespace::new("stranger").expect("a namespace");
        let gateway = &deployment.topology().gateway_a;
        gateway.set("net/ipv4/ip_forward", "1").expect("set");
        veth((gateway, "extra0"), (&stranger, "eth0")).expect("plugged");
        gateway.add_address("extra0", &format!("{}/24", ADDRESSES[0])).expect("an address");
        stranger.add_address("eth0", &format!("{STRANGER}/24")).expect("an address");
        let bind = || UdpSocket::bind((STRANGER, 7000)).expect("bound");
        let receiver = stranger.enter(bind).expect("entered");
        receiver.set_read_timeout(Some(SHORT)).expect("set");
        let scene = Self { deployment, _stranger: stranger, receiver };
        scene.hide();
        scene
    }

    /// Lets the lan reach the stranger, by the gateway's address.
    fn hide(&self) {
        let own = self.deployment.file(&format!("{GATEWAY}.yaml"));
        let text = fs::read_to_string(own).expect("a configuration");
        let text = text
            .replace("zones:\n", "zones:\n  dmz: { interfaces: [extra0] }\n")
            .replace("rules:\n", "rules:\n  - { id: out, from: lan, to: dmz, action: accept }\n");
        let nat = "nat:\n  source:\n    - { id: hide, from: lan, to: dmz, becomes: masquerade }\n";
        let file = self.deployment.write("hide.yaml", &(text + nat)).expect("written");
        self.deployment.ask(GATEWAY, &format!("fw apply {}", file.display())).expect("applied");
    }

    fn replace_address(&self, old: &str, new: &str) {
        let gateway = &self.deployment.topology().gateway_a;
        gateway.ip(&format!("address del {old}/24 dev extra0")).expect("gone");
        gateway.add_address("extra0", &format!("{new}/24")).expect("an address");
    }

    /// Waits until the stranger takes the client for an address.
    fn sees(&self, address: &str, what: &str) {
        let is_seen = || Ok((self.seen() == Some(ip(address))).then_some(()));
        until(what, LONG, is_seen).expect(what);
    }

    /// Whom the stranger takes the client for, in a flow that begins. None if it hears nothing.
    fn seen(&self) -> Option<IpAddr> {
        let send = || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
            socket.send_to(b"who?", (STRANGER, 7000)).expect("sent");
        };
        self.deployment.topology().client.enter(send).expect("entered");
        self.receiver.recv_from(&mut [0; 8]).ok().map(|(_, from)| from.ip())
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
