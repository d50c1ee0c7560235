//! The shapes of the published edge client API (openziti/edge-api, client.yml 0.29): clients that were
//! generated from it want every field that it requires, and may send more than we use.

use crate::{
    channel::Channel,
    common::{CLIENT, Lab},
    control::{policy, terminator},
};
use nightgate_model::control::RouterMessage;
use serde_json::{Value, json};

/// Fields of every entity (`baseEntity`).
const ENTITY: &[&str] = &["id", "createdAt", "updatedAt", "_links"];

/// `commonEdgeRouterProperties`.
const EDGE_ROUTER: &[&str] = &[
    "hostname",
    "name",
    "supportedProtocols",
    "syncStatus",
    "isOnline",
    "cost",
    "noTraversal",
    "disabled",
];

/// `currentApiSessionDetail`.
const API_SESSION: &[&str] = &[
    "token",
    "identity",
    "identityId",
    "configTypes",
    "ipAddress",
    "authQueries",
    "cachedUpdatedAt",
    "isMfaRequired",
    "isMfaComplete",
    "authenticatorId",
    "isCertExtendable",
    "expiresAt",
    "expirationSeconds",
];

/// `identityDetail`.
const IDENTITY: &[&str] = &[
    "name",
    "type",
    "typeId",
    "isDefaultAdmin",
    "isAdmin",
    "authenticators",
    "enrollment",
    "envInfo",
    "sdkInfo",
    "roleAttributes",
    "hasEdgeRouterConnection",
    "edgeRouterConnectionStatus",
    "hasApiSession",
    "isMfaEnabled",
    "serviceHostingPrecedences",
    "serviceHostingCosts",
    "defaultHostingCost",
    "authPolicyId",
    "authPolicy",
    "externalId",
    "disabled",
    "permissions",
];

/// `serviceDetail`.
const SERVICE: &[&str] = &[
    "name",
    "maxIdleTimeMillis",
    "terminatorStrategy",
    "roleAttributes",
    "permissions",
    "configs",
    "config",
    "encryptionRequired",
    "postureQueries",
];

/// `sessionDetail`.
const SESSION: &[&str] = &[
    "type",
    "apiSessionId",
    "apiSession",
    "serviceId",
    "service",
    "token",
    "edgeRouters",
    "identityId",
];

/// `terminatorClientDetail`.
const TERMINATOR: &[&str] = &["serviceId", "service", "routerId", "identity"];

#[tokio::test]
async fn every_field_that_the_schema_requires_is_there() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    for (name, permission) in [("dial", "Dial"), ("bind", "Bind")] {
        admin.create("service-policies", policy(name, permission)).await;
    }
    let (host, _) = lab.identity("host", &[]).await;
    let (router, credentials) = lab.router("r1", false).await;
    let mut channel = Channel::hello(&lab, &router, &credentials).await;
    let hosted = terminator("t1", &router, &host, &service);
    channel.send(&RouterMessage::TerminatorAdded(hosted)).await;
    channel.replica(|replica| !replica.terminators.is_empty()).await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;

    let answer = alice.post("/authenticate?method=cert", json!({})).await;
    assert_holds(&answer.body["data"], &[ENTITY, API_SESSION]);
    for (path, fields) in [
        ("/current-api-session", &[ENTITY, API_SESSION]),
        ("/current-identity", &[ENTITY, IDENTITY]),
    ] {
        assert_holds(&alice.get(path).await.body["data"], fields);
    }
    let session = alice.post("/sessions", json!({ "serviceId": service, "type": "Dial" })).await;
    assert_holds(&session.body["data"], &[ENTITY, SESSION]);
    assert_holds(&session.body["data"]["edgeRouters"][0], &[EDGE_ROUTER, &["urls"]]);
    let session = session.body["data"]["id"].as_str().unwrap();
    assert_holds(&alice.get(&format!("/sessions/{session}")).await.body["data"], &[SESSION]);
    let routers = alice.get(&format!("/services/{service}/edge-routers")).await;
    assert_holds(&routers.body["data"]["edgeRouters"][0], &[EDGE_ROUTER]);
    for (path, fields) in [
        ("/current-identity/edge-routers".to_owned(), &[ENTITY, EDGE_ROUTER]),
        ("/services".to_owned(), &[ENTITY, SERVICE]),
        ("/sessions".to_owned(), &[ENTITY, SESSION]),
        (format!("/services/{service}/terminators"), &[ENTITY, TERMINATOR]),
    ] {
        let answer = alice.get(&format!("{CLIENT}{path}")).await;
        assert_eq!(answer.body["meta"]["pagination"]["totalCount"], 1, "{path}: {}", answer.body);
        assert_holds(&answer.body["data"][0], fields);
    }
}

/// A field of a later release, or one that only others use, is no fault of the client.
#[tokio::test]
async fn fields_that_are_not_known_are_passed_over() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let service = admin.create("services", json!({ "name": "web" })).await.id;
    admin.create("service-policies", policy("dial", "Dial")).await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let mut alice = lab.client(&credentials).await;

    let said = json!({
        "sdkInfo": { "type": "ziti-sdk-c", "version": "9.9", "later": [1] },
        "envInfo": { "os": "Linux", "arch": "x86_64", "later": {} },
        "configTypes": ["all"],
        "later": { "nested": [null] },
    });
    let answer = alice.post("/authenticate?method=cert&later=1", said).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    alice.token = answer.body["data"]["token"].as_str().map(str::to_owned);
    let wanted = json!({ "serviceId": service, "type": "Dial", "tags": {}, "later": true });
    assert_eq!(alice.post("/sessions?later=1", wanted).await.status, 201);
    assert_eq!(alice.get("/services?configTypes=all&later=1").await.status, 200);
    let responses = json!([{ "id": "p1", "typeId": "LATER", "later": 1 }]);
    assert_eq!(alice.post("/posture-response-bulk", responses).await.status, 201);
}

fn assert_holds(entity: &Value, required: &[&[&str]]) {
    for field in required.iter().copied().flatten() {
        assert!(entity.get(field).is_some(), "{field} is missing in {entity:#}");
    }
}
