//! The interface for clients: SDKs, tunnelers, and routers that enroll.

mod authenticate;
mod authenticators;
mod current;
mod enroll;
mod mfa;
mod posture;
mod services;
mod sessions;
mod version;

pub(super) use self::{authenticate::authenticate, mfa::api as mfa, version::version};
use super::api::{Access, Api};

/// All client routes, without a prefix.
pub(super) fn api() -> Api {
    Api::new(Access::Anybody)
        .get("/", "As /version", version)
        .get("/version", "Versions and where the interfaces are", version)
        .get(
            "/.well-known/est/cacerts",
            "Certificates to trust (RFC 7030)",
            version::ca_certificates,
        )
        .get("/.well-known/jwks.json", "Public keys of tokens (RFC 7517)", version::token_keys)
        .get("/external-jwt-signers", "There are none", version::external_jwt_signers)
        .post("/enroll", "Redeem an enrollment token", enroll::enroll)
        .post(
            "/enroll/{method}",
            "Redeem an enrollment token by one method",
            enroll::enroll_by_path,
        )
        .post("/authenticate", "Begin an API session", authenticate)
        .at(Access::Session)
        .get("/current-api-session", "The API session, prolonged", current::api_session)
        .delete("/current-api-session", "End the API session", current::end_api_session)
        .get(
            "/current-api-session/service-updates",
            "When services last changed",
            current::service_updates,
        )
        .get("/current-identity", "The caller's identity", current::identity)
        .merge(mfa::api())
        .merge(authenticators::api())
        .get("/current-identity/edge-routers", "Routers the caller may use", current::edge_routers)
        .get("/services", "Services the caller may use", services::list)
        .get("/services/{id}", "One of them", services::one)
        .get("/services/{id}/edge-routers", "Routers to use it through", services::edge_routers)
        .get("/services/{id}/terminators", "Where it is hosted", services::terminators)
        .get(
            "/services/{id}/identities/{identity}",
            "What an identity at the other end of a circuit may do with it",
            services::identity,
        )
        .get("/sessions", "The caller's service sessions", sessions::list)
        .post("/sessions", "Begin a service session", sessions::create)
        .get("/sessions/{id}", "One of them, with a fresh token", sessions::one)
        .delete("/sessions/{id}", "End a service session", sessions::end)
        .post("/posture-response", "Accepted and not used", posture::accept)
        .post("/posture-response-bulk", "Accepted and not used", posture::accept)
}
