//! What identities have used, and which path would be chosen.

use std::time::Duration;

use nightgate_model::{
    activity::UsageDelta,
    control::RouterMessage,
    id::{IdentityId, RouterId, ServiceId},
    replica::LinkReport,
};
use serde_json::{Value, json};

use crate::{
    channel::Channel,
    common::{Caller, Lab, MANAGEMENT},
    control::{policy, terminator},
};

const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(admin: &Caller, path: &str) -> Value {
    let answer = admin.get(&format!("{MANAGEMENT}/{path}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["data"].clone()
}

/// Asks until the answer is as wanted.
async fn wait_for(admin: &Caller, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let found = ask(admin, path).await;
            if wanted(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{path}: not in time"))
}

#[tokio::test]
async fn usage_adds_up_and_survives_a_restart() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (id, credentials) = lab.router("hub", false).await;
    let (alice, _) = lab.identity("alice", &[]).await;
    let (bob, _) = lab.identity("bob", &[]).await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    let delta = |dialer: &str, sent| UsageDelta {
        service: ServiceId::new(&service),
        dialer: IdentityId::new(dialer),
        host: IdentityId::new(&bob),
        circuits: 1,
        sent,
        received: 7,
    };
    let mut router = Channel::hello(&lab, &id, &credentials).await;
    router.send(&RouterMessage::Usage { deltas: vec![delta(&alice, 5), delta("gone", 1)] }).await;
    router.send(&RouterMessage::Usage { deltas: vec![delta(&alice, 6)] }).await;
    let is_all = |lines: &Value| lines[0]["sent"] == 11;
    let lines = wait_for(&admin, "usage", is_all).await;

    let line = |dialer: &str, sent: u64, circuits: u64| {
        json!([dialer, "bob", "web", circuits, sent, 7 * circuits])
    };
    let seen = |line: &Value| {
        let fields = ["dialer", "host", "service", "circuits", "sent", "received"];
        Value::from(fields.map(|field| line[field].clone()).to_vec())
    };
    assert_eq!([seen(&lines[0]), seen(&lines[1])], [line("alice", 11, 2), line("gone", 1, 1)]);
    drop(router);
    let lab = lab.restart().await;
    let admin = lab.admin().await;
    assert_eq!(ask(&admin, "usage?identity=alice&ago=3600").await, json!([lines[0]]));
    assert_eq!(ask(&admin, &format!("usage?identity={bob}&service=web")).await, lines);
    assert_eq!(ask(&admin, "usage?since=2999-01-01T00:00:00Z").await, json!([]));
    let wrong = admin.get(&format!("{MANAGEMENT}/usage?since=yesterday")).await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn paths_are_told_with_the_cost_of_each_leg() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    admin.create("service-policies", policy("bind", "Bind")).await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    let (bob, _) = lab.identity("bob", &[]).await;
    let mut routers = Vec::new();
    for name in ["a", "b", "c"] {
        let (id, credentials) = lab.router(name, false).await;
        let channel = Channel::hello(&lab, &id, &credentials).await;
        routers.push((id, channel));
    }
    let ids: Vec<String> = routers.iter().map(|(id, _)| id.clone()).collect();
    let link = |from: usize, to: usize, cost| LinkReport {
        from: RouterId::new(&ids[from]),
        to: RouterId::new(&ids[to]),
        cost,
    };
    let links = [
        vec![link(0, 1, 1), link(0, 2, 50)],
        vec![link(1, 0, 1), link(1, 2, 2)],
        vec![link(2, 0, 50), link(2, 1, 2)],
    ];
    for ((id, channel), links) in routers.iter_mut().zip(links) {
        channel.send(&RouterMessage::Links { links }).await;
        if *id == ids[2] {
            let terminator = terminator("t", id, &bob, &service);
            channel.send(&RouterMessage::TerminatorAdded(terminator)).await;
        }
    }
    let paths = wait_for(&admin, "fabric/paths?from=a&to=c", |paths| paths[0]["cost"] == 23).await;
    assert_eq!(paths[0]["path"], json!(["a", "b", "c"]));
    assert_eq!(paths[0]["legs"][1], json!({ "from": "b", "to": "c", "cost": 2 }));
    assert_eq!((&paths[1]["cost"], &paths[1]["chosen"]), (&json!(60), &json!(false)));
    let has_three = |paths: &Value| paths.as_array().is_some_and(|paths| paths.len() == 3);
    let paths = wait_for(&admin, "fabric/paths?service=web", has_three).await;
    let mut costs: Vec<_> =
        paths.as_array().unwrap().iter().map(|path| path["cost"].clone()).collect();
    costs.sort_by_key(Value::as_u64);
    // The host itself asks for 7.
    assert_eq!(costs, [7, 19, 30]);
    assert_eq!(paths[0]["host"], "bob");
    let middle = format!("{MANAGEMENT}/edge-routers/{}", ids[1]);
    assert_eq!(admin.patch(&middle, json!({ "cost": 90 })).await.status, 200);
    wait_for(&admin, "fabric/paths?from=a&to=c", |paths| paths[0]["path"] == json!(["a", "c"]))
        .await;
    for wrong in ["fabric/paths", "fabric/paths?from=a", "fabric/paths?from=x&to=a"] {
        assert!(admin.get(&format!("{MANAGEMENT}/{wrong}")).await.status.is_client_error());
    }
}
