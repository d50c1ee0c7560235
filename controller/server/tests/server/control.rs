//! The routers' control channel over real TLS.

use crate::{
    channel::{Channel, hello, nothing},
    common::{Credentials, Lab, MANAGEMENT, claims},
};
use nightgate_model::{
    control::{ALPN, ControllerMessage, Holding, RouterMessage, VERSION},
    entity::{Permission, Terminator},
    id::{IdentityId, RouterId, ServiceId, TerminatorId},
    replica::{Digest, LinkReport, Replica},
};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

pub(crate) fn terminator(id: &str, router: &str, host: &str, service: &str) -> Terminator {
    Terminator {
        id: TerminatorId::new(id),
        service: ServiceId::new(service),
        router: RouterId::new(router),
        host: IdentityId::new(host),
        instance: String::new(),
        secret: String::new(),
        precedence: Default::default(),
        cost: 7,
    }
}

pub(crate) fn policy(name: &str, kind: &str) -> serde_json::Value {
    json!({
        "name": name, "type": kind, "semantic": "AnyOf",
        "identityRoles": ["#all"], "serviceRoles": ["#all"],
    })
}

#[tokio::test]
async fn a_router_gets_the_model_and_every_change_of_it() {
    let lab = Lab::start().await;
    let (id, credentials) = lab.router("hub", false).await;
    let (alice, _) = lab.identity("alice", &[]).await;
    let mut channel = Channel::hello(&lab, &id, &credentials).await;
    let first = channel.replica(|_| true).await;
    let router = first.router(&RouterId::new(&id)).expect("its own enrollment is published");
    assert_eq!(first.router_by_fingerprint(&router.fingerprint), Some(router));
    assert_eq!(first.token_keys.len(), 1);
    assert!(first.identities[&IdentityId::new(&alice)].fingerprint.is_some());

    let admin = lab.admin().await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    admin.create("service-policies", policy("dial", "Dial")).await;
    let (alice, service) = (IdentityId::new(alice), ServiceId::new(service));
    let changed = channel
        .replica(|replica| replica.authorizations.allows(&alice, Permission::Dial, &service))
        .await;
    assert!(changed.index > first.index);
    assert_eq!(changed.service_named("web").unwrap().id, service);

    let path = format!("{MANAGEMENT}/services/{service}");
    assert_eq!(admin.delete(&path).await.status, 200);
    let last = channel.replica(|replica| replica.services.is_empty()).await;
    assert!(last.index > changed.index);
    assert!(!last.authorizations.allows(&alice, Permission::Dial, &service));
}

#[tokio::test]
async fn session_tokens_verify_with_the_published_key_and_name_a_published_index() {
    let lab = Lab::start().await;
    let (id, credentials) = lab.router("hub", false).await;
    let (_, alices) = lab.identity("alice", &[]).await;
    let alice = lab.client(&alices).await;
    let mut channel = Channel::hello(&lab, &id, &credentials).await;
    let token = alice.token.unwrap();
    let index = claims(&token)["ng_idx"].as_u64().unwrap();
    let replica = channel.replica(|replica| replica.index >= index).await;
    assert!(replica.token_keys[0].starts_with("-----BEGIN PUBLIC KEY-----"));
}

#[tokio::test]
async fn routers_are_told_at_once_whom_to_cut_off() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (alice, _) = lab.identity("alice", &["staff"]).await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    let staff = json!({
        "name": "p", "type": "Dial", "semantic": "AnyOf",
        "identityRoles": ["#staff"], "serviceRoles": ["#all"],
    });
    admin.create("service-policies", staff).await;
    let (hub, hubs) = lab.router("hub", false).await;
    let (edge, edges) = lab.router("edge", false).await;
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    let mut cut_off = Channel::hello(&lab, &edge, &edges).await;
    let (alice, service) = (IdentityId::new(alice), ServiceId::new(service));
    let may = |replica: &Replica| replica.authorizations.allows(&alice, Permission::Dial, &service);
    channel.replica(may).await;
    let path = format!("{MANAGEMENT}/identities/{alice}");
    admin.patch(&path, json!({ "roleAttributes": ["sales"] })).await;
    let changed = channel.replica(|replica| !may(replica)).await;
    assert!(changed.identities.contains_key(&alice));
    admin.post(&format!("{path}/disable"), json!({})).await;
    channel.replica(|replica| !replica.identities.contains_key(&alice)).await;
    admin.post(&format!("{path}/enable"), json!({})).await;
    channel.replica(|replica| replica.identities.contains_key(&alice)).await;
    let path = format!("{MANAGEMENT}/edge-routers/{edge}");
    admin.patch(&path, json!({ "disabled": true })).await;
    channel.replica(|replica| replica.router(&RouterId::new(&edge)).is_none()).await;
    while cut_off.next().await.is_some() {}
}

