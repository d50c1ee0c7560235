//! Trying whether a server is well.

use std::time::Duration;

use nightgate_model::configs::{Check, HttpMethod, HttpProbe, Probe};
use tokio::{net::TcpStream, time::timeout};

/// Bytes of an answer's body that are searched.
const MAX_BODY: usize = 64 * 1024;

/// What makes HTTP checks.
#[derive(Clone, Debug)]
pub struct Prober(Result<reqwest::Client, String>);

impl Default for Prober {
    fn default() -> Self {
        Self::new()
    }
}

impl Prober {
    /// Follows no redirects and keeps no connections, so that each check is one whole try.
    pub fn new() -> Self {
        // Somebody may have chosen a provider before: then that one is used.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build();
        Self(client.map_err(|error| format!("{error:?}")))
    }

    /// Tries once.
    ///
    /// # Errors
    /// The server is not well: why.
    pub(super) async fn probe(&self, check: &Check) -> Result<(), String> {
        let attempt = async {
            match &check.probe {
                Probe::Port(address) => {
                    let connected = TcpStream::connect(address).await;
                    connected.map(drop).map_err(|error| format!("connect to {address}: {error}"))
                }
                Probe::Http(probe) => self.request(probe).await,
            }
        };
        let late = |_elapsed| late(check.timeout);
        timeout(check.timeout, attempt).await.map_err(late)?
    }

    async fn request(&self, probe: &HttpProbe) -> Result<(), String> {
        let client = self.0.as_ref().map_err(Clone::clone)?;
        let method = match probe.method {
            HttpMethod::Get => reqwest::Method::GET,
            HttpMethod::Post => reqwest::Method::POST,
            HttpMethod::Put => reqwest::Method::PUT,
            HttpMethod::Patch => reqwest::Method::PATCH,
        };
        let failed = |error: reqwest::Error| format!("{error:?}");
        let request = client.request(method, &probe.url).body(probe.body.clone());
        let mut answer = request.send().await.map_err(failed)?;
        let (found, expected) = (answer.status().as_u16(), probe.status);
        if found != expected {
            return Err(format!("{} answered status {found}, expected {expected}", probe.url));
        }
        let Some(wanted) = &probe.contains else { return Ok(()) };
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)?
            && body.len() < MAX_BODY
        {
            body.extend_from_slice(&chunk);
        }
        match String::from_utf8_lossy(&body).contains(wanted) {
            true => Ok(()),
            false => Err(format!("the answer of {} does not contain {wanted:?}", probe.url)),
        }
    }
}

fn late(waited: Duration) -> String {
    format!("no answer within {} s", waited.as_secs_f32())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn check(probe: Probe) -> Check {
        let interval = Duration::from_secs(1);
        Check { probe, interval, timeout: Duration::from_secs(5), actions: vec![] }
    }

    #[tokio::test]
    async fn a_port_is_open_or_not() {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let open = check(Probe::Port(listener.local_addr().unwrap().to_string()));
        let prober = Prober::new();

        prober.probe(&open).await.unwrap();
        drop(listener);
        assert!(prober.probe(&open).await.unwrap_err().contains("refused"));
    }

    #[tokio::test]
    async fn an_answer_is_as_expected_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/health", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 1_000];
                let length = stream.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"POST /health"));
                let answer = "HTTP/1.1 418 Teapot\r\ncontent-length: 9\r\n\r\nshort and";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let probe = |status, contains: Option<&str>| {
            check(Probe::Http(HttpProbe {
                url: url.clone(),
                method: HttpMethod::Post,
                body: "ping".into(),
                status,
                contains: contains.map(str::to_owned),
            }))
        };
        let prober = Prober::new();

        prober.probe(&probe(418, Some("and"))).await.unwrap();
        let other = prober.probe(&probe(200, None)).await.unwrap_err();
        assert!(other.contains("status 418, expected 200"), "{other}");
        let without = prober.probe(&probe(418, Some("stout"))).await.unwrap_err();
        assert!(without.contains("stout"), "{without}");
        serving.abort();
    }
}
