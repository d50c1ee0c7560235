//! The controller as an enrolled identity uses it: authentication, services, sessions.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use nightgate_identity::{
    Identity, IdentityError, ProvenIdentity, RequestError, TlsSetupError, key_and_request,
};
use nightgate_model::{
    api::{Envelope, ExtendedCertificate, Pagination},
    configs::NATIVE_METHOD,
    entity::Permission,
    id::{IdentityId, ServiceId},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::{Mutex, watch};

use crate::{
    rest::{ControllerError, Rest},
    service::Service,
    tls::REST_ALPN,
};

/// Header that carries the API session token.
const SESSION_HEADER: &str = "zt-session";

/// The caller's own authenticators.
const AUTHENTICATORS: &str = "/current-identity/authenticators?sort=id";

/// Entries asked for in one page of a list.
const PAGE: usize = 100;

/// Shortest time between two renewals of the API session.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(5);

/// Life assumed for a session whose expiry cannot be read.
const UNKNOWN_LIFE: Duration = Duration::from_secs(60);

/// Why an identity could not be authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// The identity's key and certificates do not do for TLS.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The controller did not answer, or refused.
    #[error(transparent)]
    Controller(#[from] ControllerError),
}

/// Why a certificate was not renewed. The one before still counts, unless the file holds the new one: then that
/// counts as soon as it is used.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The key or the certificate signing request could not be made.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The controller did not answer, or refused.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The controller knows no certificate of the identity.
    #[error("renew the certificate: the controller knows none of this identity")]
    NoCertificate,
    /// The new certificate cannot be used, or not be saved.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The new certificate does not do for TLS.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

#[derive(Deserialize)]
struct ListedAuthenticator {
    id: String,
    method: String,
}

/// An edge router as the controller lists it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedRouter {
    pub(crate) name: String,
    #[serde(default)]
    supported_protocols: BTreeMap<String, String>,
}

/// The right to dial or host one service through the listed routers.
#[derive(Clone, Debug)]
pub(crate) struct ServiceSession {
    pub(crate) token: String,
    pub(crate) routers: Vec<ListedRouter>,
    pub(crate) expires: Instant,
}

/// Who is authenticated.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AuthenticatedAs {
    pub(crate) id: IdentityId,
    pub(crate) name: String,
}

/// One identity's standing with its controller.
#[derive(Debug)]
pub(crate) struct Controller {
    rest: RwLock<Rest>,
    /// This end speaks our own method of end-to-end encryption.
    native: bool,
    session: watch::Sender<ApiSession>,
    // Held while authenticating, so that many failing requests lead to one new session.
    renewing: Mutex<()>,
}

