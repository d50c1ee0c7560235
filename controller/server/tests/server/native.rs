//! What ends of circuits ask about each other.

use serde_json::{Value, json};

use crate::common::{CLIENT, Caller, Credentials, Lab, MANAGEMENT};

/// Authenticates as a client that speaks our own method of end-to-end encryption.
async fn native(lab: &Lab, credentials: &Credentials) -> Caller {
    let mut caller = lab.caller(Some(credentials));
    let body = json!({ "endToEndMethods": ["nightgate-e2e-1"] });
    let answer = caller.post(&format!("{CLIENT}/authenticate?method=cert"), body).await;
    caller.token = answer.body["data"]["token"].as_str().map(str::to_owned);
    caller
}

async fn desk(lab: &Lab) -> String {
    let admin = lab.admin().await;
    let service = admin.create("services", json!({ "name": "desk" })).await.id;
    for (kind, who) in [("Dial", "#clerks"), ("Bind", "#hosts")] {
        let policy = json!({
            "name": kind, "type": kind, "semantic": "AnyOf",
            "identityRoles": [who], "serviceRoles": [format!("@{service}")],
        });
        admin.create("service-policies", policy).await;
    }
    service
}

async fn native_ends(caller: &Caller) -> Value {
    caller.get("/services").await.body["data"][0]["nativeEnds"].clone()
}

#[tokio::test]
async fn a_side_is_native_unless_another_client_may_be_there() {
    let lab = Lab::start().await;
    desk(&lab).await;
    let (_, host) = lab.identity("host", &["hosts"]).await;
    let (_, clerks) = lab.identity("clerk", &["clerks"]).await;
    let (_, both) = lab.identity("both", &["clerks", "hosts"]).await;
    let (_, stranger) = lab.identity("stranger", &[]).await;
    let clerk = native(&lab, &clerks).await;
    let both = native(&lab, &both).await;
    let _native_host = native(&lab, &host).await;
    let _old_stranger = lab.client(&stranger).await;
    assert_eq!(native_ends(&clerk).await, json!(["Bind"]), "those whom it meets");
    assert_eq!(native_ends(&both).await, json!(["Dial", "Bind"]));

    let old_host = lab.client(&host).await;
    assert_eq!(native_ends(&clerk).await, json!([]));
    assert_eq!(native_ends(&both).await, json!(["Dial"]));

    // Sessions outlive the process, and so does what is known of their clients.
    let tokens = [clerk.token, old_host.token];
    let lab = lab.restart().await;
    let [clerk, old_host] = [(&clerks, &tokens[0]), (&host, &tokens[1])].map(|(who, token)| {
        let mut caller = lab.caller(Some(who));
        caller.token.clone_from(token);
        caller
    });
    assert_eq!(native_ends(&clerk).await, json!([]));

    // When the other client has left, everybody speaks the method again.
    assert_eq!(old_host.delete("/current-api-session").await.status, 200);
    assert_eq!(native_ends(&clerk).await, json!(["Bind"]));
}

#[tokio::test]
async fn an_end_learns_what_another_one_may_do_with_their_service_only() {
    let lab = Lab::start().await;
    let service = desk(&lab).await;
    let (host, _) = lab.identity("host", &["hosts"]).await;
    let (_, clerks) = lab.identity("clerk", &["clerks"]).await;
    let (_, strangers) = lab.identity("stranger", &[]).await;
    let clerk = lab.client(&clerks).await;
    let path = format!("/services/{service}/identities/{host}");
    let permissions = async |caller: &Caller, path: &str| {
        caller.get(path).await.body["data"]["permissions"].clone()
    };

    assert_eq!(permissions(&clerk, &path).await, json!(["Bind"]));
    let present =
        lab.admin().await.get(&format!("{MANAGEMENT}/identities/{host}/authenticators")).await;
    let present = present.body["data"][0]["fingerprint"].as_str().unwrap().to_owned();
    let with = |certificate: &str| format!("{path}?certificate={certificate}");
    assert_eq!(permissions(&clerk, &with(&present)).await, json!(["Bind"]));
    assert_eq!(permissions(&clerk, &with("00")).await, json!([]), "not its certificate");
    let unknown = format!("/services/{service}/identities/nobody");
    assert_eq!(permissions(&clerk, &unknown).await, json!([]));

    lab.client(&strangers).await.get(&path).await.assert_refused(404, "NOT_FOUND");
    lab.admin().await.post(&format!("{MANAGEMENT}/identities/{host}/disable"), json!({})).await;
    assert_eq!(permissions(&clerk, &path).await, json!([]));
}
