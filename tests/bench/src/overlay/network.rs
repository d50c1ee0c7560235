//! A controller and a router on loopback, set up through the management API.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result, ensure};
use nightgate_router::{Lanes, LinkConfig, Router, RouterConfig};
use nightgate_sdk::{Context, Identity, enroll, enroll_router};
use nightgate_server::{Controller, Settings, init};
use serde_json::{Value, json};

/// A running overlay with one router, and its administrator.
pub(super) struct Network {
    controller: Controller,
    router: Router,
    http: reqwest::Client,
    base: String,
    token: String,
    _folder: tempfile::TempDir,
}

impl Network {
    pub(super) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        init(folder.path(), &Settings::new(address.to_string().parse()?, address))?;
        let controller = Controller::start(folder.path()).await?;
        let admin = Identity::load(folder.path().join("admin.json"))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(admin.client_config(&[b"http/1.1"])?)
            .build()?;
        let base = format!("{}/edge/management/v1", admin.controller());
        let request = http.post(format!("{base}/authenticate?method=cert")).json(&json!({}));
        let session: Value = request.send().await?.json().await?;
        let token = text(&session["data"]["token"])?;
        let created = create(&http, &base, &token, "edge-routers", &json!({"name": "r1"})).await?;
        let address = free_address()?;
        let token_of_router = text(&created["enrollmentJwt"])?;
        let config = RouterConfig {
            identity: enroll_router(&token_of_router, Some(&address.to_string())).await?,
            listen: Some(address),
            advertise: Some(address.to_string()),
            legacy_clients: false,
            links: LinkConfig::default(),
            offline: nightgate_router::Offline::default(),
        };
        let router = Router::start(config, Lanes::here()).await?;
        router.replica().wait_for(|replica| replica.index > 0).await?;
        Ok(Self { controller, router, http, base, token, _folder: folder })
    }

    /// Creates a service that everybody may dial and host.
    pub(super) async fn create_service(&self, name: &str, encrypted: bool) -> Result<()> {
        let service = json!({ "name": name, "encryptionRequired": encrypted });
        let service = text(&self.create("services", &service).await?["id"])?;
        for kind in ["Dial", "Bind"] {
            let policy = json!({
                "name": format!("{name}-{kind}"), "type": kind, "semantic": "AnyOf",
                "identityRoles": ["#all"], "serviceRoles": [format!("@{service}")],
            });
            self.create("service-policies", &policy).await?;
        }
        Ok(())
    }

    /// Creates, enrolls and loads an identity.
    pub(super) async fn join(&self, name: &str) -> Result<Context> {
        let created = self.create("identities", &json!({ "name": name })).await?;
        Ok(Context::load(&enroll(&text(&created["enrollmentJwt"])?).await?).await?)
    }

    pub(super) async fn stop(self) {
        self.router.shutdown().await;
        self.controller.stop().await;
    }

    async fn create(&self, kind: &str, body: &Value) -> Result<Value> {
        create(&self.http, &self.base, &self.token, kind, body).await
    }
}

async fn create(
    http: &reqwest::Client,
    base: &str,
    token: &str,
    kind: &str,
    body: &Value,
) -> Result<Value> {
    let request = http.post(format!("{base}/{kind}")).header("zt-session", token).json(body);
    let answer = request.send().await?;
    let status = answer.status();
    let mut answer: Value = answer.json().await?;
    ensure!(status.is_success(), "create {kind}: {status}: {answer}");
    Ok(answer["data"].take())
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("the controller's answer lacks a text")
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