#[derive(Clone, Debug)]
struct ApiSession {
    token: Arc<str>,
    identity: AuthenticatedAs,
    obtained: Instant,
    life: Duration,
    /// It waits for a second factor, and is good for nothing else.
    is_due: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiSessionAnswer {
    token: String,
    expires_at: String,
    expiration_seconds: Option<u64>,
    identity: AuthenticatedAs,
    /// Questions that have to be answered before anything else.
    #[serde(default)]
    auth_queries: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSessionAnswer {
    token: String,
    expires_at: String,
    edge_routers: Vec<ListedRouter>,
}

#[derive(Deserialize)]
struct PeerAnswer {
    permissions: Vec<Permission>,
}

impl ListedRouter {
    /// `host:port` where it accepts SDKs; none if it does not.
    pub(crate) fn address(&self) -> Option<&str> {
        self.supported_protocols.get("tls")?.strip_prefix("tls://")
    }
}

impl Controller {
    pub(crate) async fn authenticate(
        identity: &Identity,
        native: bool,
    ) -> Result<Self, AuthenticateError> {
        let rest =
            Rest::discover(identity.client_config(&REST_ALPN)?, identity.controller()).await?;
        let session = watch::Sender::new(open_session(&rest, native).await?);
        Ok(Self { rest: RwLock::new(rest), native, session, renewing: Mutex::new(()) })
    }

    /// Gets a certificate that follows the identity's present one, and keeps it where the identity is kept. The
    /// present one counts until the new one is used.
    pub(crate) async fn extend_certificate(
        &self,
        identity: &Identity,
    ) -> Result<Identity, RenewError> {
        let (key, request) = key_and_request(self.identity().id.as_str())?;
        let listed =
            self.list::<ListedAuthenticator>("list authenticators", AUTHENTICATORS).await?;
        let own = listed.into_iter().find(|listed| listed.method == "cert");
        let id = own.ok_or(RenewError::NoCertificate)?.id;
        let path = format!("/current-identity/authenticators/{id}/extend");
        let body = json!({ "clientCertCsr": request }).to_string();
        let extended: ExtendedCertificate =
            self.authenticated("extend the certificate", || self.post(&path, &body)).await?.data;
        let renewed = identity.renewed(key, extended.client_cert, extended.ca)?;
        if let Some(path) = renewed.path() {
            renewed.save(path)?;
        }
        Ok(renewed)
    }

    /// Authenticates with this identity's certificate, and uses it from now on: that says that it has arrived.
    pub(crate) async fn use_certificate(&self, identity: &Identity) -> Result<(), RenewError> {
        let rest =
            Rest::discover(identity.client_config(&REST_ALPN)?, identity.controller()).await?;
        let session = open_session(&rest, self.native).await?;
        *self.rest.write().unwrap_or_else(PoisonError::into_inner) = rest;
        self.session.send_replace(session);
        Ok(())
    }

    fn rest(&self) -> Rest {
        self.rest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn post(&self, path: &str, body: &str) -> reqwest::RequestBuilder {
        let request = self.rest().post(path).header("content-type", "application/json");
        request.body(body.to_owned())
    }

    /// The API session's token, as edge routers want it in a hello.
    pub(crate) fn token(&self) -> Arc<str> {
        Arc::clone(&self.session.borrow().token)
    }

    pub(crate) fn identity(&self) -> AuthenticatedAs {
        self.session.borrow().identity.clone()
    }

    /// Whether the API session waits for a second factor.
    pub(crate) fn is_due(&self) -> bool {
        self.session.borrow().is_due
    }

    /// Returns when the API session waits for a second factor, or does not any more.
    pub(crate) async fn becomes_due(&self, is_due: bool) {
        // It fails when nobody can change it any more: this has the sender.
        drop(self.session.subscribe().wait_for(|session| session.is_due == is_due).await);
    }

    /// Answers the question for a second factor. The token is another one then, which routers that have not heard of the
    /// answer wait for.
    pub(crate) async fn show_second_factor(&self, code: &str) -> Result<(), ControllerError> {
        let body = json!({ "code": code }).to_string();
        let make = || self.post("/authenticate/mfa", &body);
        let operation = "show the second factor";
        let _: Envelope<serde_json::Value> = self.authenticated(operation, make).await?;
        self.renew().await
    }

    /// Sends a request of the interface for second factors, which sessions that wait for one may do too.
    pub(crate) async fn about_second_factor<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        make: impl Fn(&Rest) -> reqwest::RequestBuilder,
    ) -> Result<T, ControllerError> {
        Ok(self.authenticated(operation, || make(&self.rest())).await?.data)
    }

    /// Half of what is left of the API session's life: when to renew it.
    pub(crate) fn renewal_due(&self) -> Instant {
        let session = self.session.borrow();
        session.obtained + (session.life / 2).max(SHORTEST_RENEWAL)
    }

    /// Extends the API session, or opens another one if the controller no longer knows it.
    pub(crate) async fn renew(&self) -> Result<(), ControllerError> {
        let stale = self.token();
        let rest = self.rest();
        let request = rest.get("/current-api-session").header(SESSION_HEADER, &*stale);
        let answer: Result<ApiSessionAnswer, _> =
            rest.data("extend the API session", request).await;
        match answer {
            Ok(answer) => {
                self.session.send_replace(ApiSession::new(answer));
                Ok(())
            }
            Err(error) if error.is_unauthorized() => self.reopen(&stale).await,
            Err(error) => Err(error),
        }
    }

    /// All services the identity may dial or host.
    pub(crate) async fn services(&self) -> Result<Vec<Service>, ControllerError> {
        self.list("list services", "/services?configTypes=all").await
    }

    /// All edge routers the identity may use.
    pub(crate) async fn edge_routers(&self) -> Result<Vec<ListedRouter>, ControllerError> {
        self.list("list edge routers", "/current-identity/edge-routers?online=all").await
    }

    /// Asks for the right to dial or host a service.
    pub(crate) async fn service_session(
        &self,
        service: &ServiceId,
        permission: Permission,
    ) -> Result<ServiceSession, ControllerError> {
        let body = json!({ "serviceId": service, "type": permission }).to_string();
        let make = || self.post("/sessions", &body);
        let operation = match permission {
            Permission::Dial => "open a dial session",
            Permission::Bind => "open a bind session",
        };
        let answer: ServiceSessionAnswer = self.authenticated(operation, make).await?.data;
        Ok(ServiceSession {
            token: answer.token,
            routers: answer.edge_routers,
            expires: Instant::now() + life_until(&answer.expires_at),
        })
    }

    /// What an identity that has proven itself at the other end of a circuit may do with the service.
    pub(crate) async fn permissions_of(
        &self,
        peer: &ProvenIdentity,
        service: &ServiceId,
    ) -> Result<Vec<Permission>, ControllerError> {
        let ProvenIdentity { id, fingerprint } = peer;
        // Ours are UUIDs; what would lead elsewhere in the path is no id.
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Ok(Vec::new());
        }
        let path = format!("/services/{service}/identities/{id}");
        let make = || self.rest().get(&path).query(&[("certificate", fingerprint)]);
        let answer: PeerAnswer = self.authenticated("look at a peer", make).await?.data;
        Ok(answer.permissions)
    }

    async fn list<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
    ) -> Result<Vec<T>, ControllerError> {
        let mut entries = Vec::new();
        loop {
            let offset = entries.len();
            let page = format!("{path}&limit={PAGE}&offset={offset}");
            let answer = self.authenticated(operation, || self.rest().get(&page)).await?;
            let mut found: Vec<T> = answer.data;
            let done = found.is_empty();
            entries.append(&mut found);
            let total = answer.meta.get("pagination").and_then(|pagination| {
                serde_json::from_value::<Pagination>(pagination.clone()).ok()
            });
            if done || total.is_none_or(|known| entries.len() >= known.total_count) {
                return Ok(entries);
            }
        }
    }

