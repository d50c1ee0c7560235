//! Circuits whose dialer's router dies.

use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::{
    offline::{dial, greet},
    overlay::Overlay,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_router_tells_that_a_circuit_is_over_whose_dialers_router_has_died() {
    let overlay = Overlay::start();
    let (near, far) = (overlay.enroll_router("near"), overlay.enroll_router("far"));
    let near = overlay.start_router(&near, "");
    let _far = overlay.start_router(&far, "");
    overlay.create_service("web");
    overlay.run(&["edge-router-policy", "delete", "all-identities-all-routers"]);
    for (name, identity, router) in
        [("dialers", "#web-dial", "@near"), ("hosts", "#web-host", "@far")]
    {
        let roles = ["--identity", identity, "--router", router];
        overlay.run(&[&["edge-router-policy", "create", name][..], &roles].concat());
    }
    let host = overlay.join("host", "web-host").await;
    let dialer = overlay.join("dialer", "web-dial").await;
    let served = tokio::spawn(greet(host.bind("web").await.unwrap()));
    let mut stream = dial(&dialer, "web").await;
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).await.unwrap();

    near.kill();

    overlay.wait("the event tells of it", |overlay| {
        let events = overlay.run(&["events", "--type", "circuit", "--json"]);
        events.lines().any(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["event"] == "closed"
                && event["cause"] == "link-lost"
                && event["toldBy"] == "far"
                && event["dialer"] == "dialer"
                && event["host"] == "host"
                && event["received"].as_u64() >= Some(5)
        })
    });
    served.abort();
}
