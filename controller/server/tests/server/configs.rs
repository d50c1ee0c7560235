//! Configs and their types over real TLS.

use serde_json::{Value, json};

use crate::common::{Lab, MANAGEMENT};

fn host(name: &str, port: u32) -> Value {
    let data = json!({ "protocol": "tcp", "address": "10.2.0.2", "port": port });
    json!({ "name": name, "configTypeId": "host.v1", "data": data })
}

#[tokio::test]
async fn a_document_must_suit_its_type() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let path = format!("{MANAGEMENT}/configs");
    let refused = admin.post(&path, host("h", 70_000)).await;
    refused.assert_refused(400, "COULD_NOT_VALIDATE");
    assert!(
        refused.body["error"]["message"].as_str().unwrap().contains("data/port"),
        "{refused:?}"
    );
    let unknown = json!({ "name": "h", "configTypeId": "host.v9", "data": {} });
    admin.post(&path, unknown).await.assert_refused(400, "COULD_NOT_VALIDATE");
    let id = admin.create("configs", host("h", 80)).await.id;
    let one = format!("{path}/{id}");
    admin.patch(&one, json!({ "data": {} })).await.assert_refused(400, "COULD_NOT_VALIDATE");
    let moved = json!({ "configTypeId": "host.v2", "data": { "terminators": [{
        "protocol": "tcp", "address": "a", "port": 1 }] } });
    admin.patch(&one, moved).await.assert_refused(409, "CONFLICT");
    assert_eq!(admin.get(&one).await.body["data"]["configType"]["name"], "host.v1");
}

#[tokio::test]
async fn a_type_of_ones_own_validates_what_there_is_and_what_comes() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let id = admin.create("config-types", json!({ "name": "colour" })).await.id;
    let colour = |data: Value| json!({ "name": "c", "configTypeId": id, "data": data });
    admin.create("configs", colour(json!({ "red": 1 }))).await;
    let path = format!("{MANAGEMENT}/config-types/{id}");
    let strict = json!({ "schema": { "type": "object", "required": ["blue"] } });
    admin.patch(&path, strict).await.assert_refused(400, "COULD_NOT_VALIDATE");
    let schema = json!({ "schema": { "type": "object", "required": ["red"] } });
    assert_eq!(admin.patch(&path, schema).await.status, 200);
    let config = format!("{MANAGEMENT}/configs");
    admin.post(&config, colour(json!({}))).await.assert_refused(400, "COULD_NOT_VALIDATE");
    admin
        .patch(&path, json!({ "schema": { "type": 7 } }))
        .await
        .assert_refused(400, "COULD_NOT_VALIDATE");
    admin.delete(&path).await.assert_refused(409, "CONFLICT");
    for built_in in ["intercept.v1", "host.v1", "host.v2", "end-to-end.v1", "mirror.v1"] {
        let path = format!("{MANAGEMENT}/config-types/{built_in}");
        assert_eq!(admin.get(&path).await.body["data"]["name"], built_in);
        admin.patch(&path, json!({ "schema": {} })).await.assert_refused(409, "CONFLICT");
        admin.delete(&path).await.assert_refused(409, "CONFLICT");
    }
}

#[tokio::test]
async fn clients_do_not_learn_that_a_service_is_mirrored() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let data = json!({ "sensor": "ids", "expires": "2999-01-01T00:00:00Z" });
    let watched = json!({ "name": "watch", "configTypeId": "mirror.v1", "data": data });
    let watch = admin.create("configs", watched).await.id;
    let shared = admin.create("configs", host("h", 80)).await.id;
    admin.create("services", json!({ "name": "web", "configs": [watch, shared] })).await;
    let policy = json!({
        "name": "p", "type": "Dial", "semantic": "AnyOf",
        "identityRoles": ["#all"], "serviceRoles": ["#all"],
    });
    admin.create("service-policies", policy).await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;

    for asked in ["all", "mirror.v1", "mirror.v1,host.v1"] {
        let services = alice.get(&format!("/services?configTypes={asked}")).await.body;
        let text = services.to_string();
        assert!(!text.contains("mirror.v1") && !text.contains(&watch), "{text}");
        assert_eq!(services["data"][0]["configs"], json!([shared]));
    }
    let shown = admin.find("services", "web").await.1;
    assert_eq!(shown["configs"].as_array().map(Vec::len), Some(2), "{shown}");

    // Those whose tunnelers are to do it learn it, and nobody else; who else is to, none of them.
    let data = json!({
        "sensor": "ids", "expires": "2999-01-01T00:00:00Z", "tunnelers": ["alice", "carol"], "gateways": ["gw"],
    });
    let path = format!("{MANAGEMENT}/configs/{watch}");
    assert_eq!(admin.patch(&path, json!({ "data": data })).await.status, 200);
    let (_, credentials) = lab.identity("bob", &[]).await;
    let bob = lab.client(&credentials).await;
    let services = alice.get("/services?configTypes=all").await.body["data"][0].clone();
    let told = json!({ "sensor": "ids", "expires": "2999-01-01T00:00:00Z" });
    assert_eq!(services["config"]["mirror.v1"], told);
    assert_eq!(services["configs"].as_array().map(Vec::len), Some(2), "{services}");
    let services = bob.get("/services?configTypes=all").await.body.to_string();
    assert!(services.contains("host.v1") && !services.contains("mirror.v1"), "{services}");
}

#[tokio::test]
async fn a_shared_config_reaches_clients_of_every_service_that_has_it() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let config = admin.create("configs", host("h", 80)).await.id;
    for name in ["a", "b"] {
        admin.create("services", json!({ "name": name, "configs": [config] })).await;
    }
    let policy = json!({
        "name": "p", "type": "Dial", "semantic": "AnyOf",
        "identityRoles": ["#all"], "serviceRoles": ["#all"],
    });
    admin.create("service-policies", policy).await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;
    let ports = async || {
        let services = alice.get("/services?configTypes=all").await.body["data"].clone();
        let port = |at: usize| services[at]["config"]["host.v1"]["port"].clone();
        (port(0), port(1))
    };
    assert_eq!(ports().await, (json!(80), json!(80)));
    let before = alice.get("/current-api-session/service-updates").await.body;
    let path = format!("{MANAGEMENT}/configs/{config}");
    assert_eq!(admin.patch(&path, json!({ "data": host("h", 81)["data"] })).await.status, 200);
    assert_eq!(ports().await, (json!(81), json!(81)));
    let after = alice.get("/current-api-session/service-updates").await.body;
    assert_ne!(before, after, "clients learn that they have to ask again");

    admin.delete(&path).await.assert_refused(409, "CONFLICT");
    let both = json!({ "config": { "host.v1": host("h", 82)["data"] } });
    let (service, _) = admin.find("services", "a").await;
    admin.patch(&service, both).await.assert_refused(400, "COULD_NOT_VALIDATE");
    let unknown = json!({ "config": { "host.v9": {} } });
    admin.patch(&service, unknown).await.assert_refused(400, "COULD_NOT_VALIDATE");
    let lab = lab.restart().await;
    let shown = lab.admin().await.find("services", "a").await.1;
    assert_eq!(shown["configs"], json!([config]));
}