#[tokio::test]
async fn what_a_router_reports_is_told_to_all_and_goes_with_it() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    admin.create("service-policies", policy("bind", "Bind")).await;
    let (host, _) = lab.identity("host", &[]).await;
    let (hub, hubs) = lab.router("hub", false).await;
    let (edge, edges) = lab.router("edge", false).await;
    let mut watcher = Channel::hello(&lab, &hub, &hubs).await;
    let mut reporter = Channel::hello(&lab, &edge, &edges).await;
    let reported = terminator("t", &edge, &host, &service);
    reporter.send(&RouterMessage::TerminatorAdded(reported.clone())).await;
    let link = LinkReport { from: RouterId::new(&edge), to: RouterId::new(&hub), cost: 3 };
    reporter.send(&RouterMessage::Links { links: vec![link.clone()] }).await;
    let with = watcher.replica(|r| !r.terminators.is_empty() && !r.links.is_empty()).await;
    assert_eq!(*with.terminators, [reported]);
    assert_eq!(*with.links, [link]);
    let listed = admin.get(&format!("{MANAGEMENT}/terminators")).await.body;
    assert_eq!(listed["data"][0]["router"]["name"], "edge");
    let path = format!("{MANAGEMENT}/explain?identity=host&service=web&type=Bind");
    assert_eq!(admin.get(&path).await.body["data"]["allowed"], true);

    drop(reporter);
    let without = watcher.replica(|r| r.terminators.is_empty() && r.links.is_empty()).await;
    assert!(without.index > with.index);
}

#[tokio::test]
async fn a_terminator_of_a_host_that_may_not_bind_is_not_told() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    let (host, _) = lab.identity("host", &[]).await;
    let (hub, hubs) = lab.router("hub", false).await;
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    let reported = terminator("t", &hub, &host, &service);
    channel.send(&RouterMessage::TerminatorAdded(reported)).await;
    let bind = admin.create("service-policies", policy("bind", "Bind")).await.id;
    channel.replica(|replica| replica.terminators.len() == 1).await;
    admin.delete(&format!("{MANAGEMENT}/service-policies/{bind}")).await;
    channel.replica(|replica| replica.terminators.is_empty()).await;
}

#[tokio::test]
async fn clients_are_sent_to_connected_routers_that_advertise_an_address() {
    let lab = Lab::start().await;
    let (_, alices) = lab.identity("alice", &[]).await;
    let alice = lab.client(&alices).await;
    let (hub, hubs) = lab.router("hub", false).await;
    let (private, privates) = lab.router("private", false).await;
    let routers = "/current-identity/edge-routers?limit=25&offset=0";
    assert_eq!(alice.get(routers).await.body["data"], json!([]));
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    channel.replica(|_| true).await;
    let mut dialing_out = Channel::open(&lab, Some(&privates), ALPN).await.unwrap();
    let mut message = hello(&private);
    if let RouterMessage::Hello { address, .. } = &mut message {
        *address = None;
    }
    dialing_out.send(&message).await;
    dialing_out.replica(|_| true).await;
    let body = alice.get(routers).await.body;
    assert_eq!(body["meta"]["pagination"]["totalCount"], 1);
    assert_eq!(body["data"][0]["supportedProtocols"]["tls"], "tls://router.example:443");
    assert_eq!(body["data"][0]["hostname"], "router.example");
    assert_eq!(body["data"][0]["isOnline"], true);
}

