//! The controller as an enrolled identity uses it: authentication, services, sessions.

mod session;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use nightgate_identity::{
    Identity, IdentityError, ProvenIdentity, RequestError, TlsSetupError, key_and_request,
};
use nightgate_model::{
    api::{Envelope, ExtendedCertificate, Pagination},
    entity::Permission,
    id::ServiceId,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::sync::{Mutex, watch};

use self::session::{ApiSession, ApiSessionAnswer, ServiceSessionAnswer, life_until, open_session};
pub(crate) use self::session::{AuthenticatedAs, ListedRouter, ServiceSession, read_sessions};
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

#[derive(Deserialize)]
struct PeerAnswer {
    permissions: Vec<Permission>,
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
