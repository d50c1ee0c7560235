//! A real controller and a real router on loopback, and an operator to set them up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex},
};

use nightgate_identity::OldestTls;
use nightgate_model::{
    api::{Created, Envelope},
    auth::default_policy,
    entity::{Permission, Role, Semantic},
    spec::{EdgeRouterSpec, IdentitySpec, ServicePolicySpec, ServiceSpec},
};
use nightgate_router::{Lanes, LinkConfig, Router, RouterConfig};
use nightgate_sdk::{Context, Identity, enroll, enroll_router};
use nightgate_server::{Controller, Settings, init};
use serde::Serialize;

use crate::path::{self, Meddler};

/// A controller with one router. Stops when dropped.
pub(crate) struct Overlay {
    pub(crate) router: Router,
    pub(crate) operator: Operator,
    /// There but while it is started again.
    controller: Option<Controller>,
    router_identity: Identity,
    router_address: SocketAddr,
    clients: Clients,
    /// Identities that joined, for the router on the path of [`Self::start_behind`].
    joined: Arc<Mutex<Vec<Identity>>>,
    folder: tempfile::TempDir,
}

/// For whom controller and router are set up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Clients {
    /// As they are by default.
    Modern,
    /// Also OpenZiti clients of 2022.
    AlsoLegacy,
}

/// The administrator, logged in.
pub(crate) struct Operator {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Overlay {
    pub(crate) async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Starts everything on this address.
    pub(crate) async fn start_at(ip: IpAddr) -> Self {
        Self::start_for(ip, Clients::Modern).await
    }

    /// Starts everything on this address, for these clients.
    pub(crate) async fn start_for(ip: IpAddr, clients: Clients) -> Self {
        let legacy_clients = clients == Clients::AlsoLegacy;
        let folder = tempfile::tempdir().unwrap();
        let address = free_address(ip);
        let mut settings = Settings::new(address.to_string().parse().unwrap(), address);
        settings.legacy_clients = legacy_clients;
        init(folder.path(), &settings).unwrap();
        let controller = Controller::start(folder.path()).await.unwrap();
        let admin = Identity::load(folder.path().join("admin.json")).unwrap();
        let operator = Operator::log_in(&admin).await;
        let router_address = free_address(ip);
        let token = operator.create_router("r1").await;
        let router_identity =
            enroll_router(&token, Some(&router_address.to_string())).await.unwrap();
        let router =
            start_router(&router_identity, (router_address, router_address), clients).await;
        let joined = Arc::default();
        Self {
            router,
            operator,
            controller: Some(controller),
            clients,
            router_identity,
            router_address,
            joined,
            folder,
        }
    }

    /// Starts everything with something between the SDKs and the router that meddles with what passes.
    pub(crate) async fn start_behind(meddler: &Meddler, clients: Clients) -> Self {
        let mut overlay = Self::start_for(Ipv4Addr::LOCALHOST.into(), clients).await;
        overlay.router.shutdown().await;
        let in_front = free_address(overlay.router_address.ip());
        let (identity, real) = (&overlay.router_identity, overlay.router_address);
        let joined = Arc::clone(&overlay.joined);
        path::stand_at((in_front, overlay.oldest_tls()), identity, real, joined, meddler.clone())
            .await;
        overlay.router = start_router(identity, (real, in_front), overlay.clients).await;
        overlay
    }

    /// Stops the router and starts another one in its place.
    pub(crate) async fn restart_router(&mut self) {
        self.router.shutdown().await;
        let address = self.router_address;
        self.router = start_router(&self.router_identity, (address, address), self.clients).await;
    }

    /// Stops the controller, for good.
    pub(crate) async fn stop_controller(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.stop().await;
        }
    }

    /// Stops the controller, does something in its directory and starts it again.
    pub(crate) async fn restart_controller_after(&mut self, change: impl FnOnce(&Path)) {
        let Some(controller) = self.controller.take() else { return };
        controller.stop().await;
        change(self.folder.path());
        self.controller = Some(Controller::start(self.folder.path()).await.unwrap());
    }