#[tokio::test]
async fn clients_are_sent_to_the_routers_that_policies_give_them() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (_, alices) = lab.identity("alice", &["staff"]).await;
    let alice = lab.client(&alices).await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    admin.create("service-policies", policy("dial", "Dial")).await;
    let (hub, hubs) = lab.router("hub", false).await;
    let (edge, edges) = lab.router("edge", false).await;
    let mut at_hub = Channel::hello(&lab, &hub, &hubs).await;
    let mut at_edge = Channel::hello(&lab, &edge, &edges).await;
    at_hub.replica(|_| true).await;
    at_edge.replica(|_| true).await;
    let names = |list: &serde_json::Value| {
        let names = list.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let all = alice.get("/current-identity/edge-routers").await.body;
    assert_eq!(names(&all["data"]), "edge hub", "policies of a new controller give all");

    let (everyone, _) = admin.find("edge-router-policies", "all-identities-all-routers").await;
    let staff = json!({ "identityRoles": ["#staff"], "edgeRouterRoles": [format!("@{hub}")] });
    assert_eq!(admin.patch(&everyone, staff).await.status, 200);
    let own = alice.get("/current-identity/edge-routers").await.body;
    assert_eq!(names(&own["data"]), "hub");
    let open = json!({ "serviceId": service, "type": "Dial" });
    let session = alice.post("/sessions", open.clone()).await.body;
    assert_eq!(names(&session["data"]["edgeRouters"]), "hub");

    let (carried, _) = admin.find("service-edge-router-policies", "all-services-all-routers").await;
    let at_edge_only = json!({ "edgeRouterRoles": [format!("@{edge}")] });
    assert_eq!(admin.patch(&carried, at_edge_only).await.status, 200);
    let path = format!("/services/{service}/edge-routers");
    assert_eq!(names(&alice.get(&path).await.body["data"]["edgeRouters"]), "");
    alice.post("/sessions", open).await.assert_refused(400, "NO_EDGE_ROUTERS_AVAILABLE");
    let path = format!("{MANAGEMENT}/explain?identity=alice&service=web&type=Dial");
    let explained = admin.get(&path).await.body["data"]["steps"].to_string();
    assert!(
        explained.contains("edge lacks") || explained.contains("not among its roles"),
        "{explained}"
    );
    let missing = json!({ "edgeRouterRoles": ["@nowhere"] });
    admin.patch(&carried, missing).await.assert_refused(400, "COULD_NOT_VALIDATE");
}

#[tokio::test]
async fn only_an_enrolled_routers_own_certificate_opens_a_channel() {
    let lab = Lab::start().await;
    let (hub, hubs) = lab.router("hub", false).await;
    let (other, _) = lab.router("other", false).await;
    let (alice, alices) = lab.identity("alice", &[]).await;

    if let Ok(mut channel) = Channel::open(&lab, None, ALPN).await {
        assert_eq!(channel.next().await, None);
    }
    let mut channel = Channel::hello(&lab, &alice, &alices).await;
    channel.replica(|replica| *replica == nothing()).await;
    assert_eq!(channel.next().await, None);
    let mut impostor = Channel::hello(&lab, &other, &hubs).await;
    let refused = impostor.next().await.unwrap();
    let ControllerMessage::Refused { reason } = refused else { panic!("{refused:?}") };
    assert!(reason.contains(&hub), "{reason}");
    assert_eq!(impostor.next().await, None);
}

