//! An administrator who fills a controller.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nightgate_identity::Identity;
use nightgate_server::{Settings, init};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::process::{Role, free_address};

/// A new controller and its administrator.
pub(super) struct Operator {
    pub(super) controller: Role,
    http: Client,
    base: String,
    token: String,
}

impl Operator {
    /// Makes a controller in `dir`, starts it and logs in.
    pub(super) async fn start(dir: &Path) -> Result<Self> {
        let address = free_address()?;
        init(dir, &Settings::new(address.to_string().parse()?, address))?;
        let controller = Role::controller(dir)?;
        let admin = Identity::load(dir.join("admin.json"))?;
        let http = client(&admin)?;
        let base = format!("{}/edge/management/v1", admin.controller());
        let token = authenticate(&http, &base).await?;
        Ok(Self { controller, http, base, token })
    }

    /// Makes many changes at once; gives the answer.
    pub(super) async fn change(&self, changes: &[Value]) -> Result<Vec<Value>> {
        let changed = self.send(Method::POST, "network", &json!(changes)).await?;
        Ok(serde_json::from_value(changed)?)
    }

    /// Sends a request of the management interface that is answered with success; gives the answer's data.
    pub(super) async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let request = self.http.request(method, format!("{}/{path}", self.base)).json(body);
        let answer = request.header("zt-session", &self.token).send().await?;
        let status = answer.status();
        let mut body: Value = answer.json().await?;
        ensure!(status.is_success(), "{path}: {status}: {body}");
        Ok(body["data"].take())
    }
}

/// A new entity, as a change.
pub(super) fn create(kind: &str, fields: Value) -> Value {
    json!({ "action": "create", "kind": kind, "name": fields["name"].clone(), "fields": fields })
}

/// The enrollment token in an answer.
pub(super) fn token_of(changed: &[Value], name: &str) -> Result<String> {
    text_of(changed, name, "enrollmentJwt")
}

/// What an answer says about an entity.
pub(super) fn text_of(changed: &[Value], name: &str, field: &str) -> Result<String> {
    let found = changed.iter().find(|changed| changed["name"] == name);
    let text = found.and_then(|changed| changed[field].as_str());
    Ok(text.with_context(|| format!("no {field} for {name}"))?.to_owned())
}

/// A client that authenticates with an identity's certificate.
pub(super) fn client(identity: &Identity) -> Result<Client> {
    let tls = identity.client_config(&[b"http/1.1"])?;
    Ok(Client::builder().tls_backend_preconfigured(tls).build()?)
}

/// An API session's token; waits for the controller to listen.
pub(super) async fn authenticate(http: &Client, base: &str) -> Result<String> {
    let mut last = None;
    for _ in 0..200 {
        let request = http.post(format!("{base}/authenticate?method=cert")).json(&json!({}));
        match request.send().await {
            Ok(answer) => {
                let answer: Value = answer.error_for_status()?.json().await?;
                return Ok(answer["data"]["token"].as_str().context("no token")?.to_owned());
            }
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(last.context("the controller was not tried")?.into())
}
