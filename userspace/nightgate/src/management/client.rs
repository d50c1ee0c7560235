//! REST client of the management interface.

mod event_stream;

use std::path::Path;

use anyhow::{Context as _, bail};
use nightgate_model::{
    api::{Created, Envelope, ErrorEnvelope, Pagination, SetPassword},
    configs::NATIVE_METHOD,
    filter::Query,
    kind::EntityKind,
    network::{Changed, Difference, ROLES, references},
    spec::Entity,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

pub(super) use self::event_stream::EventStream;
use super::login::StoredSession;
use crate::identity_file;

/// Entries asked for at a time; the controller's most.
const PAGE: usize = 500;

/// An authenticated administrator.
pub(crate) struct ManagementClient {
    http: Client,
    base: String,
    token: String,
}

/// Something with an id and a name.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    /// Identifier.
    pub(crate) id: String,
    /// Unique name.
    pub(crate) name: String,
}

/// Environment variable with a code of the second factor.
const MFA_CODE: &str = "NIGHTGATE_MFA_CODE";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiSession {
    token: String,
    /// What has to be shown before anything else.
    #[serde(default)]
    auth_queries: Vec<Value>,
}

impl ManagementClient {
    /// Reads the identity file, connects to the controller it names and authenticates.
    pub(crate) async fn connect(identity_file: &Path) -> anyhow::Result<Self> {
        let identity = identity_file::load(identity_file)?;
        let tls = identity.client_config(&[])?;
        let http = Client::builder().tls_backend_preconfigured(tls).build()?;
        let base = format!("{}/edge/management/v1", identity.controller().trim_end_matches('/'));
        let mut client = Self { http, base, token: String::new() };
        let request = client.http.post(client.url("authenticate")).query(&[("method", "cert")]);
        // Circuits of this identity are made by our own programs only.
        let body = json!({ "endToEndMethods": [NATIVE_METHOD] });
        let session: ApiSession = client.send(request.json(&body)).await.with_context(|| {
            format!("authenticate at {} with {}", identity.controller(), identity_file.display())
        })?;
        client.show_second_factor(session, std::env::var(MFA_CODE).ok().as_deref()).await?;
        Ok(client)
    }

    /// Goes on with a session that has begun, and shows a code of the second factor if it is asked for.
    async fn show_second_factor(
        &mut self,
        session: ApiSession,
        code: Option<&str>,
    ) -> anyhow::Result<()> {
        self.token = session.token;
        if session.auth_queries.is_empty() {
            return Ok(());
        }
        let code = code.with_context(|| {
            format!(
                "the identity has a second factor, or has to enroll one (`nightgate mfa enroll`): give its code by \
                 {MFA_CODE} for one command, or by `nightgate login --mfa-code CODE` for many"
            )
        })?;
        self.create_at("authenticate/mfa", &json!({ "code": code })).await
    }

    /// Goes on with the session of the last login, and prolongs it.
    pub(super) async fn resume(path: &Path) -> anyhow::Result<Self> {
        let session = StoredSession::load(path)?;
        let Some(StoredSession { token: Some(token), .. }) = &session else {
            bail!("say who you are: `nightgate login HOST:PORT`, or --identity-file FILE");
        };
        let session = session.clone().context("a session with a token")?;
        let mut client = Self::anybody(&session)?;
        client.token.clone_from(token);
        let url = format!("{}/edge/client/v1/current-api-session", session.controller);
        let prolonged: ApiSession =
            client.send(client.http.get(url)).await.context("log in again: the session ended")?;
        client.token.clone_from(&prolonged.token);
        StoredSession { token: Some(prolonged.token), ..session }.save(path)?;
        Ok(client)
    }

    /// Begins a session; the answer is its token.
    pub(super) async fn log_in(
        session: &StoredSession,
        username: &str,
        password: &str,
        code: Option<&str>,
    ) -> anyhow::Result<String> {
        let mut client = Self::anybody(session)?;
        let request = client.http.post(client.url("authenticate")).query(&[("method", "password")]);
        let body = json!({ "username": username, "password": password });
        let begun: ApiSession = client
            .send(request.json(&body))
            .await
            .with_context(|| format!("log in to {}", session.controller))?;
        client.show_second_factor(begun, code).await?;
        Ok(client.token)
    }

