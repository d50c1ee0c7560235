//! What a caller authenticates with, and how it gets a certificate that follows its present one.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{
    api::{ExtendCertificate, ExtendedCertificate, VerifyCertificate},
    entity::IdentityKind,
};
use nightgate_store::{EnrollmentTarget, OfferedCertificate, Step};
use serde_json::json;

use crate::{
    clock,
    core::{Core, Memory},
    rest::{
        Failure, answer,
        api::{Access, Api},
        authenticator::{Authenticator, FIELDS, Method, leaf},
        body::Body,
        caller::Caller,
        query::{ListQuery, Names},
        schema,
    },
};

/// The routes of a caller's own authenticators.
pub(super) fn api() -> Api {
    Api::new(Access::Session)
        .get("/current-identity/authenticators", "What the caller authenticates with", list)
        .get("/current-identity/authenticators/{id}", "One of them", one)
        .post("/current-identity/authenticators/{id}/extend", "A certificate to follow it", extend)
        .takes(schema::of::<ExtendCertificate>())
        .answers(schema::of::<ExtendedCertificate>())
        .post(
            "/current-identity/authenticators/{id}/extend-verify",
            "Use that certificate from now on",
            verify,
        )
        .takes(schema::of::<VerifyCertificate>())
}

async fn list(
    State(core): State<Arc<Core>>,
    caller: Caller,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let model = &memory.model;
        let identity =
            model.identities.get(&caller.identity.id).ok_or_else(Failure::unauthorized)?;
        let names = |one: &Authenticator<'_>| Names { id: one.id(), name: one.id() };
        query.answer(FIELDS, Authenticator::of(identity, model), names, |one| one.shape(model))
    })
}

async fn one(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let found = own(&caller, &id, memory)?;
        Ok(answer::ok(found.shape(&memory.model)))
    })
}

/// `POST /current-identity/authenticators/{id}/extend`: the answer is an [`ExtendedCertificate`]. The present
/// certificate counts until the new one has been used.
async fn extend(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<ExtendCertificate>,
) -> Result<Response, Failure> {
    core.read(|memory| extendable(&caller, &id, memory))?;
    let request = body.client_cert_csr.as_bytes();
    let issued = core.authority.sign_identity(request, &caller.identity.id, clock::now())?;
    let offered =
        OfferedCertificate { fingerprint: issued.fingerprint, pem: issued.chain_pem.clone() };
    core.edit(caller.author(), move |memory| {
        extendable(&caller, &id, memory)?;
        let identity = EnrollmentTarget::Identity(caller.identity.id.clone());
        Ok::<_, Failure>((vec![Step::OfferCertificate(identity, offered)], ()))
    })
    .await?;
    let ca = core.authority.bundle().pem().into();
    Ok(answer::ok(ExtendedCertificate { client_cert: issued.chain_pem, ca }))
}

/// `POST /current-identity/authenticators/{id}/extend-verify`: from now on the new certificate counts, and the
/// one before does not. Circuits go on.
async fn verify(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<VerifyCertificate>,
) -> Result<Response, Failure> {
    let held = leaf(&body.client_cert).map(|certificate| certificate.fingerprint());
    core.edit(caller.author(), move |memory| {
        extendable(&caller, &id, memory)?;
        let present = memory.model.certificates.get(&caller.identity.id);
        let next = held.and_then(|held| present?.successor(&held));
        let next = next.ok_or_else(|| {
            Failure::invalid("clientCert: not the certificate of the last extend")
        })?;
        let identity = EnrollmentTarget::Identity(caller.identity.id.clone());
        Ok::<_, Failure>((vec![Step::Certify(identity, next)], ()))
    })
    .await?;
    Ok(answer::ok(json!({})))
}

/// The caller's authenticator; another's is as unknown as one that does not exist.
fn own<'a>(caller: &Caller, id: &str, memory: &'a Memory) -> Result<Authenticator<'a>, Failure> {
    let found = Authenticator::find(id, &memory.model)?;
    let is_own = found.identity.entity.id == caller.identity.id;
    is_own.then_some(found).ok_or_else(|| Failure::not_found("the authenticator"))
}

/// Refuses what cannot be followed by another certificate of ours.
fn extendable(caller: &Caller, id: &str, memory: &Memory) -> Result<(), Failure> {
    let found = own(caller, id, memory)?;
    let certificate = memory.model.certificates.get(&caller.identity.id);
    let is_ours = certificate.is_some_and(|certificate| certificate.ca.is_none());
    // The caller holds the certificate: only then the session is bound to one.
    let is_held = caller.session.fingerprint.is_some();
    if found.method != Method::Cert || !is_ours || !is_held {
        return Err(Failure::conflict(
            "only a certificate of this controller can be extended, by its holder",
        ));
    }
    match caller.identity.kind {
        IdentityKind::Default => Ok(()),
        IdentityKind::Router => {
            Err(Failure::conflict("a router renews its certificate by its control channel"))
        }
    }
}
