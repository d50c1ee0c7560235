//! A controller on loopback, and callers over real TLS.

use std::{net::SocketAddr, sync::Arc};

use nightgate_model::api::{Created, Enrolled};
use nightgate_server::{Controller, Initialized, Settings, init};
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::aws_lc_rs, version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const CLIENT: &str = "/edge/client/v1";
pub(crate) const MANAGEMENT: &str = "/edge/management/v1";

/// A running controller in a directory of its own.
pub(crate) struct Lab {
    pub(crate) controller: Controller,
    pub(crate) dir: TempDir,
    pub(crate) ca: String,
}

/// A key and its certificate.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) key: String,
    pub(crate) chain: String,
}

/// Someone who calls the controller.
pub(crate) struct Caller {
    http: Client,
    base: String,
    pub(crate) token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    pub(crate) body: Value,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts one that also serves legacy clients.
    pub(crate) async fn start_legacy() -> Self {
        Self::start_with(|settings| settings.legacy_clients = true).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings =
            Settings::new("localhost:443".parse().unwrap(), "127.0.0.1:0".parse().unwrap());
        settings.names = vec!["127.0.0.1".into()];
        change(&mut settings);
        let initialized = init(dir.path(), &settings).unwrap();
        assert!(matches!(initialized, Initialized::New { .. }));
        let ca = part(&identity_file(&dir), "ca");
        Self { controller: Controller::start(dir.path()).await.unwrap(), dir, ca }
    }

    pub(crate) async fn restart(self) -> Self {
        let Self { controller, dir, ca } = self;
        controller.stop().await;
        Self { controller: Controller::start(dir.path()).await.unwrap(), dir, ca }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.controller.local_address()
    }

    pub(crate) fn anybody(&self) -> Caller {
        self.caller(None)
    }

    pub(crate) fn caller(&self, credentials: Option<&Credentials>) -> Caller {
        self.caller_by(tls(&self.ca, credentials, &[]))
    }

    /// A caller whose TLS is this.
    pub(crate) fn caller_by(&self, tls: ClientConfig) -> Caller {
        let http = Client::builder().tls_backend_preconfigured(tls).build().unwrap();
        Caller { http, base: format!("https://{}", self.address()), token: None }
    }

    /// Somebody without a certificate, from this address.
    pub(crate) fn caller_from(&self, address: std::net::Ipv4Addr) -> Caller {
        let http = Client::builder()
            .tls_backend_preconfigured(tls(&self.ca, None, &[]))
            .local_address(std::net::IpAddr::from(address))
            .build()
            .unwrap();
        Caller { http, base: format!("https://{}", self.address()), token: None }
    }

    /// The administrator, authenticated.
    pub(crate) async fn admin(&self) -> Caller {
        let file = identity_file(&self.dir);
        let credentials = Credentials { key: part(&file, "key"), chain: part(&file, "cert") };
        let mut admin = self.caller(Some(&credentials));
        admin.authenticate(MANAGEMENT).await;
        admin
    }

    /// Creates and enrolls an identity.
    pub(crate) async fn identity(&self, name: &str, attributes: &[&str]) -> (String, Credentials) {
        let body = json!({ "name": name, "roleAttributes": attributes });
        let created = self.admin().await.create("identities", body).await;
        let credentials = self.enroll_identity(&created).await;
        (created.id, credentials)
    }

    pub(crate) async fn enroll_identity(&self, created: &Created) -> Credentials {
        let (key, csr) = request();
        let path = format!("/enroll?method=ott&token={}", one_time_token(created));
        let answer = self.anybody().post_text(&path, csr).await;
        credentials(key, &answer)
    }

    /// Creates and enrolls a router.
    pub(crate) async fn router(&self, name: &str, tunneler: bool) -> (String, Credentials) {
        let body = json!({ "name": name, "isTunnelerEnabled": tunneler });
        let created = self.admin().await.create("edge-routers", body).await;
        let (key, csr) = request();
        let path = format!("/enroll?method=erott&token={}", one_time_token(&created));
        let body = json!({ "csr": csr, "address": "router.example:443" });
        let answer = self.anybody().post(&path, body).await;
        (created.id.clone(), credentials(key, &answer))
    }

    /// An authenticated client with this certificate.
    pub(crate) async fn client(&self, credentials: &Credentials) -> Caller {
        let mut client = self.caller(Some(credentials));
        client.authenticate(CLIENT).await;
        client
    }
}