    /// Ends a session.
    pub(super) async fn log_out(session: &StoredSession) -> anyhow::Result<()> {
        let mut client = Self::anybody(session)?;
        client.token = session.token.clone().unwrap_or_default();
        let url = format!("{}/edge/client/v1/current-api-session", session.controller);
        client.send::<Value>(client.http.delete(url)).await.map(drop)
    }

    /// Trusts the session's controller, and proves nothing to it.
    fn anybody(session: &StoredSession) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(session.ca.as_bytes()) {
            roots.add(certificate.context("read the controller's root certificate")?)?;
        }
        let tls = rustls::ClientConfig::builder_with_provider(nightgate_identity::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = Client::builder().tls_backend_preconfigured(tls).build()?;
        let base = format!("{}/edge/management/v1", session.controller);
        Ok(Self { http, base, token: String::new() })
    }

    /// Sets or takes away the password of an identity.
    pub(super) async fn set_password(
        &self,
        id: &str,
        password: Option<&SetPassword>,
    ) -> anyhow::Result<()> {
        let url = self.url(&format!("identities/{id}/password"));
        let request = match password {
            Some(password) => self.http.put(url).json(password),
            None => self.http.delete(url),
        };
        self.send::<Value>(request).await.map(drop)
    }

    /// Creates an entity.
    pub(crate) async fn create(
        &self,
        kind: EntityKind,
        spec: &Map<String, Value>,
        options: &[(&str, String)],
    ) -> anyhow::Result<Created> {
        self.send(self.http.post(self.url(kind.path())).query(options).json(spec)).await
    }

    /// Changes fields of an entity.
    pub(super) async fn update(
        &self,
        kind: EntityKind,
        id: &str,
        changes: &Map<String, Value>,
    ) -> anyhow::Result<()> {
        let url = self.url(&format!("{}/{id}", kind.path()));
        self.send::<Value>(self.http.patch(url).json(changes)).await.map(drop)
    }

    /// Changes fields of an entity that depend on those it has: refused if somebody changes it meanwhile.
    pub(super) async fn update_from<E: Entity>(
        &self,
        id: &str,
        change: impl FnOnce(E) -> Map<String, Value>,
    ) -> anyhow::Result<()> {
        let url = self.url(&format!("{}/{id}", E::KIND.path()));
        let response = self.response(self.http.get(&url)).await?;
        let seen = response.headers().get("etag").cloned();
        let found = response.bytes().await.context("read the controller's answer")?;
        let found: Envelope<E> =
            serde_json::from_slice(&found).context("the controller's answer is not as expected")?;
        let mut request = self.http.patch(url).json(&change(found.data));
        if let Some(seen) = seen {
            request = request.header("if-match", seen);
        }
        self.send::<Value>(request).await.map(drop)
    }

