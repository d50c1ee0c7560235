//! Changes of entities over real TLS: what becomes of them, who may make them, what follows.

use nightgate_model::entity::Identity;
use nightgate_store::{SqliteStore, Step, Store as _, Timestamp};
use serde_json::{Value, json};

use crate::common::{Lab, MANAGEMENT};

#[tokio::test]
async fn every_kind_is_changed_in_part_and_as_a_whole() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let policy = json!({
        "name": "p", "type": "Dial", "semantic": "AllOf",
        "identityRoles": ["#all"], "serviceRoles": ["#internal"],
    });
    let host = json!({
        "name": "c", "configTypeId": "host.v1",
        "data": { "protocol": "tcp", "address": "10.2.0.2", "port": 80 },
    });
    for (kind, body, part, field) in [
        ("identities", json!({ "name": "i", "isAdmin": true }), json!(["x"]), "roleAttributes"),
        ("edge-routers", json!({ "name": "r", "disabled": true }), json!(["x"]), "roleAttributes"),
        ("config-types", json!({ "name": "t" }), json!({ "type": "object" }), "schema"),
        ("configs", host, json!({ "protocol": "udp", "address": "::1", "port": 1 }), "data"),
        (
            "services",
            json!({ "name": "s", "roleAttributes": ["y"] }),
            json!(false),
            "encryptionRequired",
        ),
        ("service-policies", policy, json!("AnyOf"), "semantic"),
        (
            "edge-router-policies",
            json!({ "name": "e", "semantic": "AllOf" }),
            json!(["#x"]),
            "identityRoles",
        ),
        (
            "service-edge-router-policies",
            json!({ "name": "x", "semantic": "AllOf" }),
            json!(["#x"]),
            "serviceRoles",
        ),
    ] {
        let id = admin.create(kind, body.clone()).await.id;
        let path = format!("{MANAGEMENT}/{kind}/{id}");
        let before = admin.get(&path).await.body["data"].clone();
        let answer = admin.patch(&path, json!({ field: part })).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.body);
        let after = admin.get(&path).await.body["data"].clone();
        assert_eq!(after[field], part, "{kind}");
        assert!(after["updatedAt"].as_str() > before["updatedAt"].as_str(), "{kind}");
        let mut expected = before.clone();
        expected[field] = part;
        expected["updatedAt"] = after["updatedAt"].clone();
        assert_eq!(after, expected, "{kind}: nothing else changed");

        let answer = admin.put(&path, body.clone()).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.body);
        assert_eq!(admin.get(&path).await.body["data"][field], before[field], "{kind}");
        assert_eq!(admin.patch(&path, json!({ "name": "new" })).await.status, 200);
        assert_eq!(admin.find(kind, "new").await.0, path);

        admin
            .patch(&path, json!({ "nmae": "x" }))
            .await
            .assert_refused(400, "COULD_NOT_PARSE_BODY");
        admin.patch(&path, json!({ "name": "" })).await.assert_refused(400, "COULD_NOT_VALIDATE");
        let nowhere = format!("{MANAGEMENT}/{kind}/nowhere");
        admin.patch(&nowhere, json!({ "name": "y" })).await.assert_refused(404, "NOT_FOUND");
        admin
            .create(kind, {
                let mut other = body;
                other["name"] = "taken".into();
                other
            })
            .await;
        admin.patch(&path, json!({ "name": "taken" })).await.assert_refused(409, "CONFLICT");
    }
}

#[tokio::test]
async fn a_version_that_was_changed_since_is_not_overwritten() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let id = admin.create("services", json!({ "name": "web" })).await.id;
    let path = format!("{MANAGEMENT}/services/{id}");
    let seen = admin.get(&path).await.etag.unwrap();
    let first = admin.patch_seen(&path, json!({ "roleAttributes": ["a"] }), &seen).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let second = admin.patch_seen(&path, json!({ "roleAttributes": ["b"] }), &seen).await;
    second.assert_refused(412, "PRECONDITION_FAILED");
    let now = admin.get(&path).await;
    assert_ne!(now.etag.as_ref(), Some(&seen));
    assert_eq!(now.body["data"]["roleAttributes"], json!(["a"]));
}

#[tokio::test]
async fn a_disabled_identity_is_nobody_until_it_is_enabled() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (id, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;
    let path = format!("{MANAGEMENT}/identities/{id}");
    assert_eq!(admin.post(&format!("{path}/disable"), json!({})).await.status, 200);
    alice.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    let refused = alice.post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");

    assert_eq!(admin.post(&format!("{path}/enable"), json!({})).await.status, 200);
    alice.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    let alice = lab.client(&credentials).await;
    assert_eq!(alice.get("/current-identity").await.status, 200);
    let lab = lab.restart().await;
    lab.client(&credentials).await;
}

