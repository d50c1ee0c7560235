//! The HTTP side of the controller: one request at a time, answers of bounded length.

use nightgate_model::api::{Envelope, ErrorEnvelope};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;

/// Longest answer read, in bytes: room for a page of 500 services with 30 KiB of configuration each.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Longest wait for a TCP and TLS connection to the controller.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for a whole answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A request to the controller that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// No answer.
    #[error("{operation}: no answer from the controller at {url}")]
    Unreachable {
        /// What was asked.
        operation: &'static str,
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The controller said no.
    #[error("{operation}: the controller refused with status {status}, {code}: {message}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// HTTP status (RFC 9110 section 15).
        status: u16,
        /// The controller's word for it, in upper case; empty if it gave none.
        code: String,
        /// The controller's explanation; empty if it gave none.
        message: String,
    },
    /// The answer is not what the API promises.
    #[error("{operation}: the controller's answer has an unexpected form")]
    Malformed {
        /// What was asked.
        operation: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The answer is too long to be read.
    #[error("{operation}: the controller's answer is longer than {MAX_ANSWER} bytes")]
    TooLong {
        /// What was asked.
        operation: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("set up the HTTP client")]
    Setup(#[source] reqwest::Error),
}

/// A connection to one controller with one TLS configuration.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    http: Client,
    root: String,
    base: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    api_versions: ApiVersions,
}

#[derive(Deserialize)]
struct ApiVersions {
    edge: EdgeVersions,
}

#[derive(Deserialize)]
struct EdgeVersions {
    v1: ApiVersion,
}

#[derive(Deserialize)]
struct ApiVersion {
    path: String,
}

impl ControllerError {
    /// Whether the controller no longer knows the API session: authenticating again may help.
    pub(crate) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }
}

impl Rest {
    /// Asks the controller at `url` for its version and learns where its client API is.
    pub(crate) async fn discover(tls: ClientConfig, url: &str) -> Result<Self, ControllerError> {
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(ControllerError::Setup)?;
        let root = url.trim_end_matches('/').to_owned();
        let mut rest = Self { http, base: root.clone(), root };
        let request = rest.http.get(format!("{}/version", rest.root));
        let version: Version = rest.data("read the controller's version", request).await?;
        rest.base = format!("{}{}", rest.root, version.api_versions.edge.v1.path);
        Ok(rest)
    }

    /// A GET of the client API; `path` starts with a slash.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.base))
    }

    /// A POST of the client API; `path` starts with a slash.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base))
    }

    /// A DELETE of the client API; `path` starts with a slash.
    pub(crate) fn delete(&self, path: &str) -> RequestBuilder {
        self.http.delete(format!("{}{path}", self.base))
    }

    /// A GET outside the client API; `path` starts with a slash.
    pub(crate) fn get_root(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.root))
    }

    /// Sends the request and returns the `data` of the answer.
    pub(crate) async fn data<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        request: RequestBuilder,
    ) -> Result<T, ControllerError> {
        Ok(self.envelope(operation, request).await?.data)
    }

    /// Sends the request and returns the whole answer.
    pub(crate) async fn envelope<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        request: RequestBuilder,
    ) -> Result<Envelope<T>, ControllerError> {
        let answer = self.text(operation, request).await?;
        serde_json::from_slice(&answer)
            .map_err(|source| ControllerError::Malformed { operation, source })
    }

    /// Sends the request and returns the bytes of the answer.
    pub(crate) async fn text(
        &self,
        operation: &'static str,
        request: RequestBuilder,
    ) -> Result<Vec<u8>, ControllerError> {
        let unreachable = |source: reqwest::Error| ControllerError::Unreachable {
            operation,
            url: self.root.clone(),
            source: source.without_url(),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let answer = read_bounded(response)
            .await
            .map_err(unreachable)?
            .ok_or(ControllerError::TooLong { operation })?;
        if status.is_success() { Ok(answer) } else { Err(refusal(operation, status, &answer)) }
    }
}

/// Reads the body; none if it is longer than [`MAX_ANSWER`].
async fn read_bounded(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn refusal(operation: &'static str, status: StatusCode, answer: &[u8]) -> ControllerError {
    let (code, message) = serde_json::from_slice::<ErrorEnvelope>(answer).map_or_else(
        |_not_ours| Default::default(),
        |refused| (refused.error.code, refused.error.message),
    );
    ControllerError::Refused { operation, status: status.as_u16(), code, message }
}
