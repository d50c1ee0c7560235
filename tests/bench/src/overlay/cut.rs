//! How long circuits outlive what allowed them, in a model of 10,000 identities.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nightgate_identity::Identity;
use nightgate_lab::Figure;
use nightgate_sdk::{Context, Listener, Stream, enroll};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{
    Target,
    dial::{bind, join, start_router},
    figure,
    model::network,
    operator::{Operator, create, text_of, token_of},
};
use crate::statistics::percentile;

/// Measured cuts of each kind.
const CUTS: usize = 100;
/// What must happen happens within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// A circuit is cut within this, in milliseconds.
const AT_MOST: f64 = 1_000.0;
/// What allows the client to dial; taken away again and again.
const POLICY: &str = "cut-dial";

/// Measures from the request of the operator to the moment when both ends know.
///
/// # Errors
/// Something does not start, or a circuit is not cut.
pub fn run() -> Result<Vec<Figure>> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> Result<Vec<Figure>> {
    let dir = tempfile::tempdir()?;
    let operator = Operator::start(&dir.path().join("controller")).await?;
    let mut changes = network();
    changes.extend([
        create("service", json!({ "name": "echo" })),
        person("host"),
        person("client"),
        policy("cut-bind", "Bind", "@host"),
        policy(POLICY, "Dial", "#cut"),
    ]);
    let changed = operator.change(&changes).await?;
    let _router = start_router(&token_of(&changed, "r")?, &dir.path().join("router.json")).await?;
    let host = join(&token_of(&changed, "host")?).await?;
    let mut bench = Bench {
        operator,
        listener: bind(&host).await?,
        client: enroll(&token_of(&changed, "client")?).await?,
        client_id: text_of(&changed, "client", "id")?,
        policy_id: text_of(&changed, POLICY, "id")?,
    };
    let (mut disabled, mut policies, mut certificates) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..CUTS {
        disabled.push(bench.disable().await.context("disable")?);
        policies.push(bench.delete_policy().await.context("delete a policy")?);
        certificates.push(bench.revoke(number).await.context("revoke")?);
    }
    let shown = |what: &str, mut times: Vec<f64>| {
        let case = format!("circuit cut, {what}");
        let slowest = times.iter().copied().fold(0.0, f64::max);
        [
            ("p50", percentile(&mut times, 50)),
            ("p99", percentile(&mut times, 99)),
            ("slowest", slowest),
        ]
        .map(|(metric, value)| figure(&case, metric, value, "ms", Some(Target::AtMost(AT_MOST))))
    };
    Ok([
        shown("identity disabled", disabled),
        shown("policy deleted", policies),
        shown("certificate revoked", certificates),
    ]
    .concat())
}

/// An identity that the policy lets dial.
fn person(name: &str) -> Value {
    create("identity", json!({ "name": name, "roleAttributes": ["cut"] }))
}

fn policy(name: &str, permission: &str, who: &str) -> Value {
    create(
        "servicePolicy",
        json!({
            "name": name, "type": permission, "semantic": "AnyOf",
            "identityRoles": [who], "serviceRoles": ["@echo"],
        }),
    )
}

struct Bench {
    operator: Operator,
    listener: Listener,
    client: Identity,
    client_id: String,
    policy_id: String,
}

impl Bench {
    async fn disable(&mut self) -> Result<f64> {
        let circuit = self.open(&self.client.clone()).await?;
        let [disable, enable] =
            ["disable", "enable"].map(|word| format!("identities/{}/{word}", self.client_id));
        let nothing = json!({});
        let time = circuit.cut_by(self.operator.send(Method::POST, &disable, &nothing)).await?;
        self.operator.send(Method::POST, &enable, &nothing).await?;
        Ok(time)
    }

    async fn delete_policy(&mut self) -> Result<f64> {
        let circuit = self.open(&self.client.clone()).await?;
        let path = format!("service-policies/{}", self.policy_id);
        let delete = self.operator.send(Method::DELETE, &path, &Value::Null);
        let time = circuit.cut_by(delete).await?;
        let again = self.operator.change(&[policy(POLICY, "Dial", "#cut")]).await?;
        self.policy_id = text_of(&again, POLICY, "id")?;
        Ok(time)
    }

    async fn revoke(&mut self, number: usize) -> Result<f64> {
        let name = format!("revoked-{number}");
        let changed = self.operator.change(&[person(&name)]).await?;
        let circuit = self.open(&enroll(&token_of(&changed, &name)?).await?).await?;
        let id = text_of(&changed, &name, "id")?;
        let path = format!("identities/{id}/authenticators");
        let listed = self.operator.send(Method::GET, &path, &Value::Null).await?;
        let certificate = listed[0]["id"].as_str().context("no authenticator")?;
        let path = format!("authenticators/{certificate}");
        let revoke = self.operator.send(Method::DELETE, &path, &Value::Null);
        circuit.cut_by(revoke).await
    }

    /// A circuit of this identity, which may have come back only just now.
    async fn open(&mut self, identity: &Identity) -> Result<Circuit> {
        let deadline = Instant::now() + PATIENCE;
        let client = loop {
            match Context::load(identity).await {
                Err(_not_yet) if Instant::now() < deadline => sleep(SHORTLY).await,
                client => break client?,
            }
        };
        let dialed = loop {
            match client.dial("echo").await {
                Err(_not_yet) if Instant::now() < deadline => sleep(SHORTLY).await,
                dialed => break dialed?,
            }
        };
        let mut circuit =
            Circuit { dialed, hosted: self.listener.accept().await.0, _client: client };
        circuit.dialed.write_all(b"?").await?;
        circuit.hosted.read_exact(&mut [0]).await?;
        Ok(circuit)
    }
}

/// Between two attempts.
const SHORTLY: Duration = Duration::from_millis(20);

struct Circuit {
    dialed: Stream,
    hosted: Stream,
    /// Goes on while the circuit stands.
    _client: Context,
}

impl Circuit {
    /// Milliseconds until both ends have been told.
    async fn cut_by(mut self, withdrawal: impl Future<Output = Result<Value>>) -> Result<f64> {
        let began = Instant::now();
        let (mut ours, mut theirs) = ([0], [0]);
        let cut = async {
            let ends = tokio::join!(self.dialed.read(&mut ours), self.hosted.read(&mut theirs));
            (ends, began.elapsed())
        };
        let (withdrawn, cut) = tokio::join!(withdrawal, timeout(PATIENCE, cut));
        withdrawn?;
        let (ends, time) = cut.context("the circuit goes on")?;
        anyhow::ensure!(!matches!(ends, (Ok(1..), _) | (_, Ok(1..))), "something was said");
        Ok(time.as_secs_f64() * 1e3)
    }
}