    /// Creates, enrolls and loads an identity with these attributes.
    pub(crate) async fn join(&self, name: &str, attributes: &[&str]) -> Context {
        Context::load(&self.enroll(name, attributes).await).await.unwrap()
    }

    /// Creates and enrolls an identity with these attributes.
    pub(crate) async fn enroll(&self, name: &str, attributes: &[&str]) -> Identity {
        let token = self.operator.create_identity(name, attributes).await;
        let identity = enroll(&token).await.unwrap();
        self.joined(&identity);
        identity
    }

    /// Notes an identity that has enrolled, for the router on the path of [`Self::start_behind`].
    pub(crate) fn joined(&self, identity: &Identity) {
        self.joined.lock().unwrap().push(identity.clone());
    }

    fn oldest_tls(&self) -> OldestTls {
        match self.clients {
            Clients::Modern => OldestTls::Tls13,
            Clients::AlsoLegacy => OldestTls::Tls12,
        }
    }

    /// A folder that goes with the overlay.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn stop(mut self) {
        self.router.shutdown().await;
        self.stop_controller().await;
    }
}

impl Operator {
    async fn log_in(admin: &Identity) -> Self {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(admin.client_config(&[b"http/1.1"]).unwrap())
            .build()
            .unwrap();
        let base = format!("{}/edge/management/v1", admin.controller());
        let url = format!("{base}/authenticate?method=cert");
        let request = http.post(url).header("content-type", "application/json").body("{}");
        let answer = request.send().await.unwrap().error_for_status().unwrap();
        let session: Envelope<serde_json::Value> = answer.json().await.unwrap();
        let token = session.data["token"].as_str().unwrap().to_owned();
        Self { http, base, token }
    }

    /// Creates an identity and returns its enrollment token.
    pub(crate) async fn create_identity(&self, name: &str, attributes: &[&str]) -> String {
        self.create_identity_for(name, attributes, "ES256").await
    }

    /// Creates an identity and returns its enrollment token, signed in this way.
    pub(crate) async fn create_identity_for(
        &self,
        name: &str,
        attributes: &[&str],
        algorithm: &str,
    ) -> String {
        let body = IdentitySpec {
            name: name.into(),
            is_admin: false,
            disabled: false,
            role_attributes: texts(attributes),
            auth_policy_id: default_policy(),
        };
        let path = format!("identities?jwtAlgorithm={algorithm}");
        self.create(&path, &body).await.enrollment_jwt.unwrap()
    }

    /// Creates an edge router and returns its enrollment token.
    pub(crate) async fn create_router(&self, name: &str) -> String {
        self.create_edge_router(name, None).await
    }

    /// Creates a router that may dial and host under an identity of its own with these attributes, and returns
    /// its enrollment token.
    pub(crate) async fn create_gateway(&self, name: &str, attributes: &[&str]) -> String {
        self.create_edge_router(name, Some(attributes)).await
    }

    async fn create_edge_router(&self, name: &str, gateway: Option<&[&str]>) -> String {
        let body = EdgeRouterSpec {
            name: name.into(),
            is_tunneler_enabled: gateway.is_some(),
            disabled: false,
            role_attributes: texts(gateway.unwrap_or_default()),
            cost: 0,
            no_traversal: false,
        };
        self.create("edge-routers", &body).await.enrollment_jwt.unwrap()
    }

    /// Creates a service that identities with the attribute `NAME-dial` may dial, and those with
    /// `NAME-host` may host.
    pub(crate) async fn create_service(&self, name: &str, encryption_required: bool) {
        let attribute = format!("{name}-service");
        let body = ServiceSpec {
            name: name.into(),
            role_attributes: texts(&[&attribute]),
            encryption_required,
            terminator_strategy: Default::default(),
            terminators: [].into(),
            config: BTreeMap::new(),
            configs: BTreeSet::new(),
        };
        self.create("services", &body).await;
        for (permission, word) in [(Permission::Dial, "dial"), (Permission::Bind, "host")] {
            let body = ServicePolicySpec {
                name: format!("{name}-{word}"),
                permission,
                semantic: Semantic::AnyOf,
                identity_roles: vec![Role::Attribute(format!("{name}-{word}"))],
                service_roles: vec![Role::Attribute(attribute.clone())],
            };
            self.create("service-policies", &body).await;
        }
    }

