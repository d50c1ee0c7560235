//! What operators see of routers.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};

use crate::{
    offline::{dial, greet, greeting, refused_as},
    overlay::{Overlay, free_address},
};

/// What Prometheus would get.
fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_routers_links_circuits_and_what_becomes_of_dials() {
    let mut overlay = Overlay::start();
    let (hub, edge) = (overlay.enroll_router("hub"), overlay.enroll_router("edge"));
    let scraped = free_address();
    let metrics = format!("metrics: {{ listen: \"{scraped}\" }}");
    let _hub = overlay.start_router(&hub, &metrics);
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
    assert!(why.contains("a path leads to a host") && why.contains("2 succeeded"), "{why}");
    let paths = overlay.ask("fabric paths hub edge").unwrap();
    assert_eq!(paths[0]["path"], json!(["hub", "edge"]));
    let table = overlay.run(&["fabric", "paths", "web"]);
    assert!(table.contains("yes") && table.contains("host"), "{table}");
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
    let used = |overlay: &Overlay| {
        let lines = overlay.ask("usage --identity dialer --since 1h").unwrap();
        lines.as_array().unwrap().iter().any(|it| {
            it["service"] == "web"
                && it["host"] == "host"
                && it["circuits"] == 2
                && it["received"].as_u64() >= Some(10)
        })
    };
    overlay.wait("usage is counted", used);
    overlay.kill_controller();
    overlay.start_controller();
    assert!(used(&overlay), "usage outlives kill -9");
    overlay.wait("the hub finds the controller again", |overlay| {
        let hubs = overlay.ask("fabric routers name=\"hub\"").unwrap();
        hubs[0]["isOnline"] == true && hubs[0]["links"] == 1
    });
    let text = scrape(scraped);
    for line in [
        "nightgate_link_round_trip_microseconds{peer=\"edge\"} ",
        "nightgate_link_bytes_total{direction=\"sent\",peer=\"edge\"} ",
        "nightgate_circuit_memory_bytes{bound=\"limit\"} 1073741824",
        "nightgate_controller_silence_seconds 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let sockets = [&hub.socket, &edge.socket].map(|socket| socket.to_str().unwrap());
    let both = sockets.map(|socket| overlay.run(&["metrics", "--socket", socket])).concat();
    for line in [
        "nightgate_dials_total{outcome=\"opened\",service=\"web\"} ",
        "nightgate_dials_total{outcome=\"no-terminator\",service=\"idle\"} ",
        "nightgate_circuits_closed_total{cause=",
    ] {
        assert!(both.contains(line), "{line} is not in\n{both}");
    }
    let routers = overlay.ask("fabric routers isOnline=true").unwrap();
    assert_eq!(routers.as_array().map(Vec::len), Some(2), "{routers}");
    let table = overlay.run(&["fabric", "routers"]);
    assert!(table.contains("hub") && table.contains("TERMINATORS"), "{table}");
    served.abort();
}