#[tokio::test]
async fn an_identity_disabled_for_a_while_is_enabled_by_itself() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (id, credentials) = lab.identity("alice", &[]).await;
    let path = format!("{MANAGEMENT}/identities/{id}");
    let disable = format!("{path}/disable");
    assert_eq!(admin.post(&disable, json!({ "durationMinutes": 60 })).await.status, 200);
    let shown = admin.get(&path).await.body["data"].clone();
    assert_eq!(shown["disabled"], true);
    assert!(shown["disabledUntil"].is_string(), "{shown}");

    // The hour passes while the controller is stopped.
    let Lab { controller, dir, ca } = lab;
    controller.stop().await;
    let store = SqliteStore::open(&dir.path().join("nightgate.db")).unwrap();
    let model = store.load().unwrap().model;
    let stored = model.find::<Identity>(&id).unwrap();
    let elapsed = Identity { disabled_until: Some(1), ..stored.entity.clone() };
    let at = Timestamp(stored.updated_at.0 + 1);
    store.apply(&vec![Step::Update(elapsed.into())].into(), at).unwrap();
    drop(store);
    let controller = nightgate_server::Controller::start(dir.path()).await.unwrap();
    let lab = Lab { controller, dir, ca };
    let admin = lab.admin().await;
    while admin.get(&path).await.body["data"]["disabled"] == true {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(admin.get(&path).await.body["data"]["disabledUntil"], Value::Null);
    lab.client(&credentials).await;
    let log = admin.get(&format!("{MANAGEMENT}/audit?limit=1")).await.body["data"].clone();
    assert_eq!(log[0]["author"]["name"], "controller");
}

#[tokio::test]
async fn nobody_takes_the_means_from_the_last_administrator() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (path, _) = admin.find("identities", "admin").await;
    for part in [json!({ "isAdmin": false }), json!({ "disabled": true })] {
        admin.patch(&path, part).await.assert_refused(409, "CONFLICT");
    }
    let disable = format!("{path}/disable");
    admin.post(&disable, json!({ "durationMinutes": 1 })).await.assert_refused(409, "CONFLICT");
    assert_eq!(admin.patch(&path, json!({ "name": "root" })).await.status, 200);
}

#[tokio::test]
async fn a_routers_identity_follows_its_name_and_keeps_its_own_attributes() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let body = json!({ "name": "gw", "isTunnelerEnabled": true, "roleAttributes": ["gateways"] });
    let id = admin.create("edge-routers", body).await.id;
    let (router, identity) =
        (format!("{MANAGEMENT}/edge-routers/{id}"), format!("{MANAGEMENT}/identities/{id}"));
    let part = json!({ "name": "gw-2", "roleAttributes": ["eu"] });
    assert_eq!(admin.patch(&router, part).await.status, 200);
    let shown = admin.get(&identity).await.body["data"].clone();
    assert_eq!((&shown["name"], &shown["roleAttributes"]), (&json!("gw-2"), &json!(["gateways"])));
    admin.patch(&identity, json!({ "name": "x" })).await.assert_refused(409, "CONFLICT");
    let part = json!({ "isTunnelerEnabled": false });
    admin.patch(&router, part).await.assert_refused(409, "CONFLICT");
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_with_before_and_after() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (id, _) = lab.identity("alice", &["staff"]).await;
    let path = format!("{MANAGEMENT}/identities/{id}");
    admin.patch(&path, json!({ "roleAttributes": [] })).await;
    admin.patch(&path, json!({ "name": "" })).await;
    admin.delete(&path).await;
    let lab = lab.restart().await;
    let admin = lab.admin().await;
    let log = admin.get(&format!("{MANAGEMENT}/audit?filter=name=\"alice\"")).await.body;
    assert_eq!(log["meta"]["pagination"]["totalCount"], 4);
    let actions: Vec<_> =
        log["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["delete", "update", "enroll", "create"]);
    let update = &log["data"][1];
    assert_eq!(update["author"]["name"], "admin");
    assert_eq!(update["before"]["roleAttributes"], json!(["staff"]));
    assert_eq!(update["after"]["roleAttributes"], json!([]));
    assert_eq!(update["entityId"], id.as_str());
    assert_eq!(log["data"][0]["after"], Value::Null);
    let page = format!("{MANAGEMENT}/audit?filter=action=\"create\" skip 1 limit 1");
    assert_eq!(admin.get(&page).await.body["data"][0]["name"], "admin");
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    for index in 0..12 {
        let attributes = if index % 2 == 0 { json!(["even"]) } else { json!(["odd"]) };
        let body = json!({ "name": format!("s{index:02}"), "roleAttributes": attributes });
        admin.create("services", body).await;
    }
    let names = async |query: &str| {
        let body = admin.get(&format!("{MANAGEMENT}/services?{query}")).await.body;
        let names = body["data"].as_array().unwrap_or_else(|| panic!("{body}")).iter();
        let names: Vec<_> = names.map(|s| s["name"].as_str().unwrap().to_owned()).collect();
        (names.join(" "), body["meta"]["pagination"]["totalCount"].as_u64().unwrap())
    };
    let odd = names("filter=anyOf(roleAttributes)=\"odd\" sort by name desc limit 2").await;
    assert_eq!(odd, ("s11 s09".into(), 6));
    let some = names("filter=name in [\"s01\", \"s02\", \"x\"] or name contains \"11\"").await;
    assert_eq!(some, ("s01 s02 s11".into(), 3));
    assert_eq!(names("limit=2&offset=4&sort=createdAt").await, ("s04 s05".into(), 12));
    assert_eq!(names("filter=not (name > \"s00\")").await, ("s00".into(), 1));
    assert_eq!(names("").await.0.split(' ').count(), 10);
    for wrong in ["name=", "nmae=\"x\"", "name=\"a\" and", "limit x"] {
        let answer = admin.get(&format!("{MANAGEMENT}/services?filter={wrong}")).await;
        answer.assert_refused(400, "INVALID_FILTER");
    }
}
