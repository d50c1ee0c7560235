//! Who is on the way to a service.

use std::fs;

use crate::{offline::greet, overlay::Overlay};

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_names_every_router_on_the_way() {
    let overlay = Overlay::start();
    let (hub, edge) = (overlay.enroll_router("hub"), overlay.enroll_router("edge"));
    let _hub = overlay.start_router(&hub, "");
    let _edge = overlay.start_router(&edge, "");
    overlay.run(&["edge-router-policy", "delete", "all-identities-all-routers"]);
    for (name, identity, router) in
        [("hosts", "#web-host", "@edge"), ("dialers", "#web-dial", "@hub")]
    {
        let roles = ["--identity", identity, "--router", router];
        overlay.run(&[&["edge-router-policy", "create", name][..], &roles].concat());
    }
    overlay.create_service("web");
    let host = overlay.join("host", "web-host").await;
    let served = tokio::spawn(greet(host.bind("web").await.unwrap()));
    let (token, file) = (overlay.path("tracer.jwt"), overlay.path("tracer.json"));
    let created = overlay.run(&["identity", "create", "tracer", "--attribute", "web-dial"]);
    fs::write(&token, created).unwrap();
    let file = file.to_str().unwrap();
    overlay.run(&["enroll", token.to_str().unwrap(), "--out", file]);

    let routers = overlay.ask("fabric routers").unwrap();
    let id = |name: &str| {
        let known = routers.as_array().unwrap().iter().find(|it| it["name"] == name);
        known.unwrap()["id"].clone()
    };
    overlay.wait("the way is traced", |overlay| {
        let Some(hops) = overlay.ask(&format!("trace-route {file} web")) else { return false };
        let hops = hops.as_array().unwrap();
        let way: Vec<_> = hops.iter().map(|hop| hop["router"].clone()).collect();
        way == [id("hub"), id("edge")]
            && hops.iter().all(|hop| hop["kind"] == "xgress/edge")
            && hops.iter().all(|hop| hop["roundTripUs"].as_u64() > Some(0))
    });
    let table = overlay.run(&["trace-route", file, "web"]);
    assert!(table.contains("ROUND TRIP"), "{table}");
    served.abort();
}