    /// Changes fields of the entity of this kind and name.
    pub(crate) async fn patch(&self, kind: &str, name: &str, fields: &serde_json::Value) {
        let url = self.url_of(kind, name).await;
        self.send(self.http.patch(url).json(fields)).await;
    }

    /// Deletes the entity of this kind and name.
    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        let url = self.url_of(kind, name).await;
        self.send(self.http.delete(url)).await;
    }

    /// Disables or enables the identity of this name.
    pub(crate) async fn act(&self, name: &str, action: &str) {
        let url = self.url_of("identities", name).await;
        self.send(self.http.post(format!("{url}/{action}"))).await;
    }

    /// Ends the API sessions of the identity of this name.
    pub(crate) async fn end_sessions_of(&self, name: &str) {
        let url = format!("{}/api-sessions", self.base);
        let listed = self.send(self.http.get(&url).query(&[("limit", "500")])).await;
        for session in listed.as_array().unwrap() {
            if session["identity"]["name"] == name {
                let url = format!("{url}/{}", session["id"].as_str().unwrap());
                self.send(self.http.delete(url)).await;
            }
        }
    }

    /// Takes the certificate of the identity of this name away.
    pub(crate) async fn revoke_certificate_of(&self, name: &str) {
        let url = self.url_of("identities", name).await;
        let listed = self.send(self.http.get(format!("{url}/authenticators"))).await;
        let id = listed[0]["id"].as_str().unwrap();
        self.send(self.http.delete(format!("{}/authenticators/{id}", self.base))).await;
    }

    /// The id of the entity of this kind and name.
    pub(crate) async fn id_of(&self, kind: &str, name: &str) -> String {
        let filter = format!("name=\"{name}\"");
        let url = format!("{}/{kind}", self.base);
        let listed = self.send(self.http.get(url).query(&[("filter", filter)])).await;
        listed[0]["id"].as_str().unwrap().to_owned()
    }

    async fn url_of(&self, kind: &str, name: &str) -> String {
        format!("{}/{kind}/{}", self.base, self.id_of(kind, name).await)
    }

    /// Sends text to a path.
    pub(crate) async fn post_text(&self, path: &str, body: String) {
        self.send(self.http.post(format!("{}/{path}", self.base)).body(body)).await;
    }

    /// The text at a path.
    pub(crate) async fn get_text(&self, path: &str) -> String {
        let request = self.http.get(format!("{}/{path}", self.base));
        let answer = request.header("zt-session", &self.token).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    pub(crate) async fn create(&self, kind: &str, body: &impl Serialize) -> Created {
        let request = self.http.post(format!("{}/{kind}", self.base)).json(body);
        serde_json::from_value(self.send(request).await).unwrap()
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> serde_json::Value {
        let answer = request.header("zt-session", &self.token).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str::<Envelope<serde_json::Value>>(&text).unwrap().data
    }
}

/// Begins an API session of an identity as a client that speaks OpenZiti's method alone.
pub(crate) async fn authenticate_as_other_client(identity: &Identity) {
    Operator::log_in(identity).await;
}

/// Starts a router and waits until it knows the model.
pub(crate) async fn start_router(
    identity: &Identity,
    (address, advertised): (SocketAddr, SocketAddr),
    clients: Clients,
) -> Router {
    let config = RouterConfig {
        identity: identity.clone(),
        listen: Some(address),
        advertise: Some(advertised.to_string()),
        legacy_clients: clients == Clients::AlsoLegacy,
        links: LinkConfig::default(),
        offline: nightgate_router::Offline::default(),
    };
    let router = Router::start(config, Lanes::here()).await.unwrap();
    let mut replica = router.replica();
    replica.wait_for(|replica| replica.index > 0).await.unwrap();
    drop(replica);
    router
}

/// A socket address whose port the system has just given and got back: the enrollment tokens
/// and certificates have to name it before anybody can listen there.
pub(crate) fn free_address(ip: IpAddr) -> SocketAddr {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

fn texts(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}
