//! Routers that renew their certificates while circuits pass.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use bytes::Bytes;
use nightgate_model::{entity::Precedence, id::ServiceId};
use nightgate_router::{
    BindRequest, Binding, Circuit, DialRequest, Identity, KeyShare, Lanes, LinkConfig, Payload,
    Router, RouterConfig,
};
use nightgate_sdk::enroll_router;
use nightgate_server::{roll_over, roll_over_root};
use tokio::time::timeout;

use crate::support::{Overlay, free_address};

/// What must happen happens within this, or not at all.
const LONG: Duration = Duration::from_secs(20);

/// A router of its own identity, which is kept in a file.
pub(crate) struct Gateway {
    pub(crate) router: Router,
    file: PathBuf,
}

impl Gateway {
    pub(crate) async fn start(overlay: &Overlay, name: &str, attribute: &str) -> Self {
        let address = free_address([127, 0, 0, 1].into());
        let token = overlay.operator.create_gateway(name, &[attribute]).await;
        let identity = enroll_router(&token, Some(&address.to_string())).await.unwrap();
        let file = overlay.folder().join(format!("{name}.json"));
        identity.save(&file).unwrap();
        let config = RouterConfig {
            identity: Identity::load(&file).unwrap(),
            listen: Some(address),
            advertise: Some(address.to_string()),
            legacy_clients: false,
            links: LinkConfig { connections: 1, ..LinkConfig::default() },
            offline: nightgate_router::Offline::default(),
        };
        let router = Router::start(config, Lanes::here()).await.unwrap();
        router.replica().wait_for(|replica| replica.index > 0).await.unwrap();
        Self { router, file }
    }

    /// Renews the certificate, and sees that another is kept where only the owner reads it.
    async fn renew(&self) {
        let before = fs::read(&self.file).unwrap();
        timeout(LONG, self.router.renew_certificate()).await.unwrap().unwrap();
        assert_ne!(fs::read(&self.file).unwrap(), before);
        assert_eq!(fs::metadata(&self.file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    fn service(&self) -> ServiceId {
        self.router.replica().borrow().service_named("echo").unwrap().id.clone()
    }

    pub(crate) fn host(&self) -> Binding {
        self.router
            .bind(BindRequest {
                service: self.service(),
                identity: self.router.id().as_identity(),
                instance: String::new(),
                secret: String::new(),
                precedence: Precedence::default(),
                cost: 0,
            })
            .unwrap()
    }

    /// Dials until it succeeds: what was bound, and links, take a moment to be known.
    pub(crate) async fn dial(&self) -> Circuit {
        let request = DialRequest {
            service: self.service(),
            identity: self.router.id().as_identity(),
            instance: String::new(),
            caller: "gateway".into(),
            key_share: KeyShare::default(),
            app_data: Bytes::new(),
            session: Bytes::new(),
            sticky: None,
        };
        timeout(LONG, async {
            loop {
                match self.router.dial(request.clone()).await {
                    Ok(circuit) => return circuit,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        })
        .await
        .unwrap()
    }
}

pub(crate) async fn echo(mut binding: Binding) {
    while let Some(incoming) = binding.accept().await {
        let mut circuit = incoming.accept(KeyShare::default()).await.unwrap();
        tokio::spawn(async move {
            while let Some(payload) = circuit.receiver.recv().await {
                circuit.sender.send(payload).await.unwrap();
            }
        });
    }
}

pub(crate) async fn say(circuit: &mut Circuit, words: &'static str) {
    let payload = Payload { flags: 0, uuid: Bytes::new(), body: words.into() };
    circuit.sender.send(payload).await.unwrap();
    let answer = timeout(LONG, circuit.receiver.recv()).await.unwrap().unwrap();
    assert_eq!(answer.body, words);
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_renew_their_certificates_while_circuits_go_on_also_under_another_signer() {
    let mut overlay = Overlay::start().await;
    overlay.operator.create_service("echo", false).await;
    let near = Gateway::start(&overlay, "near", "echo-dial").await;
    let far = Gateway::start(&overlay, "far", "echo-host").await;
    let echo = tokio::spawn(echo(far.host()));
    let mut circuit = near.dial().await;
    say(&mut circuit, "before").await;

    near.renew().await;
    say(&mut circuit, "dialer renewed").await;
    far.renew().await;
    say(&mut circuit, "host renewed").await;
    near.renew().await;
    say(&mut circuit, "dialer renewed again").await;
    say(&mut near.dial().await, "a dial that a renewed certificate proves").await;

    let anchors = |file: &PathBuf| Identity::load(file).unwrap().trusted().unwrap().len();
    let before = anchors(&near.file);
    overlay.restart_controller_after(|dir| roll_over(dir).unwrap()).await;
    near.renew().await;
    assert_eq!(anchors(&near.file), before + 1, "the old signer stays trusted, and the new one is");
    say(&mut circuit, "under another signer").await;
    say(&mut near.dial().await, "the new signer's to the old one's").await;
    far.renew().await;
    say(&mut circuit, "both under another signer").await;

    // Another root: who has not renewed knows the old one alone, and goes on with those who know both.
    let known = anchors(&near.file);
    overlay.restart_controller_after(|dir| roll_over_root(dir).unwrap()).await;
    near.renew().await;
    assert_eq!(anchors(&near.file), known + 2, "another root and another signer");
    say(&mut circuit, "under another root").await;
    say(&mut near.dial().await, "the new root's to the old one's").await;
    let late = overlay.join("late", &["echo-dial"]).await;
    late.dial("echo").await.unwrap();
    far.renew().await;
    say(&mut circuit, "both under another root").await;
    say(&mut near.dial().await, "both by another root").await;
    let status = near.router.status().await;
    let own = status.circuits.iter().find(|one| one.id == circuit.id.to_string()).unwrap();
    assert_eq!(own.moves, 0, "no link was lost");

    // Links and listeners take the certificate that is kept.
    near.router.shutdown().await;
    let again = RouterConfig {
        identity: Identity::load(&near.file).unwrap(),
        listen: None,
        advertise: None,
        legacy_clients: false,
        links: LinkConfig::default(),
        offline: nightgate_router::Offline::default(),
    };
    let near = Gateway { router: Router::start(again, Lanes::here()).await.unwrap(), ..near };
    near.router.replica().wait_for(|replica| replica.index > 0).await.unwrap();
    say(&mut near.dial().await, "after a restart").await;
    echo.abort();
    overlay.stop().await;
}
