//! Alerts that other programs send by HTTP: `POST /alerts` with a token.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::post,
};
use nightgate_mirror::verdict::Alert;
use tokio::{net::TcpListener, sync::mpsc};
use tracing::{info, warn};

use super::{AlertsError, LONGEST};

/// Shortest token, bytes: below this it can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// An open port that takes alerts.
pub(super) struct Webhook {
    listener: TcpListener,
    app: Router,
}

/// What calls need.
struct Door {
    token: String,
    found: mpsc::Sender<Alert>,
}

impl Webhook {
    /// Opens the port.
    pub(super) async fn open(
        address: SocketAddr,
        token_file: &Path,
        found: mpsc::Sender<Alert>,
    ) -> Result<Self, AlertsError> {
        let token = token(token_file)
            .map_err(|reason| AlertsError::Token { path: token_file.to_owned(), reason })?;
        let failed = |source| AlertsError::Webhook { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        info!(address = %listener.local_addr().map_err(failed)?, "alerts are taken by HTTP");
        let app = Router::new()
            .route("/alerts", post(take))
            .layer(DefaultBodyLimit::max(LONGEST))
            .with_state(Arc::new(Door { token, found }));
        Ok(Self { listener, app })
    }

    /// Takes alerts for ever.
    pub(super) async fn serve(self) {
        if let Err(error) = axum::serve(self.listener, self.app).await {
            warn!(%error, "no more alerts are taken by HTTP");
        }
    }
}

async fn take(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !sent
        .and_then(|sent| sent.strip_prefix("Bearer "))
        .is_some_and(|sent| same(sent, &door.token))
    {
        return (StatusCode::UNAUTHORIZED, "the token is missing or wrong\n".into());
    }
    match Alert::from_webhook(&body) {
        Ok(alert) => match door.found.try_send(alert) {
            Ok(()) => (StatusCode::ACCEPTED, String::new()),
            Err(_full) => (StatusCode::TOO_MANY_REQUESTS, "too many alerts wait\n".into()),
        },
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn token(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let token = text.trim();
    if token.len() < SHORTEST_TOKEN {
        return Err(format!(
            "found {} bytes, expected a random token of at least {SHORTEST_TOKEN}",
            token.len()
        ));
    }
    Ok(token.to_owned())
}

/// Compares without telling by its time how much is the same.
fn same(sent: &str, token: &str) -> bool {
    let differing = sent.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    sent.len() == token.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    const ALERT: &str = r#"{"signature":"odd","severity":1,"protocol":"tcp","client":"10.1.0.2:4","server":"10.77.0.1:80"}"#;

    #[tokio::test]
    async fn alerts_are_taken_from_those_who_know_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let (found, mut alerts) = mpsc::channel(1);
        fs::write(&file, "short\n").unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        assert!(Webhook::open(loopback, &file, found.clone()).await.is_err());
        fs::write(&file, "a-token-of-some-length\n").unwrap();
        let webhook = Webhook::open(loopback, &file, found).await.unwrap();
        let address = webhook.listener.local_addr().unwrap();
        let server = tokio::spawn(webhook.serve());
        for (token, body, status) in [
            ("", ALERT, "401"),
            ("a-token-of-some-lengtx", ALERT, "401"),
            ("a-token-of-some-length", "{}", "400"),
            ("a-token-of-some-length", ALERT, "202"),
            ("a-token-of-some-length", ALERT, "429"),
        ] {
            let answer = call(address, token, body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{token} {body}: {answer}");
        }
        assert_eq!(alerts.recv().await.unwrap().signature, "odd");
        server.abort();
    }

    async fn call(address: SocketAddr, token: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST /alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
