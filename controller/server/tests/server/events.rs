//! What happens, as the controller tells it.

use std::{fs, time::Duration};

use nightgate_model::{
    activity::CircuitNote,
    control::RouterMessage,
    event::{CircuitChange, Event, Occurrence},
    id::{IdentityId, RouterId, ServiceId},
    replica::LinkReport,
};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    channel::Channel,
    common::{Caller, Lab, MANAGEMENT},
    control::terminator,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The events so far, of these types.
async fn events(admin: &Caller, types: &str) -> Vec<Event> {
    let path = format!("{MANAGEMENT}/events?last=10000&type={types}");
    let text = admin.open(&path).await.text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asks until an event of a type is there.
async fn wait_for(admin: &Caller, kind: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    let look = async {
        loop {
            if let Some(found) = events(admin, kind).await.into_iter().find(&wanted) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("no {kind} in time"))
}

/// The events of a type, without what is the same in all.
async fn occurrences(admin: &Caller, kind: &str) -> Vec<serde_json::Value> {
    let events = events(admin, kind).await.into_iter();
    events.map(|event| serde_json::to_value(event.what).unwrap()).collect()
}

fn note(change: CircuitChange, service: &str, dialer: &str) -> CircuitNote {
    CircuitNote {
        change,
        ago: 60_000,
        circuit: Some("00000000000000ff".into()),
        service: ServiceId::new(service),
        dialer: IdentityId::new(dialer),
        host: None,
        path: vec![RouterId::new("elsewhere")],
        cause: Some("link-lost".into()),
        sent: 5,
        received: 7,
        moves: 1,
        milliseconds: 1_200,
    }
}

#[tokio::test]
async fn changes_sessions_routers_links_and_circuits_are_told() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (id, credentials) = lab.router("hub", false).await;
    let (alice, _) = lab.identity("alice", &[]).await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    let mut router = Channel::hello(&lab, &id, &credentials).await;
    router.send(&RouterMessage::TerminatorAdded(terminator("t", &id, &alice, &service))).await;
    let link = LinkReport { from: RouterId::new(&id), to: RouterId::new("far"), cost: 3 };
    router.send(&RouterMessage::Links { links: vec![link.clone()] }).await;
    router.send(&RouterMessage::Links { links: vec![LinkReport { cost: 9, ..link }] }).await;
    let notes = vec![note(CircuitChange::Closed, &service, &alice)];
    router.send(&RouterMessage::Circuits { notes, lost: 4 }).await;
    let is_circuit = |event: &Event| matches!(event.what, Occurrence::Circuit(_));
    let circuit = wait_for(&admin, "circuit", is_circuit).await;
    drop(router);
    wait_for(
        &admin,
        "router",
        |event| matches!(&event.what, Occurrence::Router(it) if it.reason.is_some()),
    )
    .await;

    let Occurrence::Circuit(told) = &circuit.what else { panic!("{circuit:?}") };
    assert_eq!((told.service.as_str(), told.dialer.as_str()), ("web", "alice"));
    assert_eq!((told.path[0].as_str(), told.cause.as_deref()), ("elsewhere", Some("link-lost")));
    let entity = wait_for(
        &admin,
        "entity",
        |event| matches!(&event.what, Occurrence::Entity(it) if it.name == "web"),
    );
    // It happened a minute before it was told.
    assert!(circuit.at < entity.await.at);
    let gaps = occurrences(&admin, "gap").await;
    assert_eq!(gaps, [json!({ "type": "gap", "lost": 4, "routerId": id })]);
    let links = occurrences(&admin, "link").await.into_iter().filter(|it| it["type"] == "link");
    let links: Vec<_> = links.map(|it| (it["event"].clone(), it["from"].clone())).collect();
    assert_eq!(links, [(json!("up"), json!("hub")), (json!("down"), json!("hub"))]);
    let words = |list: Vec<serde_json::Value>| -> Vec<String> {
        let of_kind = list.iter().filter(|it| it["type"] != "gap");
        of_kind.map(|it| it["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(words(occurrences(&admin, "terminator").await), ["added", "removed"]);
    assert_eq!(words(occurrences(&admin, "router").await), ["connected", "disconnected"]);
    assert_eq!(words(occurrences(&admin, "controller").await), ["started"]);
    assert!(words(occurrences(&admin, "session").await).contains(&"created".to_owned()));
}

#[tokio::test]
async fn a_follower_hears_of_what_comes_until_its_session_ends() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let follower = lab.admin().await;
    let path = format!("{MANAGEMENT}/events?last=0&follow=true&type=entity");
    let mut stream = follower.open(&path).await;
    admin.create("services", json!({ "name": "web" })).await;
    let next = async |stream: &mut reqwest::Response| {
        tokio::time::timeout(PATIENCE, stream.chunk()).await.unwrap().unwrap()
    };
    let event: Event = serde_json::from_slice(&next(&mut stream).await.unwrap()).unwrap();
    let Occurrence::Entity(told) = event.what else { panic!("{event:?}") };
    assert_eq!((told.name.as_str(), told.before), ("web", None));

    follower.delete("/current-api-session").await;
    admin.create("services", json!({ "name": "late" })).await;
    assert_eq!(next(&mut stream).await, None);

    for (query, code) in
        [("type=circit", StatusCode::BAD_REQUEST), ("tpye=x", StatusCode::BAD_REQUEST)]
    {
        let answer = admin.get(&format!("{MANAGEMENT}/events?{query}")).await;
        assert_eq!(answer.status, code, "{}", answer.body);
    }
    let (_, credentials) = lab.identity("alice", &[]).await;
    let mut alice = lab.caller(Some(&credentials));
    alice.authenticate("").await;
    let answer = alice.get(&format!("{MANAGEMENT}/events")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_file_has_every_event_of_every_start() {
    let lab = Lab::start().await;
    lab.admin().await.create("services", json!({ "name": "web" })).await;
    let lab = lab.restart().await;
    let Lab { controller, dir, .. } = lab;
    controller.stop().await;
    let text = fs::read_to_string(dir.path().join("events/events.jsonl")).unwrap();
    let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words: Vec<_> = events
        .iter()
        .filter_map(|event| {
            if let Occurrence::Controller(it) = &event.what {
                return Some(serde_json::to_value(it.event).unwrap());
            }
            let Occurrence::Entity(it) = &event.what else { return None };
            Some(json!(it.name))
        })
        .collect();
    assert_eq!(words, ["started", "web", "stopped", "started", "stopped"]);
}
