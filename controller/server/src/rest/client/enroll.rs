//! `POST /enroll`: a one-time token and a certificate signing request become a certificate.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use nightgate_model::{
    api::{EnrollRouter, Enrolled},
    token::EnrollmentMethod,
};
use nightgate_pki::Issued;
use nightgate_store::{Author, EnrollmentTarget, EnrollmentToken, Redeemed, Step};
use serde::Deserialize;

use crate::{
    Address, clock,
    core::Core,
    rest::{
        Failure, answer,
        body::{Raw, parse},
    },
};

/// Query of `POST /enroll`.
#[derive(Deserialize)]
pub(crate) struct Parameters {
    method: EnrollmentMethod,
    token: String,
}

/// `POST /enroll?method=ott&token=TOKEN`: the body is a certificate signing request in PEM.
/// `POST /enroll?method=erott&token=TOKEN`: the body is an [`EnrollRouter`].
///
/// The answer is an [`Enrolled`]. The token is used up in the transaction that records the
/// certificate, so of two callers one gets a certificate that counts.
pub(crate) async fn enroll(
    State(core): State<Arc<Core>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    Raw(body): Raw,
) -> Result<Response, Failure> {
    let Query(Parameters { method, token }) = parameters.map_err(|rejection| {
        Failure::bad_request("INVALID_ENROLL_METHOD", rejection.body_text())
    })?;
    let token = EnrollmentToken::new(token);
    let pending = core.enrollment(token.clone()).await?;
    let Some((target, expires_at)) = pending else { return Err(Failure::invalid_token()) };
    if expires_at <= clock::timestamp() {
        return Err(Failure::invalid_token());
    }
    let (issued, redeemed) = issue(&core, method, target, &body)?;
    core.edit(Author { id: String::new(), name: "enrollment".into() }, move |_| {
        Ok::<_, Failure>((vec![Step::Redeem { token, redeemed }], ()))
    })
    .await?;
    Ok(answer_certificate(&core, issued))
}

/// Signs the certificate; it counts for nothing until the store has it.
fn issue(
    core: &Core,
    method: EnrollmentMethod,
    target: EnrollmentTarget,
    body: &[u8],
) -> Result<(Issued, Redeemed), Failure> {
    match (method, target) {
        (EnrollmentMethod::Ott, EnrollmentTarget::Identity(id)) => {
            let issued = core.authority.sign_identity(body, &id, clock::now())?;
            let fingerprint = issued.fingerprint.clone();
            Ok((issued, Redeemed::Identity { id, fingerprint }))
        }
        (EnrollmentMethod::Erott, EnrollmentTarget::Router(id)) => {
            let EnrollRouter { csr, address } = parse(body)?;
            let address = address.map(|text| text.parse::<Address>()).transpose();
            let address = address.map_err(|error| Failure::invalid(error.to_string()))?;
            let host = address.as_ref().map(Address::host);
            let issued = core.authority.sign_router(csr.as_bytes(), &id, host, clock::now())?;
            let fingerprint = issued.fingerprint.clone();
            let address = address.map(|address| address.to_string());
            Ok((issued, Redeemed::Router { id, fingerprint, address }))
        }
        (EnrollmentMethod::Ott, EnrollmentTarget::Router(_))
        | (EnrollmentMethod::Erott, EnrollmentTarget::Identity(_)) => Err(Failure::invalid_token()),
    }
}

fn answer_certificate(core: &Core, issued: Issued) -> Response {
    tracing::info!(fingerprint = issued.fingerprint, "enrolled");
    answer::ok(Enrolled { cert: issued.chain_pem, ca: core.authority.bundle().pem().into() })
}