#[tokio::test]
async fn a_router_of_another_version_is_told_so() {
    let lab = Lab::start().await;
    let (hub, hubs) = lab.router("hub", false).await;
    let mut channel = Channel::open(&lab, Some(&hubs), ALPN).await.unwrap();
    let mut message = hello(&hub);
    if let RouterMessage::Hello { version, .. } = &mut message {
        *version = VERSION + 1;
    }
    channel.send(&message).await;
    let refused = channel.next().await.unwrap();
    assert!(matches!(refused, ControllerMessage::Refused { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_deleted_router_is_cut_off() {
    let lab = Lab::start().await;
    let (hub, hubs) = lab.router("hub", false).await;
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    channel.replica(|_| true).await;
    lab.admin().await.delete(&format!("{MANAGEMENT}/edge-routers/{hub}")).await;
    channel.replica(|replica| *replica == nothing()).await;
    while channel.next().await.is_some() {}
    let mut again = Channel::hello(&lab, &hub, &hubs).await;
    again.replica(|replica| *replica == nothing()).await;
    assert_eq!(again.next().await, None);
}

#[tokio::test]
async fn a_router_that_speaks_for_another_is_cut_off() {
    let lab = Lab::start().await;
    let (hub, hubs) = lab.router("hub", false).await;
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    channel.replica(|_| true).await;
    let foreign = terminator("t", "somebody-else", "h", "s");
    channel.send(&RouterMessage::TerminatorAdded(foreign)).await;
    while channel.next().await.is_some() {}
}

#[tokio::test]
async fn garbage_ends_the_channel_and_nothing_else() {
    let lab = Lab::start().await;
    let (hub, hubs) = lab.router("hub", false).await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n        "[..],
        &[0x03, 0x06, 0x09, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
    ] {
        let mut channel = Channel::open(&lab, Some(&hubs), ALPN).await.unwrap();
        channel.stream.write_all(garbage).await.unwrap();
        assert_eq!(channel.next().await, None);
    }
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    channel.replica(|_| true).await;
}

#[tokio::test]
async fn an_unknown_protocol_and_a_foreign_certificate_are_refused_by_tls() {
    let lab = Lab::start().await;
    let unknown = Channel::open(&lab, None, b"ziti-link").await;
    assert!(unknown.is_err());
    let stranger = Lab::start().await;
    let (_, foreign) = stranger.router("hub", false).await;
    let refused = match Channel::open(&lab, Some(&foreign), ALPN).await {
        Err(_) => true,
        Ok(mut channel) => channel.next().await.is_none(),
    };
    assert!(refused);
}

#[tokio::test]
async fn a_router_that_does_not_read_does_not_hold_up_others() {
    let lab = Lab::start().await;
    let (hub, hubs) = lab.router("hub", false).await;
    let (edge, edges) = lab.router("edge", false).await;
    let _silent = Channel::hello(&lab, &hub, &hubs).await;
    let mut reader = Channel::hello(&lab, &edge, &edges).await;
    let admin = lab.admin().await;
    admin.create("config-types", json!({ "name": "big" })).await;
    let config = json!({ "big": "x".repeat(50_000) });
    for index in 0..40 {
        admin.create("services", json!({ "name": format!("s{index}"), "config": config })).await;
    }
    let replica = reader.replica(|replica| replica.services.len() == 40).await;
    assert_eq!(replica.services.len(), 40);
}

#[tokio::test]
async fn the_index_never_repeats_after_a_restart() {
    let lab = Lab::start().await;
    let (hub, hubs) = lab.router("hub", false).await;
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    let link = LinkReport { from: RouterId::new(&hub), to: RouterId::new(&hub), cost: 1 };
    channel.send(&RouterMessage::Links { links: vec![link] }).await;
    let before = channel.replica(|replica| !replica.links.is_empty()).await;
    drop(channel);
    let lab = lab.restart().await;
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    let after = channel.replica(|replica| replica.router(&RouterId::new(&hub)).is_some()).await;
    assert!(after.index >= before.index);
    assert!(after.links.is_empty());
}

/// Says hello as a router that holds a replica already.
async fn come_back(lab: &Lab, id: &str, credentials: &Credentials, holds: Holding) -> Channel {
    let mut channel = Channel::open(lab, Some(credentials), ALPN).await.unwrap();
    let mut message = hello(id);
    if let RouterMessage::Hello { holds: held, .. } = &mut message {
        *held = Some(holds);
    }
    channel.send(&message).await;
    channel
}

#[tokio::test]
async fn a_router_is_told_changes_and_the_whole_only_if_it_has_to_be() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (hub, hubs) = lab.router("hub", false).await;
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    let first = channel.next().await.unwrap();
    assert!(matches!(first, ControllerMessage::Replica(_)), "{first:?}");
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    let first = channel.replica(|_| true).await;
    admin.create("services", json!({ "name": "web" })).await;
    let (mut second, mut digest) = (first.clone(), first.digest());
    // That the router has connected may be told before.
    while second.services.is_empty() {
        let ControllerMessage::Changes(changes) = channel.next().await.unwrap() else {
            panic!("a change is told as one")
        };
        changes.apply(&mut second, &mut digest).unwrap();
    }
    drop(channel);

    // It was away meanwhile, and gets what it has missed.
    admin.create("services", json!({ "name": "shop" })).await;
    let holds = Holding { index: second.index, digest };
    let mut channel = come_back(&lab, &hub, &hubs, holds).await;
    (channel.replica, channel.digest) = (second.clone(), digest);
    loop {
        match channel.next().await.unwrap() {
            ControllerMessage::Changes(changes) => {
                changes.apply(&mut channel.replica, &mut channel.digest).unwrap();
            }
            ControllerMessage::Alive => {}
            other @ (ControllerMessage::Refused { .. }
            | ControllerMessage::Replica(_)
            | ControllerMessage::Certificate { .. }
            | ControllerMessage::NoCertificate { .. }
            | ControllerMessage::QuarantineBegun { .. }) => {
                panic!("it needs changes only, found {other:?}")
            }
        }
        if channel.replica.services.len() == 2 {
            break;
        }
    }
    assert_eq!(channel.digest, channel.replica.digest());

    // What it has is not what the controller had: it gets the whole, and so it does when it asks.
    let foreign = Holding { index: second.index, digest: Digest::default() };
    let mut channel = come_back(&lab, &hub, &hubs, foreign).await;
    let whole = channel.next().await.unwrap();
    assert!(matches!(whole, ControllerMessage::Replica(_)), "{whole:?}");
    channel.send(&RouterMessage::WholeWanted).await;
    while !matches!(channel.next().await.unwrap(), ControllerMessage::Replica(_)) {}
}
