//! Many changes in one request, over real TLS: all or none.

use serde_json::{Value, json};

use crate::common::{Lab, MANAGEMENT, claims};

/// The path of the interface.
fn path() -> String {
    format!("{MANAGEMENT}/network")
}

fn count(list: &Value) -> usize {
    list["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn changes_refer_by_name_to_what_those_before_them_made() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let changes = json!([
        { "action": "create", "kind": "identity", "name": "alice", "fields": { "name": "alice" } },
        { "action": "create", "kind": "config", "name": "c", "fields": {
            "name": "c", "configTypeId": "host.v1",
            "data": { "protocol": "tcp", "address": "10.2.0.2", "port": 80 },
        } },
        { "action": "create", "kind": "service", "name": "web", "fields": {
            "name": "web", "configs": ["c"],
        } },
        { "action": "create", "kind": "servicePolicy", "name": "p", "fields": {
            "name": "p", "type": "Dial", "semantic": "AnyOf",
            "identityRoles": ["@alice"], "serviceRoles": ["@web"],
        } },
        { "action": "update", "kind": "identity", "name": "alice", "fields": {
            "roleAttributes": ["staff"],
        } },
    ]);

    let answer = admin.post(&path(), changes).await;

    assert_eq!(answer.status, 200, "{}", answer.body);
    let changed = answer.body["data"].as_array().unwrap();
    assert_eq!(changed.len(), 5);
    assert_eq!(changed[0]["id"], changed[4]["id"]);
    let token = claims(changed[0]["enrollmentJwt"].as_str().unwrap());
    assert_eq!(token["sub"], changed[0]["id"]);
    let (_, alice) = admin.find("identities", "alice").await;
    assert_eq!(alice["roleAttributes"], json!(["staff"]));
    let (_, policy) = admin.find("service-policies", "p").await;
    assert_eq!(policy["serviceRoles"][0], format!("@{}", changed[2]["id"].as_str().unwrap()));
    let audit = admin.get(&format!("{MANAGEMENT}/audit")).await.body;
    let names: Vec<_> = audit["data"].as_array().unwrap().iter().map(|e| &e["name"]).collect();
    assert_eq!(names[..5], ["alice", "p", "web", "c", "alice"]);
}

#[tokio::test]
async fn one_change_that_is_refused_leaves_nothing_of_the_others() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    admin.create("services", json!({ "name": "kept" })).await;
    let first = json!({ "action": "create", "kind": "service", "name": "new", "fields": { "name": "new" } });
    let delete = json!({ "action": "delete", "kind": "service", "name": "kept" });
    let before = admin.get(&format!("{MANAGEMENT}/audit")).await.body;
    for (bad, status, said) in [
        (
            json!({ "action": "create", "kind": "service", "name": "kept", "fields": { "name": "kept" } }),
            409,
            "kept",
        ),
        (
            json!({ "action": "delete", "kind": "service", "name": "absent" }),
            404,
            "delete service \"absent\"",
        ),
        (
            json!({ "action": "update", "kind": "identity", "name": "admin", "fields": { "isAdmin": false } }),
            409,
            "administrator",
        ),
        (
            json!({ "action": "create", "kind": "service", "name": "x", "fields": { "name": "x", "nmae": 1 } }),
            400,
            "nmae",
        ),
        (
            json!({ "action": "create", "kind": "servicePolicy", "name": "p", "fields": {
            "name": "p", "type": "Dial", "semantic": "AnyOf", "identityRoles": ["@nobody"], "serviceRoles": [],
        } }),
            400,
            "nobody",
        ),
    ] {
        let answer = admin.post(&path(), json!([first, bad])).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
        let services = admin.get(&format!("{MANAGEMENT}/services")).await.body;
        assert_eq!(count(&services), 1, "{services}");
    }
    assert_eq!(admin.get(&format!("{MANAGEMENT}/audit")).await.body["data"], before["data"]);
    let answer = admin.post(&path(), json!([first, delete])).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let services = admin.get(&format!("{MANAGEMENT}/services")).await.body;
    assert_eq!(services["data"][0]["name"], "new");
    assert_eq!(count(&services), 1);
}

#[tokio::test]
async fn only_administrators_change_networks() {
    let lab = Lab::start().await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;
    alice.post(&path(), json!([])).await.assert_refused(403, "FORBIDDEN");
    lab.anybody().post(&path(), json!([])).await.assert_refused(401, "UNAUTHORIZED");
}
