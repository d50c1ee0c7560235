//! Dialers of sticky services that come back to the terminator whose token they show, as OpenZiti's do.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nightgate_model::replica::Replica;
use nightgate_sdk::{Context, Listener};
use nightgate_wire::{
    channel::Message,
    edge::{content, header},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    hosting::until,
    path::{Meddler, Way},
    support::{Clients, Overlay},
};

/// Longer than a circuit takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the dialer shows with its dials, and what it was last told.
#[derive(Default)]
struct Tokens {
    shown: Option<String>,
    told: Option<String>,
}

/// Makes the SDK a client that shows tokens.
fn show(tokens: Arc<Mutex<Tokens>>) -> impl FnMut(Way, Message) -> Vec<Message> + Send + 'static {
    move |way, mut message| {
        let mut tokens = tokens.lock().unwrap();
        match (way, message.content_type, &tokens.shown) {
            (Way::ToRouter, content::CONNECT, Some(shown)) => {
                message.headers.put_text(header::STICKINESS_TOKEN, shown);
            }
            (Way::ToClient, content::STATE_CONNECTED, _) => {
                tokens.told = message.headers.text(header::STICKINESS_TOKEN).map(str::to_owned);
            }
            _ => {}
        }
        vec![message]
    }
}

/// The identity whose listener a dial of `desk` reaches.
async fn reached(dialer: &Context, [one, other]: &mut [Listener; 2]) -> String {
    let accepted = async {
        tokio::select! {
            _ = one.accept() => one.host().id.clone(),
            _ = other.accept() => other.host().id.clone(),
        }
    };
    let both = async { tokio::join!(dialer.dial("desk"), accepted) };
    let (dialed, host) = timeout(PATIENCE, both).await.expect("both ends of a circuit");
    dialed.unwrap();
    host.unwrap().as_str().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialer_that_shows_a_token_reaches_that_terminator_while_it_is_there() {
    let meddler = Meddler::honest();
    let overlay = Overlay::start_behind(&meddler, Clients::Modern).await;
    overlay.operator.create_service("desk", true).await;
    let strategy = |name: &str| json!({ "terminatorStrategy": name });
    overlay.operator.patch("services", "desk", &strategy("sticky")).await;
    let hosts =
        [overlay.join("one", &["desk-host"]).await, overlay.join("other", &["desk-host"]).await];
    let mut listeners =
        [hosts[0].bind("desk").await.unwrap(), hosts[1].bind("desk").await.unwrap()];
    let dialer = overlay.join("dialer", &["desk-dial"]).await;
    until(&overlay, |replica| replica.terminators.len() == 2).await;
    let known: Vec<_> = overlay.router.replica().borrow().terminators.to_vec();

    let tokens = Arc::new(Mutex::new(Tokens::default()));
    meddler.turn(show(Arc::clone(&tokens)));
    for terminator in [&known[0], &known[1], &known[1], &known[0]] {
        let shown = terminator.id.as_str().to_owned();
        tokens.lock().unwrap().shown = Some(shown.clone());
        assert_eq!(reached(&dialer, &mut listeners).await, terminator.host.as_str());
        assert_eq!(tokens.lock().unwrap().told, Some(shown));
    }

    tokens.lock().unwrap().shown = Some("gone".into());
    let host = reached(&dialer, &mut listeners).await;
    let told = tokens.lock().unwrap().told.clone();
    let now = known.iter().find(|terminator| terminator.host.as_str() == host).unwrap();
    assert_eq!(told.as_deref(), Some(now.id.as_str()));

    overlay.operator.patch("services", "desk", &strategy("random")).await;
    let is_sticky = |replica: &Arc<Replica>| {
        let service = replica.service_named("desk").unwrap();
        service.terminator_strategy == nightgate_model::entity::TerminatorStrategy::Sticky
    };
    until(&overlay, |replica| !is_sticky(replica)).await;
    reached(&dialer, &mut listeners).await;
    assert_eq!(tokens.lock().unwrap().told, None);
    overlay.stop().await;
}