impl Caller {
    pub(crate) async fn authenticate(&mut self, prefix: &str) {
        let path = format!("{prefix}/authenticate?method=cert");
        let answer = self.post(&path, json!({ "configTypes": ["all"] })).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        self.token = Some(answer.body["data"]["token"].as_str().unwrap().into());
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// An answer as it comes.
    pub(crate) async fn open(&self, path: &str) -> Response {
        self.request(Method::GET, path, None).send().await.unwrap()
    }

    /// The status of whatever answers, if something does.
    pub(crate) async fn try_status(&self, path: &str) -> Result<StatusCode, reqwest::Error> {
        Ok(self.request(Method::GET, path, None).send().await?.status())
    }

    /// As [`Self::get`], where there may be no answer.
    pub(crate) async fn try_get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        Ok(Answer::of(self.request(Method::GET, path, None).send().await?).await)
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: String) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body.to_string())).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string())).await
    }

    /// Changes an entity that the caller has seen in this version.
    pub(crate) async fn patch_seen(&self, path: &str, body: Value, seen: &str) -> Answer {
        let request = self.request(Method::PATCH, path, Some(body.to_string()));
        Answer::of(request.header("if-match", seen).send().await.unwrap()).await
    }

    /// The path and the data of the entity with this name.
    pub(crate) async fn find(&self, kind: &str, name: &str) -> (String, Value) {
        let path = format!("{MANAGEMENT}/{kind}?filter=name=\"{name}\"");
        let mut found = self.get(&path).await.body["data"][0].take();
        let id = found["id"].as_str().unwrap().to_owned();
        (format!("{MANAGEMENT}/{kind}/{id}"), found.take())
    }

    /// Creates an entity.
    pub(crate) async fn create(&self, kind: &str, body: Value) -> Created {
        let answer = self.post(&format!("{MANAGEMENT}/{kind}"), body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        serde_json::from_value(answer.body["data"].clone()).unwrap()
    }

    /// Any request.
    pub(crate) async fn call(&self, method: Method, path: &str, body: &str) -> Answer {
        self.send(method, path, Some(body.to_owned())).await
    }

    /// Any request, with a code in its header.
    pub(crate) async fn with_code(&self, method: Method, path: &str, code: &str) -> Answer {
        let request = self.request(method, path, None).header("mfa-validation-code", code);
        Answer::of(request.send().await.unwrap()).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        Answer::of(self.request(method, path, body).send().await.unwrap()).await
    }

    fn request(&self, method: Method, path: &str, body: Option<String>) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("zt-session", token);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        request
    }
}

impl Answer {
    async fn of(response: Response) -> Self {
        assert!(response.headers().contains_key("ziti-instance-id"));
        let status = response.status();
        let etag = response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self { status, etag, body }
    }

    /// Checks that the request was refused in the envelope that clients read.
    pub(crate) fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.body["error"]["code"], code, "{}", self.body);
        assert!(
            self.body["error"]["message"].is_string()
                && self.body["error"]["requestId"].is_string()
        );
    }
}

/// A new key and its certificate signing request.
pub(crate) fn request() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    (key.serialize_pem(), csr)
}

/// The one-time token inside an enrollment JWT.
pub(crate) fn one_time_token(created: &Created) -> String {
    claims(created.enrollment_jwt.as_ref().unwrap())["jti"].as_str().unwrap().into()
}

/// The claims of a JWT, unverified.
pub(crate) fn claims(jwt: &str) -> Value {
    let payload = jwt.split('.').nth(1).unwrap();
    let bits: Vec<u32> = payload
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' => u32::from(byte - b'A'),
            b'a'..=b'z' => u32::from(byte - b'a') + 26,
            b'0'..=b'9' => u32::from(byte - b'0') + 52,
            b'-' => 62,
            _ => 63,
        })
        .collect();
    let mut bytes = Vec::new();
    for chunk in bits.chunks(4) {
        let word = chunk.iter().fold(0, |word, bits| (word << 6) | bits) << (6 * (4 - chunk.len()));
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    serde_json::from_slice(&bytes).unwrap()
}

/// TLS 1.3 that trusts the controller's CA.
pub(crate) fn tls(ca: &str, credentials: Option<&Credentials>, alpn: &[&[u8]]) -> ClientConfig {
    tls_of(&TLS13, ca, credentials, alpn)
}

/// One version of TLS that trusts the controller's CA.
pub(crate) fn tls_of(
    version: &'static SupportedProtocolVersion,
    ca: &str,
    credentials: Option<&Credentials>,
    alpn: &[&[u8]],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    // As other libraries do, a client offers no cipher suites of versions that it does not speak.
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.version() == version);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match credentials {
        None => builder.with_no_client_auth(),
        Some(credentials) => {
            let chain = CertificateDer::pem_slice_iter(credentials.chain.as_bytes());
            let chain = chain.collect::<Result<_, _>>().unwrap();
            let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

fn credentials(key: String, answer: &Answer) -> Credentials {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let enrolled: Enrolled = serde_json::from_value(answer.body["data"].clone()).unwrap();
    Credentials { key, chain: enrolled.cert }
}

fn identity_file(dir: &TempDir) -> Value {
    serde_json::from_slice(&std::fs::read(dir.path().join("admin.json")).unwrap()).unwrap()
}

fn part(file: &Value, name: &str) -> String {
    file["id"][name].as_str().unwrap().strip_prefix("pem:").unwrap().into()
}
