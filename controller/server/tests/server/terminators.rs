//! What operators decide about terminators, in the place of their hosts.

use nightgate_model::{
    control::RouterMessage,
    entity::{Precedence, Service, Terminator},
    id::{IdentityId, ServiceId, TerminatorId},
    replica::Replica,
};
use serde_json::{Value, json};

use crate::{
    channel::Channel,
    common::{Caller, Lab, MANAGEMENT},
    control::{policy, terminator},
};

/// As dialers of a router take the terminators, by id.
fn settled(replica: &Replica) -> Vec<(String, Precedence, u16)> {
    let all = replica.terminators.iter().map(|it| replica.settled(it));
    all.map(|it| (it.id.to_string(), it.precedence, it.cost)).collect()
}

async fn shown(admin: &Caller, id: &str) -> Value {
    let shown = admin.get(&format!("{MANAGEMENT}/terminators/{id}")).await.body["data"].take();
    json!([shown["precedence"], shown["cost"], shown["hostPrecedence"], shown["hostCost"]])
}

#[tokio::test]
async fn the_operators_word_outlives_the_host_until_it_is_taken_back() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    admin.create("service-policies", policy("bind", "Bind")).await;
    let (host, _) = lab.identity("host", &[]).await;
    let (router, credentials) = lab.router("hub", false).await;
    let mut channel = Channel::hello(&lab, &router, &credentials).await;
    let reported = terminator("t1", &router, &host, &service);
    let blue = Terminator { instance: "blue".into(), ..terminator("t2", &router, &host, &service) };
    channel.send(&RouterMessage::TerminatorAdded(reported)).await;
    channel.send(&RouterMessage::TerminatorAdded(blue)).await;
    channel.replica(|replica| replica.terminators.len() == 2).await;
    assert_eq!(shown(&admin, "t1").await, json!(["default", 7, "default", 7]));

    let path = format!("{MANAGEMENT}/terminators/t1");
    for body in [json!({ "precedence": "required" }), json!({ "cost": 40 })] {
        let answer = admin.patch(&path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    assert_eq!(shown(&admin, "t1").await, json!(["required", 40, "default", 7]));
    assert_eq!(shown(&admin, "t2").await, json!(["default", 7, "default", 7]));
    let expected = [("t1".into(), Precedence::Required, 40), ("t2".into(), Precedence::Default, 7)];
    channel.replica(|replica| settled(replica) == expected).await;

    // The host goes and comes back, under another id, and says something else; the controller restarts meanwhile.
    channel.send(&RouterMessage::TerminatorRemoved { id: TerminatorId::new("t1") }).await;
    channel.replica(|replica| replica.terminators.len() == 1).await;
    let lab = lab.restart().await;
    let admin = lab.admin().await;
    let mut channel = Channel::hello(&lab, &router, &credentials).await;
    let back = Terminator { cost: 9, ..terminator("t3", &router, &host, &service) };
    channel.send(&RouterMessage::TerminatorAdded(back)).await;
    let expected = [("t3".into(), Precedence::Required, 40)];
    channel.replica(|replica| settled(replica) == expected).await;

    let path = format!("{MANAGEMENT}/terminators/t3");
    admin.patch(&path, json!({ "precedence": null })).await;
    assert_eq!(shown(&admin, "t3").await, json!(["default", 40, "default", 9]));
    admin.patch(&path, json!({ "cost": null })).await;
    assert_eq!(shown(&admin, "t3").await, json!(["default", 9, "default", 9]));
    let last = channel.replica(|it| settled(it)[0] == ("t3".into(), Precedence::Default, 9)).await;
    assert!(last.services[&ServiceId::new(&service)].terminators.is_empty());
}

#[tokio::test]
async fn settings_that_can_mean_nothing_are_refused_and_those_of_the_deleted_go() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (host, _) = lab.identity("host", &[]).await;
    let (gateway, _) = lab.router("gateway", true).await;
    let settings = json!([
        { "identity": host, "cost": 5 },
        { "identity": host, "instance": "blue", "precedence": "failed" },
        { "identity": gateway, "cost": 6 },
    ]);
    admin.create("services", json!({ "name": "web", "terminators": settings })).await;
    let (path, found) = admin.find("services", "web").await;
    let service: Service = serde_json::from_value(found).unwrap();
    assert_eq!(service.setting(&IdentityId::new(&host), "").cost, Some(5));
    let long = "x".repeat(1025);
    for (bad, said) in [
        (json!([{ "identity": "nobody", "cost": 5 }]), "nobody"),
        (json!([{ "identity": host }]), "leave the entry out"),
        (json!([{ "identity": host, "cost": 5 }, { "identity": host, "cost": 6 }]), "twice"),
        (json!([{ "identity": host, "cost": 65536 }]), "65536"),
        (json!([{ "identity": host, "precedence": "dire" }]), "dire"),
        (json!([{ "identity": host, "instance": long, "cost": 5 }]), "1024"),
    ] {
        let refused = admin.patch(&path, json!({ "terminators": bad })).await;
        assert_eq!(refused.status, 400, "{bad}: {}", refused.body);
        let message = refused.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
    }
    let absent = format!("{MANAGEMENT}/terminators/absent");
    admin.patch(&absent, json!({ "cost": 1 })).await.assert_refused(404, "NOT_FOUND");

    for (deleted, left) in
        [(format!("identities/{host}"), 1), (format!("edge-routers/{gateway}"), 0)]
    {
        let answer = admin.delete(&format!("{MANAGEMENT}/{deleted}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let service: Service =
            serde_json::from_value(admin.find("services", "web").await.1).unwrap();
        assert_eq!(service.terminators.len(), left, "{deleted}");
    }
}

#[tokio::test]
async fn only_operators_see_and_decide_it() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let alice_id = admin.find("identities", "alice").await.1["id"].take();
    let setting = json!([{ "identity": alice_id, "cost": 5 }]);
    let service =
        admin.create("services", json!({ "name": "web", "terminators": setting })).await.id;
    admin.create("service-policies", policy("dial", "Dial")).await;
    let alice = lab.client(&credentials).await;
    let seen = alice.get(&format!("/services/{service}")).await.body;
    assert_eq!(seen["data"]["name"], "web", "{seen}");
    assert_eq!(seen["data"]["terminators"], Value::Null);
    let refused = alice.patch(&format!("{MANAGEMENT}/terminators/t"), json!({ "cost": 1 })).await;
    refused.assert_refused(403, "FORBIDDEN");
}
