//! How an enrollment token is to be signed: `?jwtAlgorithm=ES256|RS256` of each call that makes one.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use nightgate_model::token::JwtAlgorithm;
use serde::Deserialize;

use crate::rest::Failure;

/// The algorithm that a call asks for.
pub(super) struct Signing(pub(super) JwtAlgorithm);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(default)]
    jwt_algorithm: JwtAlgorithm,
}

impl<S: Send + Sync> FromRequestParts<S> for Signing {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let parameters = Query::<Parameters>::from_request_parts(parts, state).await;
        let Query(Parameters { jwt_algorithm }) =
            parameters.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        Ok(Self(jwt_algorithm))
    }
}
