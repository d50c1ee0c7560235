//! Dial and bind services of the overlay from an application, without a listening port.
//!
//! An operator creates an identity and hands over its enrollment token. [`enroll()`] redeems it once
//! and gives an [`Identity`] to save; [`Context::load`] joins the overlay with it. Then
//! [`Context::dial`] opens a [`Stream`] to whoever hosts a service, and [`Context::bind`] hosts
//! one: streams arrive at a [`Listener`] through connections that this end opened itself.
//!
//! ```no_run
//! use nightgate_sdk::{Context, Identity};
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::load("laptop.json")?;
//! let context = Context::load(&identity).await?;
//!
//! let mut stream = context.dial("echo").await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?;
//! let mut answer = Vec::new();
//! stream.read_to_end(&mut answer).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What protects a stream
//! TLS 1.3 with both certificates to the edge router, and, for services that require it, end-to-end
//! encryption from one application to the other, which no router can read; see
//! [`nightgate_e2ee`]. The protocol is OpenZiti's, so either end may be any OpenZiti SDK. Between two
//! ends that are ours, a stream also proves who is at the other end ([`Stream::peer`]) and ends where
//! the other end ended it.
//!
//! # Features
//! `axum` makes [`Listener`] an `axum::serve::Listener`, with [`Caller`] as connection info. `hyper` adds
//! `Connector`, by which hyper's client sends requests to services.
//!
//! # Examples
//! In `examples/`: a web server without a listening port, a web client, netcat, and proxies for TCP and
//! UDP. Each is run by `cargo run -p nightgate-sdk --example NAME -- --help`.

mod binding;
mod bundle;
#[cfg(feature = "hyper")]
mod connector;
mod context;
mod controller;
mod dial;
mod edge;
mod enroll;
#[doc(hidden)]
pub mod fuzzing;
mod listen;
mod messages;
mod offer;
mod peers;
mod rest;
#[cfg(test)]
mod scripted;
mod second_factor;
mod service;
mod stream;
mod tls;
mod token;

pub use bundle::BundleError;
#[cfg(feature = "hyper")]
pub use connector::{Connector, ConnectorError};
pub use context::Context;
pub use controller::{AuthenticateError, RenewError};
pub use dial::{DialError, DialFailure, DialOptions, EndToEnd};
pub use enroll::{EnrollError, enroll, enroll_password, enroll_router, enroll_with_certificate};
pub use listen::{BindError, BindFailure, BindOptions, Caller, Listener, Offers};
pub use messages::{MAX_MESSAGE, Messages};
pub use nightgate_e2ee::{AgreementError, Cipher, Method, RecordError};
pub use nightgate_identity::{
    Identity, IdentityError, Passphrase, PassphraseError, ProvenIdentity, RequestError,
    TlsSetupError,
};
pub use nightgate_model::token::EnrollmentMethod;
pub use nightgate_model::{
    entity::{Permission, Precedence},
    id::{IdentityId, ServiceId},
};
pub use nightgate_wire::FailureCause;
pub use offer::{Offer, OfferLost};
pub use rest::ControllerError;
pub use second_factor::SecondFactorEnrollment;
pub use service::Service;
pub use stream::{Stream, TracedHop};
pub use token::{TokenError, enrollment_method};
