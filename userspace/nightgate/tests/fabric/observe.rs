//! What operators see of routers.

use serde_json::{Value, json};

use crate::{
    offline::{dial, greet, greeting, refused_as},
    overlay::Overlay,
};

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_routers_links_circuits_and_what_becomes_of_dials() {
    let overlay = Overlay::start();
    let (hub, edge) = (overlay.enroll_router("hub"), overlay.enroll_router("edge"));
    let _hub = overlay.start_router(&hub, "");
    let _edge = overlay.start_router(&edge, "");
    overlay.create_service("web");
    overlay.create_service("idle");
    overlay.run(&["identity", "create", "nobody", "--attribute", "idle-host"]);
    let host = overlay.join("host", "web-host").await;
    let dialer = overlay.join("dialer", "web-dial").await;
    let idler = overlay.join("idler", "idle-dial").await;
    overlay.wait("both routers link to each other", |overlay| {
        let links = overlay.ask("fabric links").unwrap();
        let has = |from: &str, to: &str| {
            links.as_array().unwrap().iter().any(|it| it["from"] == from && it["to"] == to)
        };
        has("hub", "edge") && has("edge", "hub")
    });
    let served = tokio::spawn(greet(host.bind("web").await.unwrap()));
    assert_eq!(greeting(dial(&dialer, "web").await).await, "hello");
    let open = dial(&dialer, "web").await;
    refused_as(&idler, "idle", "no-terminator").await;

    overlay.wait("the circuit is shown", |overlay| {
        let circuits = overlay.ask("fabric circuits service=\"web\"").unwrap();
        let mut circuits = circuits.as_array().unwrap().iter();
        circuits.any(|circuit| {
            circuit["dialer"] == "dialer"
                && circuit["host"] == "host"
                && circuit["path"].as_array().is_some_and(|path| !path.is_empty())
        })
    });
    overlay.wait("dials are counted", |overlay| {
        let services = overlay.ask("fabric services").unwrap();
        let of = |name: &str| services.as_array().unwrap().iter().find(|it| it["name"] == name);
        let (web, idle) = (of("web"), of("idle"));
        web.is_some_and(|web| web["opened"] == 2 && web["failed"] == 0 && web["ill"].is_null())
            && idle.is_some_and(|idle| {
                idle["causes"]["no-terminator"].as_u64() >= Some(1)
                    && idle["ill"] == json!("router-to-host")
            })
    });
    let why = overlay.run(&["explain", "dial", "dialer", "web"]);
    assert!(why.contains("a path leads to a host"), "{why}");
    drop(open);
    overlay.wait("the circuit is gone", |overlay| {
        overlay.ask("fabric circuits").unwrap() == json!([])
    });
    overlay.wait("events tell of it", |overlay| {
        let events = overlay.run(&["events", "--type", "circuit", "--json"]);
        let events: Vec<Value> =
            events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |change: &str, service: &str| {
            let is = |it: &&Value| it["event"] == change && it["service"] == service;
            events.iter().filter(is).cloned().collect::<Vec<_>>()
        };
        let (opened, closed, failed) =
            (of("opened", "web"), of("closed", "web"), of("failed", "idle"));
        opened.len() == 2
            && closed.len() == 2
            && closed.iter().all(|it| it["dialer"] == "dialer" && it["host"] == "host")
            && closed.iter().all(|it| it["received"].as_u64() >= Some(5))
            && failed.iter().any(|it| it["cause"] == "no-terminator" && it["dialer"] == "idler")
    });
    let events = overlay.run(&["events", "--type", "link,router"]);
    assert!(events.contains("hub > edge, cost ") && events.contains("connected"), "{events}");
    let routers = overlay.ask("fabric routers isOnline=true").unwrap();
    assert_eq!(routers.as_array().map(Vec::len), Some(2), "{routers}");
    let table = overlay.run(&["fabric", "routers"]);
    assert!(table.contains("hub") && table.contains("TERMINATORS"), "{table}");
    served.abort();
}
