//! Sessions as the controller begins them, and the routers that it lists with them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use nightgate_model::{api::Envelope, configs::NATIVE_METHOD, id::IdentityId};
use serde::Deserialize;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::rest::{ControllerError, Rest};

/// Life assumed for a session whose expiry cannot be read.
const UNKNOWN_LIFE: Duration = Duration::from_secs(60);

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

/// What shows the controller who asks.
#[derive(Clone, Debug)]
pub(super) struct ApiSession {
    pub(super) token: Arc<str>,
    pub(super) identity: AuthenticatedAs,
    pub(super) obtained: Instant,
    pub(super) life: Duration,
    /// It waits for a second factor, and is good for nothing else.
    pub(super) is_due: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiSessionAnswer {
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
pub(super) struct ServiceSessionAnswer {
    pub(super) token: String,
    pub(super) expires_at: String,
    pub(super) edge_routers: Vec<ListedRouter>,
}

impl ListedRouter {
    /// `host:port` where it accepts SDKs; none if it does not.
    pub(crate) fn address(&self) -> Option<&str> {
        self.supported_protocols.get("tls")?.strip_prefix("tls://")
    }
}

impl ApiSession {
    pub(super) fn new(answer: ApiSessionAnswer) -> Self {
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

/// Authenticates by the certificate; `native` ends speak our own method of end-to-end encryption.
pub(super) async fn open_session(rest: &Rest, native: bool) -> Result<ApiSession, ControllerError> {
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
pub(super) fn life_until(expires: &str) -> Duration {
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
