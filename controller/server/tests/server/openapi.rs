//! The OpenAPI documents against what is served.

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{CLIENT, Lab, MANAGEMENT};

/// Method, path and whether it needs a session, of every documented operation.
async fn operations(lab: &Lab, prefix: &str) -> Vec<(Method, String, bool)> {
    let answer = lab.anybody().get(&format!("{prefix}/openapi.json")).await;
    assert_eq!(answer.body["openapi"], "3.1.0");
    assert_eq!(answer.body["servers"][0]["url"], prefix);
    let paths = answer.body["paths"].as_object().unwrap();
    let described = paths.iter().flat_map(|(path, operations)| {
        let operations = operations.as_object().unwrap().iter();
        operations.map(move |(method, operation)| {
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
            let names: Vec<_> = operation["parameters"].as_array().unwrap().iter().collect();
            assert_eq!(names.len(), path.matches('{').count(), "{method} {path}");
            let method = method.to_uppercase().parse().unwrap();
            (
                method,
                format!("{prefix}{}", path.trim_end_matches('/')),
                operation.get("security").is_some(),
            )
        })
    });
    described.collect()
}

/// Every documented operation is served, and answers a stranger the same whether what it names exists or not.
#[tokio::test]
async fn every_documented_operation_exists_and_tells_strangers_nothing() {
    let lab = Lab::start().await;
    let (id, _) = lab.identity("alice", &[]).await;
    let anybody = lab.anybody();
    let mut documented = operations(&lab, CLIENT).await;
    documented.extend(operations(&lab, MANAGEMENT).await);
    assert!(documented.len() > 90, "{}", documented.len());
    for (method, path, is_closed) in documented {
        let mut told = Vec::new();
        for name in [id.as_str(), "nothing"] {
            let path = path.replace("{id}", name).replace("{method}", "ott");
            let answer = anybody.call(method.clone(), &path, "{}").await;
            assert_ne!(answer.status, 405, "{method} {path}");
            if is_closed {
                answer.assert_refused(401, "UNAUTHORIZED");
                let mut body = answer.body;
                body["error"]["requestId"] = Value::Null;
                told.push(body);
            } else {
                assert_ne!(answer.status, 404, "{method} {path}");
            }
        }
        told.dedup();
        assert!(told.len() <= 1, "{method} {path}");
    }
}

/// What the document says of bodies and answers is what the controller takes and gives.
#[tokio::test]
async fn the_described_fields_are_those_of_bodies_and_answers() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let document = lab.anybody().get(&format!("{MANAGEMENT}/openapi.json")).await.body;
    let operation = |method: &str, path: &str| document["paths"][path][method].clone();
    let body = |of: &Value| of["requestBody"]["content"]["application/json"]["schema"].clone();
    let data = |of: &Value| of["responses"]["2XX"]["content"]["application/json"]["schema"].clone();
    let roles = json!({ "semantic": "AnyOf", "identityRoles": ["#all"], "type": "Dial" });
    let updb = json!({ "primary": { "updb": { "maxAttempts": 3 } } });
    for (kind, fields) in [
        ("identities", json!({ "roleAttributes": ["a"], "enrollment": { "ott": true } })),
        ("services", json!({ "encryptionRequired": true, "tags": { "a": 1 } })),
        ("edge-routers", json!({ "isTunnelerEnabled": true })),
        ("service-policies", roles),
        ("auth-policies", updb),
        ("config-types", json!({ "schema": {} })),
    ] {
        let (list, one) = (format!("/{kind}"), format!("/{kind}/{{id}}"));
        let mut wanted = fields.clone();
        wanted["name"] = kind.into();
        let create = operation("post", &list);
        assert!(jsonschema::is_valid(&body(&create), &wanted), "{kind}: {}", body(&create));
        assert!(!jsonschema::is_valid(&body(&create), &fields), "{kind}: without a name");
        assert!(jsonschema::is_valid(&body(&operation("patch", &one)), &fields), "{kind}");
        let answer = admin.post(&format!("{MANAGEMENT}{list}"), wanted).await;
        assert!(jsonschema::is_valid(&data(&create), &answer.body), "{kind}: {}", answer.body);
        let listed = admin.get(&format!("{MANAGEMENT}{list}")).await.body;
        let described = data(&operation("get", &list));
        let faults: Vec<_> = jsonschema::validator_for(&described)
            .unwrap()
            .iter_errors(&listed)
            .map(|e| e.to_string())
            .collect();
        assert!(faults.is_empty(), "{kind}: {faults:?}");
    }
}

#[tokio::test]
async fn what_is_not_documented_is_not_served() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let documented = operations(&lab, MANAGEMENT).await;
    for (method, path, _) in [
        (Method::POST, "/summary", true),
        (Method::DELETE, "/version", false),
        (Method::GET, "/posture-checks", true),
        (Method::PATCH, "/enrollments/x", true),
    ] {
        let path = format!("{MANAGEMENT}{path}");
        assert!(!documented.iter().any(|(m, p, _)| *m == method && *p == path));
        admin.call(method, &path, "{}").await.assert_refused(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn the_summary_counts_what_there_is() {
    let lab = Lab::start().await;
    lab.identity("alice", &[]).await;
    let admin = lab.admin().await;
    admin.create("identities", serde_json::json!({ "name": "bob" })).await;
    let summary = admin.get(&format!("{MANAGEMENT}/summary")).await.body["data"].take();
    let counts = ["identities", "enrollments", "authenticators", "edgeRouterPolicies", "services"];
    let counts: Vec<_> = counts.iter().map(|of| summary[of].as_u64().unwrap()).collect();
    assert_eq!(counts, [3, 1, 2, 1, 0]);
}
