//! Applications whose identity has a second factor.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nightgate_sdk::{Context, ControllerError, DialFailure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use totp_rs::{Algorithm, Builder, Secret, Totp};

use crate::{echo, support::Overlay};

/// What must happen happens within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authenticator app, and when it was set up.
struct App(Totp, u64);

impl App {
    async fn new(provisioning_url: &str) -> Self {
        let secret = provisioning_url.split("secret=").nth(1).unwrap();
        let secret = Secret::try_from_base32(secret.split('&').next().unwrap()).unwrap();
        let totp = Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_secret(secret)
            .with_account_name("app")
            .build()
            .unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        // Not in the last seconds of a step.
        while now() % 30 > 15 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Self(totp, now())
    }

    /// The code of a step before or after that in which it was set up.
    fn code(&self, steps: i64) -> String {
        self.0.generate(self.1.checked_add_signed(steps * 30).unwrap()).to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dialed_before_a_code_is_shown_nor_after_it_is_asked_for_again() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));
    let identity = overlay.enroll("client", &["echo-dial"]).await;
    let first = Context::load(&identity).await.unwrap();
    assert!(!first.is_second_factor_due() && !first.has_second_factor().await.unwrap());
    let made = first.enroll_second_factor().await.unwrap();
    let app = App::new(&made.provisioning_url).await;
    first.verify_second_factor(&app.code(-1)).await.unwrap();
    assert!(first.has_second_factor().await.unwrap());
    first.dial("echo").await.unwrap();

    let client = Context::load(&identity).await.unwrap();
    assert!(client.is_second_factor_due());
    let refused = client.dial("echo").await.unwrap_err().failure;
    assert!(matches!(
        refused,
        DialFailure::Controller(ControllerError::Refused { status: 401, .. })
    ));
    assert!(client.show_second_factor("000000").await.is_err());
    client.show_second_factor(&app.code(0)).await.unwrap();
    assert!(!client.is_second_factor_due());
    let mut stream = client.dial("echo").await.unwrap();
    stream.write_all(b"before").await.unwrap();
    stream.read_exact(&mut [0; 6]).await.unwrap();

    overlay.operator.act("client", "require-mfa").await;
    let cut = async { while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {} };
    timeout(PATIENCE, cut).await.unwrap();
    timeout(PATIENCE, client.second_factor_becomes_due(true)).await.unwrap();
    assert!(client.dial("echo").await.is_err());
    client.show_second_factor(&app.code(1)).await.unwrap();
    client.dial("echo").await.unwrap();
    let recovery = &made.recovery_codes[0];
    client.remove_second_factor(recovery).await.unwrap();
    assert!(!client.has_second_factor().await.unwrap());
    echo.abort();
    overlay.stop().await;
}