    /// Sends a request with the token, and once more with a new one if the controller no longer
    /// knows the API session. One that waits for a second factor stays: another one would wait too.
    async fn authenticated<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        make: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<Envelope<T>, ControllerError> {
        let token = self.token();
        let request = make().header(SESSION_HEADER, &*token);
        match self.rest().envelope(operation, request).await {
            Err(error) if error.is_unauthorized() => {
                self.renew().await?;
                if self.is_due() && *self.token() == *token {
                    return Err(error);
                }
                let request = make().header(SESSION_HEADER, &*self.token());
                self.rest().envelope(operation, request).await
            }
            answer => answer,
        }
    }

    /// Opens another API session, unless somebody else has replaced `stale` in the meantime.
    async fn reopen(&self, stale: &str) -> Result<(), ControllerError> {
        let _one_at_a_time = self.renewing.lock().await;
        if *self.token() == *stale {
            self.session.send_replace(open_session(&self.rest(), self.native).await?);
        }
        Ok(())
    }
}

impl ApiSession {
    fn new(answer: ApiSessionAnswer) -> Self {
        let life = answer
            .expiration_seconds
            .map_or_else(|| life_until(&answer.expires_at), Duration::from_secs);
        Self {
            token: answer.token.into(),
            identity: answer.identity,
            obtained: Instant::now(),
            life,
            is_due: !answer.auth_queries.is_empty(),
        }
    }
}

async fn open_session(rest: &Rest, native: bool) -> Result<ApiSession, ControllerError> {
    let body = json!({
        "sdkInfo": { "type": "nightgate-sdk", "version": env!("CARGO_PKG_VERSION") },
        "envInfo": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH },
        "configTypes": ["all"],
        "endToEndMethods": native.then_some(NATIVE_METHOD).as_slice(),
    });
    let request = rest
        .post("/authenticate")
        .query(&[("method", "cert")])
        .header("content-type", "application/json")
        .body(body.to_string());
    rest.data("authenticate", request).await.map(ApiSession::new)
}

/// Reads bytes as answers that begin sessions and list routers.
pub(crate) fn read_sessions(bytes: &[u8]) {
    drop(
        serde_json::from_slice::<Envelope<ApiSessionAnswer>>(bytes)
            .map(|it| ApiSession::new(it.data)),
    );
    if let Ok(answer) = serde_json::from_slice::<Envelope<ServiceSessionAnswer>>(bytes) {
        life_until(&answer.data.expires_at);
        let addresses = answer.data.edge_routers.iter().filter_map(ListedRouter::address);
        assert!(addresses.count() <= answer.data.edge_routers.len());
    }
}

/// Time left until an RFC 3339 point in time.
fn life_until(expires: &str) -> Duration {
    OffsetDateTime::parse(expires, &Rfc3339).map_or(UNKNOWN_LIFE, |then| {
        Duration::try_from(then - OffsetDateTime::now_utc()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn router_without_tls_listener_has_no_address() {
        let listed = |json: &str| serde_json::from_str::<ListedRouter>(json).unwrap();

        let public = listed(r#"{"name":"r1","supportedProtocols":{"tls":"tls://[::1]:443"}}"#);
        let private = listed(r#"{"name":"r2","supportedProtocols":{}}"#);

        assert_eq!(public.address(), Some("[::1]:443"));
        assert_eq!(private.address(), None);
    }

    #[test]
    fn past_expiry_leaves_no_life_and_nonsense_leaves_a_minute() {
        assert_eq!(life_until("2020-01-01T00:00:00.000Z"), Duration::ZERO);
        assert_eq!(life_until("soon"), UNKNOWN_LIFE);
        assert!(life_until("9000-01-01T00:00:00.000Z") > Duration::from_secs(3600));
    }
}
