//! A collector that takes lines of JSON by HTTP POST.

use std::{fs, io, time::Duration};

use nightgate_config::HttpCollector;
use reqwest::{
    Certificate, Client,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};

use crate::record::Line;

/// Media type of lines of JSON, as Elasticsearch, Vector and others name it.
const JSON_LINES: &str = "application/x-ndjson";
/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// A collector.
#[derive(Debug)]
pub(crate) struct HttpSink {
    client: Client,
    url: String,
    authorization: Option<HeaderValue>,
}

/// A collector that cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A file is missing or unfit.
    #[error("telemetry.flows.http.{key}: read {path}: {reason}; expected {expected}")]
    File {
        /// Where it is configured.
        key: &'static str,
        /// Its path.
        path: String,
        /// What is wrong.
        reason: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The client.
    #[error("telemetry.flows.http: {0}")]
    Client(#[source] reqwest::Error),
}

impl HttpSink {
    /// Reads token and certificates; nothing is connected yet.
    ///
    /// # Errors
    /// One of these files cannot be used.
    pub(crate) fn new(config: &HttpCollector) -> Result<Self, HttpError> {
        // Somebody may have chosen a provider before: then that one is used.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let builder = Client::builder().redirect(Policy::none()).no_proxy().timeout(PATIENCE);
        let builder = match &config.ca_file {
            Some(_) => builder.tls_certs_only(certificates(config)?),
            None => builder,
        };
        let client = builder.build().map_err(HttpError::Client)?;
        Ok(Self { client, url: config.url.clone(), authorization: authorization(config)? })
    }

    /// Posts lines in one request.
    ///
    /// # Errors
    /// The collector is not reached, or answers with another status than 2xx.
    pub(crate) async fn deliver(&self, lines: &[Line<'_>]) -> io::Result<()> {
        let body: String = lines.iter().map(|line| line.text.as_str()).collect();
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, JSON_LINES).body(body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = request.send().await.map_err(io::Error::other)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(io::Error::other(format!("{} answered status {status}, expected 2xx", self.url)))
    }
}

fn certificates(config: &HttpCollector) -> Result<Vec<Certificate>, HttpError> {
    let Some(path) = &config.ca_file else { return Ok(Vec::new()) };
    let failed = |reason: String| HttpError::File {
        key: "ca_file",
        path: path.display().to_string(),
        reason,
        expected: "certificates in PEM",
    };
    let text = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&text).map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("no certificate".into())) } else { Ok(found) }
}

fn authorization(config: &HttpCollector) -> Result<Option<HeaderValue>, HttpError> {
    let Some(path) = &config.token_file else { return Ok(None) };
    let failed = |reason: String| HttpError::File {
        key: "token_file",
        path: path.display().to_string(),
        reason,
        expected: "a token of printable characters",
    };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
        .map_err(|error| failed(error.to_string()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, path::Path, sync::Arc};

    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
        net::TcpListener,
        task::JoinHandle,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn lines() -> [Line<'static>; 2] {
        ["{\"n\":1}\n", "{\"n\":2}\n"].map(|text| Line { timestamp: "", text: text.into() })
    }

    /// Answers requests over TLS, one after the other, with these statuses; gives what was sent.
    async fn serve(
        folder: &Path,
        statuses: &'static [&'static str],
    ) -> (SocketAddr, JoinHandle<Vec<String>>) {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.join("ca.pem"), own.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut requests = Vec::new();
            while requests.len() < statuses.len() {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let mut stream = BufReader::new(stream);
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") {
                    let before = head.len();
                    stream.read_line(&mut head).await.unwrap();
                    let line = head[before..].to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let status = statuses[requests.len()];
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                requests.push(head + &String::from_utf8(body).unwrap());
            }
            requests
        });
        (address, task)
    }

    #[tokio::test]
    async fn lines_are_posted_over_tls_to_whom_the_certificates_vouch_for() {
        let folder = tempfile::tempdir().unwrap();
        let (address, requests) = serve(folder.path(), &["503 Busy", "204 Taken"]).await;
        let token = folder.path().join("token");
        fs::write(&token, "open sesame\n").unwrap();
        let config = HttpCollector {
            url: format!("https://localhost:{}/flows", address.port()),
            token_file: Some(token),
            ca_file: Some(folder.path().join("ca.pem")),
        };
        let strangers = HttpCollector { ca_file: None, ..config.clone() };
        assert!(HttpSink::new(&strangers).unwrap().deliver(&lines()).await.is_err());

        let sink = HttpSink::new(&config).unwrap();
        let error = sink.deliver(&lines()).await.unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("expected 2xx"), "{error}");
        sink.deliver(&lines()).await.unwrap();

        for request in requests.await.unwrap() {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert_eq!(body, "{\"n\":1}\n{\"n\":2}\n");
            let head = head.to_ascii_lowercase();
            assert!(head.starts_with("post /flows http/1.1"), "{head}");
            for field in ["authorization: bearer open sesame", "content-type: application/x-ndjson"]
            {
                assert!(head.contains(field), "{field}: {head}");
            }
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_keys() {
        let config = HttpCollector {
            url: "https://localhost/".into(),
            token_file: Some("/nowhere/token".into()),
            ca_file: None,
        };
        let error = HttpSink::new(&config).unwrap_err().to_string();
        assert!(error.contains("token_file") && error.contains("/nowhere/token"), "{error}");
        let config = HttpCollector { ca_file: Some("/dev/null".into()), ..config };
        let error = HttpSink::new(&config).unwrap_err().to_string();
        assert!(error.contains("ca_file: read /dev/null"), "{error}");
    }
}
