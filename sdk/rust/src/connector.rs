//! Streams for hyper's client: HTTP to services of the overlay.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use hyper::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tower_service::Service;

use crate::{
    context::Context,
    dial::{DialError, DialOptions},
    stream::Stream,
};

/// Lets hyper-util's client send requests to services: the host of a URL is the name of the service.
///
/// ```no_run
/// use http_body_util::{BodyExt as _, Empty};
/// use hyper::body::Bytes;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use nightgate_sdk::{Connector, Context, Identity};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let context = Context::load(&Identity::load("laptop.json")?).await?;
/// let client: Client<_, Empty<Bytes>> =
///     Client::builder(TokioExecutor::new()).build(Connector::new(context));
///
/// let answer = client.get("http://wiki/start".parse()?).await?;
/// let page = answer.into_body().collect().await?.to_bytes();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Connector {
    context: Context,
    service: Option<String>,
    options: DialOptions,
}

/// Why no stream could be opened for a URL.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The scheme is another than `http`.
    #[error("{uri}: expected http://; the overlay encrypts and authenticates already")]
    Scheme {
        /// The whole URL.
        uri: Uri,
    },
    /// The URL names no host.
    #[error("{uri}: expected http://SERVICE/...")]
    NoService {
        /// The whole URL.
        uri: Uri,
    },
    /// The service could not be dialed.
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl Connector {
    /// A connector that dials the service named by the host of each URL. The port is ignored.
    pub fn new(context: Context) -> Self {
        Self { context, service: None, options: DialOptions::default() }
    }

    /// Dials this service whatever the host of the URL is: for services whose name is no host name.
    #[must_use]
    pub fn service(self, name: impl Into<String>) -> Self {
        Self { service: Some(name.into()), ..self }
    }

    /// Dials with these options.
    #[must_use]
    pub fn options(self, options: DialOptions) -> Self {
        Self { options, ..self }
    }

    fn service_of(&self, uri: &Uri) -> Result<String, ConnectorError> {
        if uri.scheme_str() != Some("http") {
            return Err(ConnectorError::Scheme { uri: uri.clone() });
        }
        let named = self.service.as_deref().or_else(|| uri.host());
        named.map(str::to_owned).ok_or_else(|| ConnectorError::NoService { uri: uri.clone() })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectorError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let service = self.service_of(&uri);
        let Self { context, options, .. } = self.clone();
        Box::pin(async move { Ok(TokioIo::new(context.dial_with(&service?, &options).await?)) })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
