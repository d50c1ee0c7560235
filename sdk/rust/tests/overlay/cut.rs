//! What is withdrawn ends at once: the circuits of whom it concerns, at both ends, and every further dial.

use std::time::{Duration, Instant};

use nightgate_sdk::{Context, DialOptions, Identity, Listener, Stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::support::{Operator, Overlay};

/// Within this a circuit has to be cut. It is a second (`cargo xtask bench overlay-cut` measures it); the machine may
/// be busy with other tests.
const SOON: Duration = Duration::from_secs(5);

/// What an operator withdraws.
#[derive(Clone, Copy, Debug)]
enum Withdrawn {
    DialerDisabled,
    HostDisabled,
    DialerDeleted,
    DialerCertificate,
    HostCertificate,
    DialerAttributes,
    DialPolicy,
    BindPolicy,
    Service,
    Router,
    RouterDisabled,
    RouterPolicyOfServices,
}

impl Withdrawn {
    const OF_DIALERS: [Self; 9] = [
        Self::DialerDisabled,
        Self::DialerDeleted,
        Self::DialerCertificate,
        Self::DialerAttributes,
        Self::DialPolicy,
        Self::Service,
        Self::Router,
        Self::RouterDisabled,
        Self::RouterPolicyOfServices,
    ];
    const OF_HOSTS: [Self; 3] = [Self::HostDisabled, Self::HostCertificate, Self::BindPolicy];

    async fn withdraw(self, operator: &Operator) {
        let nothing = serde_json::json!({ "roleAttributes": [] });
        match self {
            Self::DialerDisabled => operator.act("client", "disable").await,
            Self::HostDisabled => operator.act("host", "disable").await,
            Self::DialerDeleted => operator.delete("identities", "client").await,
            Self::DialerCertificate => operator.revoke_certificate_of("client").await,
            Self::HostCertificate => operator.revoke_certificate_of("host").await,
            Self::DialerAttributes => operator.patch("identities", "client", &nothing).await,
            Self::DialPolicy => operator.delete("service-policies", "echo-dial").await,
            Self::BindPolicy => operator.delete("service-policies", "echo-host").await,
            Self::Service => operator.delete("services", "echo").await,
            Self::Router => operator.delete("edge-routers", "r1").await,
            Self::RouterDisabled => {
                let disabled = serde_json::json!({ "disabled": true });
                operator.patch("edge-routers", "r1", &disabled).await;
            }
            Self::RouterPolicyOfServices => {
                operator.delete("service-edge-router-policies", "all-services-all-routers").await;
            }
        }
    }
}

/// A circuit that carries something, both its ends, and who has it.
struct Circuit {
    overlay: Overlay,
    dialer: Identity,
    client: Context,
    host: Context,
    dialed: Stream,
    hosted: Stream,
    _listener: Listener,
}

impl Circuit {
    async fn open() -> Self {
        let overlay = Overlay::start().await;
        overlay.operator.create_service("echo", true).await;
        let host = overlay.join("host", &["echo-host"]).await;
        let dialer = overlay.enroll("client", &["echo-dial"]).await;
        let client = Context::load(&dialer).await.unwrap();
        let mut listener = host.bind("echo").await.unwrap();
        let (dialed, (hosted, _)) = tokio::join!(client.dial("echo"), listener.accept());
        let (mut dialed, mut hosted) = (dialed.unwrap(), hosted);
        let mut said = [0; 6];
        dialed.write_all(b"before").await.unwrap();
        hosted.read_exact(&mut said).await.unwrap();
        Self { overlay, dialer, client, host, dialed, hosted, _listener: listener }
    }

    /// Withdraws something; both ends have to hear of it.
    #[expect(clippy::print_stderr, reason = "a figure for whoever runs the test, not a condition")]
    async fn is_cut_by(&mut self, withdrawn: Withdrawn) {
        let began = Instant::now();
        withdrawn.withdraw(&self.overlay.operator).await;
        let ends = async { tokio::join!(end_of(&mut self.dialed), end_of(&mut self.hosted)) };
        let ended = timeout(SOON, ends).await;
        assert!(ended.is_ok(), "{withdrawn:?}: not cut within {SOON:?}");
        eprintln!("{withdrawn:?}: both ends were cut after {:?}", began.elapsed());
    }
}

/// Waits until a stream carries nothing any more.
async fn end_of(stream: &mut Stream) {
    while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
}

/// Short, because some of these dials look for a router that they may use until their time is over.
async fn is_refused(client: &Context) -> bool {
    let options = DialOptions { timeout: Duration::from_secs(2), ..DialOptions::default() };
    client.dial_with("echo", &options).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_from_a_dialer_cuts_its_circuits_and_it_dials_no_more() {
    for withdrawn in Withdrawn::OF_DIALERS {
        let mut circuit = Circuit::open().await;
        circuit.is_cut_by(withdrawn).await;
        assert!(is_refused(&circuit.client).await, "{withdrawn:?}: dialed by who was there");
        if let Ok(anew) = Context::load(&circuit.dialer).await {
            assert!(is_refused(&anew).await, "{withdrawn:?}: dialed by who came anew");
        }
        circuit.overlay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_from_a_host_cuts_its_circuits_and_it_hosts_no_more() {
    for withdrawn in Withdrawn::OF_HOSTS {
        let mut circuit = Circuit::open().await;
        circuit.is_cut_by(withdrawn).await;
        assert!(is_refused(&circuit.client).await, "{withdrawn:?}: somebody hosts still");
        let bound = timeout(SOON, circuit.host.bind("echo")).await;
        assert!(!matches!(bound, Ok(Ok(_))), "{withdrawn:?}: hosted again");
        circuit.overlay.stop().await;
    }
}
