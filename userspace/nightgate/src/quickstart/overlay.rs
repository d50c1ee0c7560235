//! What a quickstart runs: controller, router, a hidden web server, and a client.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use axum::{Router as App, extract::ConnectInfo, routing::get};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use nightgate_model::kind::EntityKind;
use nightgate_router::{Lanes, LinkConfig, Router, RouterConfig};
use nightgate_sdk::{Caller, Connector, Context, enroll, enroll_router};
use nightgate_server::{Controller, Settings, init};
use serde_json::{Map, Value, json};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::{CLIENT, HOST, ROUTER, SERVICE, folder::Folder};
use crate::{identity_file, management::ManagementClient};

/// How long the page may take to arrive for the first time.
const FIRST_PAGE: Duration = Duration::from_secs(20);

/// Pause before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(300);

/// Everything that runs. To be stopped by [`Overlay::stop`].
pub(super) struct Overlay {
    controller: Controller,
    router: Router,
    web_server: AbortHandle,
    client: Context,
}

impl Overlay {
    /// Starts everything, making what is missing.
    pub(super) async fn start(folder: &mut Folder) -> anyhow::Result<Self> {
        let controller = start_controller(folder).await?;
        let operator = ManagementClient::connect(&folder.file("controller/admin.json")).await?;
        let at = folder.state.router().to_string();
        let router_identity = folder.file(&format!("{ROUTER}.json"));
        if !router_identity.exists() {
            let jwt =
                create_anew(&operator, EntityKind::EdgeRouter, json!({ "name": ROUTER })).await?;
            enroll_router(&jwt, Some(&at)).await?.save(&router_identity)?;
        }
        let router = start_router(folder, &router_identity).await?;
        if !folder.state.is_complete {
            make_network(&operator, folder).await?;
            folder.complete()?;
        }
        let host = join(&folder.file(&format!("{HOST}.json"))).await?;
        let client = join(&folder.file(&format!("{CLIENT}.json"))).await?;
        let web_server = tokio::spawn(serve(host)).abort_handle();
        Ok(Self { controller, router, web_server, client })
    }

    /// The page, as the client gets it.
    pub(super) async fn fetch(&self) -> anyhow::Result<String> {
        let until = Instant::now() + FIRST_PAGE;
        loop {
            match self.try_fetch().await {
                // Hosting begins a moment after the start.
                Err(_early) if Instant::now() < until => sleep(RETRY).await,
                outcome => return outcome,
            }
        }
    }

    async fn try_fetch(&self) -> anyhow::Result<String> {
        let connector = Connector::new(self.client.clone());
        let client: Client<_, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).build(connector);
        let answer = client.get(format!("http://{SERVICE}/").parse()?).await?;
        let page = answer.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&page).into_owned())
    }

    /// Stops everything, in order.
    pub(super) async fn stop(self) {
        self.web_server.abort();
        self.router.shutdown().await;
        self.controller.stop().await;
    }
}

async fn start_controller(folder: &Folder) -> anyhow::Result<Controller> {
    let at = folder.state.controller();
    let mut settings = Settings::new(at.to_string().parse()?, at);
    settings.names = vec!["localhost".into()];
    let dir = folder.file("controller");
    init(&dir, &settings).with_context(|| format!("initialize {}", dir.display()))?;
    Ok(Controller::start(&dir).await?)
}

async fn start_router(folder: &Folder, identity: &Path) -> anyhow::Result<Router> {
    let at = folder.state.router();
    let config = RouterConfig {
        identity: identity_file::load(identity)?,
        listen: Some(at),
        advertise: Some(at.to_string()),
        legacy_clients: false,
        links: LinkConfig::default(),
        offline: nightgate_router::Offline::default(),
    };
    let router = Router::start(config, Lanes::here()).await.context("start the router")?;
    let mut replica = router.replica();
    replica.wait_for(|replica| replica.index > 0).await.context("the router stopped")?;
    Ok(router)
}

/// Two identities, a service, and who may do what with it.
async fn make_network(operator: &ManagementClient, folder: &Folder) -> anyhow::Result<()> {
    for (name, attributes) in [(HOST, json!([])), (CLIENT, json!(["staff"]))] {
        let file = folder.file(&format!("{name}.json"));
        if !file.exists() {
            let spec = json!({ "name": name, "roleAttributes": attributes });
            let jwt = create_anew(operator, EntityKind::Identity, spec).await?;
            enroll(&jwt).await?.save(&file)?;
        }
    }
    let policy = |verb: &str, permission: &str, who: &str| {
        json!({
            "name": format!("{SERVICE}-{verb}"), "type": permission, "semantic": "AnyOf",
            "identityRoles": [who], "serviceRoles": [format!("@{SERVICE}")],
        })
    };
    for (kind, spec) in [
        (EntityKind::Service, json!({ "name": SERVICE })),
        (EntityKind::ServicePolicy, policy("bind", "Bind", &format!("@{HOST}"))),
        (EntityKind::ServicePolicy, policy("dial", "Dial", "#staff")),
    ] {
        create_anew(operator, kind, spec).await?;
    }
    Ok(())
}

/// Creates an entity, in the place of what an interrupted start may have left. Returns its enrollment
/// token; empty for what does not enroll.
async fn create_anew(
    operator: &ManagementClient,
    kind: EntityKind,
    spec: Value,
) -> anyhow::Result<String> {
    let fields: Map<String, Value> = serde_json::from_value(spec)?;
    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
    if operator.exists(kind, name).await? {
        operator.delete(kind, name).await?;
    }
    let created = operator.create(kind, &operator.resolved(fields).await?, &[]).await?;
    Ok(created.enrollment_jwt.unwrap_or_default())
}

async fn join(identity: &Path) -> anyhow::Result<Context> {
    let loaded = identity_file::load(identity)?;
    Context::load(&loaded).await.with_context(|| format!("join with {}", identity.display()))
}

/// Serves the page. Hosts again when a policy allows it again.
async fn serve(context: Context) {
    loop {
        match context.bind(SERVICE).await {
            Ok(listener) => {
                let app = App::new().route("/", get(page));
                let app = app.into_make_service_with_connect_info::<Caller>();
                drop(axum::serve(listener, app).await);
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "not hosted");
            }
        }
        sleep(RETRY).await;
    }
}

async fn page(ConnectInfo(caller): ConnectInfo<Caller>) -> String {
    format!(
        "Hello {}. This page comes from a web server without a listening port:\n\
         it dialed out to a router, and only who a policy names can reach it.\n",
        caller.name
    )
}
