//! REST client of the management interface.

use std::path::Path;

use anyhow::{Context as _, bail};
use nightgate_identity::Identity;
use nightgate_model::api::{Created, Envelope, ErrorEnvelope, Pagination};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Entries asked for at a time; the controller's most.
const PAGE: usize = 500;

/// An authenticated administrator.
pub(super) struct ManagementClient {
    http: Client,
    base: String,
    token: String,
}

/// Something with an id and a name.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    /// Identifier.
    pub(super) id: String,
    /// Unique name.
    pub(super) name: String,
}

#[derive(Deserialize)]
struct ApiSession {
    token: String,
}

impl ManagementClient {
    /// Reads the identity file, connects to the controller it names and authenticates.
    pub(super) async fn connect(identity_file: &Path) -> anyhow::Result<Self> {
        let identity = Identity::load(identity_file)?;
        let tls = identity.client_config(&[])?;
        let http = Client::builder().tls_backend_preconfigured(tls).build()?;
        let base = format!("{}/edge/management/v1", identity.controller().trim_end_matches('/'));
        let mut client = Self { http, base, token: String::new() };
        let request = client.http.post(client.url("authenticate")).query(&[("method", "cert")]);
        let session: ApiSession =
            client.send(request.json(&json!({}))).await.with_context(|| {
                format!(
                    "authenticate at {} with {}",
                    identity.controller(),
                    identity_file.display()
                )
            })?;
        client.token = session.token;
        Ok(client)
    }

    /// Creates an entity of a kind (`identities`, `services`, ...).
    pub(super) async fn create(
        &self,
        kind: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<Created> {
        self.send(self.http.post(self.url(kind)).json(body)).await
    }

    /// Deletes an entity by name or id.
    pub(super) async fn delete(&self, kind: &str, name: &str) -> anyhow::Result<Named> {
        let found: Named = self.find(kind, name).await?;
        self.send::<Value>(self.http.delete(self.url(&format!("{kind}/{}", found.id)))).await?;
        Ok(found)
    }

    /// The entity with this name, or else with this id.
    pub(super) async fn find<T: DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
    ) -> anyhow::Result<T> {
        for field in ["name", "id"] {
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            let filter = format!("{field}=\"{quoted}\"");
            let request = self.http.get(self.url(kind)).query(&[("filter", filter)]);
            let mut found: Vec<T> = self.send(request).await?;
            if let Some(found) = found.pop() {
                return Ok(found);
            }
        }
        bail!("there is no {name:?} among the {kind}; `list` shows what there is")
    }

    /// All entities of a kind.
    pub(super) async fn list<T: DeserializeOwned>(&self, kind: &str) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        loop {
            let page = [("limit", PAGE), ("offset", all.len())];
            let request = self.http.get(self.url(kind)).query(&page);
            let mut envelope: Envelope<Vec<T>> = self.send_envelope(request).await?;
            let pagination: Pagination = serde_json::from_value(envelope.meta["pagination"].take())
                .context("read paging")?;
            let is_last = envelope.data.is_empty();
            all.append(&mut envelope.data);
            if is_last || all.len() >= pagination.total_count {
                return Ok(all);
            }
        }
    }

    /// Any other question.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.send(self.http.get(self.url(path)).query(query)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        Ok(self.send_envelope(request).await?.data)
    }

    async fn send_envelope<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> anyhow::Result<Envelope<T>> {
        let response = request.header("zt-session", &self.token).send().await.context(
            "the controller cannot be reached; is `nightgate controller run` running at the address \
             in the identity file",
        )?;
        let status = response.status();
        let body = response.bytes().await.context("read the controller's answer")?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .context("the controller's answer is not as expected");
        }
        match serde_json::from_slice::<ErrorEnvelope>(&body) {
            Ok(ErrorEnvelope { error, .. }) if status == StatusCode::INTERNAL_SERVER_ERROR => {
                bail!("{} (request id {})", error.message, error.request_id)
            }
            Ok(ErrorEnvelope { error, .. }) => bail!("{}", error.message),
            Err(_) => bail!("the controller answered {status}"),
        }
    }
}
