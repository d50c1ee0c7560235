//! Tags, and fields of OpenZiti that mean nothing here.

use serde_json::{Value, json};

use crate::common::{Lab, MANAGEMENT};

#[tokio::test]
async fn every_kind_carries_tags_that_lists_are_filtered_by() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let tags = json!({ "site": "eu", "floor": 3, "spare": true, "note": null });
    let ports = json!([{ "low": 80, "high": 80 }]);
    let intercept = json!({ "protocols": ["tcp"], "addresses": ["web.corp"], "portRanges": ports });
    let bodies = [
        ("identities", json!({})),
        ("edge-routers", json!({})),
        ("services", json!({})),
        ("config-types", json!({})),
        ("configs", json!({ "configTypeId": "intercept.v1", "data": intercept })),
        ("service-policies", json!({ "type": "Dial", "semantic": "AnyOf" })),
        ("edge-router-policies", json!({ "semantic": "AnyOf" })),
        ("service-edge-router-policies", json!({ "semantic": "AnyOf" })),
    ];
    for (kind, body) in bodies {
        for (name, tags) in [("x", &tags), ("y", &json!({ "site": "us" }))] {
            let mut body = body.clone();
            (body["name"], body["tags"]) = (name.into(), tags.clone());
            admin.create(kind, body).await;
        }
        let path = format!("{MANAGEMENT}/{kind}?filter=tags.site=\"eu\" and tags.floor > 2");
        let found = admin.get(&path).await.body["data"].take();
        assert_eq!((found[0]["name"].as_str(), &found[0]["tags"]), (Some("x"), &tags), "{kind}");
        assert_eq!(found[1], Value::Null, "{kind}");
    }
    let lab = lab.restart().await;
    let (_, shown) = lab.admin().await.find("services", "x").await;
    assert_eq!(shown["tags"], tags);
}

#[tokio::test]
async fn tags_stay_with_a_patch_and_go_with_a_replacement() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    admin.create("services", json!({ "name": "web", "tags": { "site": "eu" } })).await;
    let (path, _) = admin.find("services", "web").await;
    let before = admin.get(&path).await.etag.unwrap();
    let steps = [
        (json!({ "roleAttributes": ["a"] }), json!({ "site": "eu" })),
        (json!({ "tags": { "floor": 1 } }), json!({ "floor": 1 })),
        (json!({ "tags": null }), json!({})),
    ];
    for (body, expected) in steps {
        assert_eq!(admin.patch(&path, body).await.status, 200);
        assert_eq!(admin.get(&path).await.body["data"]["tags"], expected);
    }
    let late = admin.patch_seen(&path, json!({ "tags": {} }), &before).await;
    late.assert_refused(412, "PRECONDITION_FAILED");
    admin.patch(&path, json!({ "tags": { "site": "us" } })).await;
    assert_eq!(admin.put(&path, json!({ "name": "web" })).await.status, 200);
    assert_eq!(admin.get(&path).await.body["data"]["tags"], json!({}));
    for tags in [json!([]), json!({ "a": {} }), json!({ "": 1 }), json!({ "a": "x".repeat(5000) })]
    {
        let refused = admin.patch(&path, json!({ "tags": tags })).await;
        assert_eq!(refused.status, 400, "{tags}: {}", refused.body);
    }
}

#[tokio::test]
async fn fields_of_openziti_are_accepted_where_they_ask_for_what_is_so_anyway() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let body = json!({
        "name": "bob", "type": "Device", "isAdmin": false, "appData": {}, "authPolicyId": "default",
        "externalId": null, "defaultHostingCost": 0, "defaultHostingPrecedence": "default",
        "serviceHostingCosts": {}, "serviceHostingPrecedences": {}, "enrollment": { "ott": true },
    });
    admin.create("identities", body).await;
    let body =
        json!({ "name": "web", "terminatorStrategy": "smartrouting", "maxIdleTimeMillis": 0 });
    admin.create("services", body).await;
    let body = json!({
        "name": "p", "type": "Dial", "semantic": "AnyOf", "postureCheckRoles": [],
    });
    admin.create("service-policies", body).await;
    for (kind, field, value) in [
        ("services", "maxIdleTimeMillis", json!(5)),
        ("identities", "authPolicyId", json!("strict")),
        ("edge-routers", "appData", json!({ "a": 1 })),
        ("services", "colour", json!("red")),
    ] {
        let body = json!({ "name": "other", field: value });
        let refused = admin.post(&format!("{MANAGEMENT}/{kind}"), body).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        let message = refused.body["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(field), "{message}");
    }
}