    /// Does something else with an entity.
    pub(super) async fn act(
        &self,
        kind: EntityKind,
        id: &str,
        action: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<()> {
        let url = self.url(&format!("{}/{id}/{action}", kind.path()));
        self.send::<Value>(self.http.post(url).json(body)).await.map(drop)
    }

    /// Does something else with an entity, with a body that is no JSON.
    pub(super) async fn act_with_text(
        &self,
        kind: EntityKind,
        id: &str,
        action: &str,
        body: String,
    ) -> anyhow::Result<()> {
        let url = self.url(&format!("{}/{id}/{action}", kind.path()));
        let request = self.http.post(url).header("content-type", "text/plain").body(body);
        self.send::<Value>(request).await.map(drop)
    }

    /// The text at a path.
    pub(super) async fn text(&self, path: &str) -> anyhow::Result<String> {
        let body = self.bytes(self.http.get(self.url(path))).await?;
        String::from_utf8(body).context("the controller's answer is not text")
    }

    /// Deletes an entity by name or id.
    pub(crate) async fn delete(&self, kind: EntityKind, name: &str) -> anyhow::Result<Named> {
        let found: Named = self.find(kind, name).await?;
        let url = self.url(&format!("{}/{}", kind.path(), found.id));
        self.send::<Value>(self.http.delete(url)).await?;
        Ok(found)
    }

    /// Makes something that is no entity.
    pub(super) async fn create_at(&self, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        self.send::<Value>(self.http.post(self.url(path)).json(body)).await.map(drop)
    }

    /// Deletes what is at a path.
    pub(super) async fn delete_at(&self, path: &str) -> anyhow::Result<()> {
        self.send::<Value>(self.http.delete(self.url(path))).await.map(drop)
    }

    /// Makes all of these changes, or none.
    pub(super) async fn change(&self, differences: &[Difference]) -> anyhow::Result<Vec<Changed>> {
        self.send(self.http.post(self.url("network")).json(&differences)).await
    }

    /// Whether there is an entity with this name.
    pub(crate) async fn exists(&self, kind: EntityKind, name: &str) -> anyhow::Result<bool> {
        let filter = format!("name={}", Value::from(name));
        let request = self.http.get(self.url(kind.path())).query(&[("filter", filter)]);
        Ok(!self.send::<Vec<Value>>(request).await?.is_empty())
    }

    /// The entity with this name, or else with this id.
    pub(super) async fn find<T: DeserializeOwned>(
        &self,
        kind: EntityKind,
        name: &str,
    ) -> anyhow::Result<T> {
        let path = kind.path();
        for field in ["name", "id"] {
            let filter = format!("{field}={}", Value::from(name));
            let request = self.http.get(self.url(path)).query(&[("filter", filter)]);
            let mut found: Vec<T> = self.send(request).await?;
            if let Some(found) = found.pop() {
                return Ok(found);
            }
        }
        bail!("there is no {name:?} among the {path}; `list` shows what there is")
    }

    /// All entities of a kind that a filter selects; the page it names, if it names one.
    pub(super) async fn list(&self, kind: EntityKind, filter: &str) -> anyhow::Result<Value> {
        self.list_at(kind.path(), filter).await.map(Value::Array)
    }

    /// As [`Self::list`], for what is no entity.
    pub(super) async fn list_at(&self, path: &str, filter: &str) -> anyhow::Result<Vec<Value>> {
        let wanted = Query::parse(filter)?;
        let is_page = wanted.skip.is_some() || wanted.limit.is_some();
        let mut all = Vec::new();
        loop {
            let page = [("limit", PAGE), ("offset", all.len())];
            let request = self.http.get(self.url(path)).query(&page).query(&[("filter", filter)]);
            let mut envelope: Envelope<Vec<Value>> = self.send_envelope(request).await?;
            let pagination: Pagination = serde_json::from_value(envelope.meta["pagination"].take())
                .context("read paging")?;
            let is_last = envelope.data.is_empty() || is_page;
            all.append(&mut envelope.data);
            if is_last || all.len() >= pagination.total_count {
                return Ok(all);
            }
        }
    }

    /// Replaces names by ids in a spec: in roles, and where it refers to other entities.
    pub(crate) async fn resolved(
        &self,
        mut spec: Map<String, Value>,
    ) -> anyhow::Result<Map<String, Value>> {
        for (field, kind) in ROLES {
            let Some(roles) = spec.get_mut(field).and_then(Value::as_array_mut) else { continue };
            for role in roles {
                if let Some(name) = role.as_str().and_then(|role| role.strip_prefix('@')) {
                    *role = format!("@{}", self.find::<Named>(kind, name).await?.id).into();
                }
            }
        }
        for (_, kind, name) in references(&mut spec) {
            let text = name.as_str().unwrap_or_default();
            *name = self.find::<Named>(kind, text).await?.id.into();
        }
        Ok(spec)
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
        let body = self.bytes(request).await?;
        serde_json::from_slice(&body).context("the controller's answer is not as expected")
    }

    async fn bytes(&self, request: RequestBuilder) -> anyhow::Result<Vec<u8>> {
        let response = self.response(request).await?;
        Ok(response.bytes().await.context("read the controller's answer")?.into())
    }

    /// An answer that is no refusal.
    async fn response(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.header("zt-session", &self.token).send().await.context(
            "the controller cannot be reached; is `nightgate controller run` running at the address \
             that was named",
        )?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.context("read the controller's answer")?;
        match serde_json::from_slice::<ErrorEnvelope>(&body) {
            Ok(ErrorEnvelope { error, .. }) if status == StatusCode::INTERNAL_SERVER_ERROR => {
                bail!("{} (request id {})", error.message, error.request_id)
            }
            Ok(ErrorEnvelope { error, .. }) => bail!("{}", error.message),
            Err(_) => bail!("the controller answered {status}"),
        }
    }
}
