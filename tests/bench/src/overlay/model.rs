//! A controller with 10,000 identities, 1,000 services and 300 policies.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nightgate_identity::Identity;
use nightgate_lab::Figure;
use nightgate_sdk::enroll;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Target, figure,
    operator::{Operator, authenticate, client, create, token_of},
};
use crate::statistics::percentile;

const IDENTITIES: usize = 10_000;
const SERVICES: usize = 1_000;
/// Half of them Dial, half Bind.
const POLICIES: usize = 300;
/// Identities and services carry one attribute of so many each; policy number n joins the two of number n.
const GROUPS: usize = POLICIES / 2;
/// Measured requests for the list of services.
const LISTS: usize = 1_000;
/// Clients that ask for sessions at the same time.
const DIALERS: usize = 8;
/// How long they do.
const DIALING: Duration = Duration::from_secs(5);

/// Measures how fast it is filled, what memory it takes, and how fast it answers.
///
/// # Errors
/// The controller does not start, or refuses something.
pub fn run() -> Result<Vec<Figure>> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> Result<Vec<Figure>> {
    let dir = tempfile::tempdir()?;
    let operator = Operator::start(dir.path()).await?;
    let empty = operator.controller.memory()?;
    let changes = network();
    let started = Instant::now();
    let changed = operator.change(&changes).await?;
    let identity = enroll(&token_of(&changed, "i0")?).await?;
    let dialer = Dialer::new(&identity).await?;
    // The first list evaluates the policies.
    let services = dialer.services().await?;
    let loaded = started.elapsed().as_secs_f64();
    ensure!(!services.is_empty(), "i0 has no services");
    let case = format!("{IDENTITIES} identities, {SERVICES} services, {POLICIES} policies");
    let mut figures =
        vec![figure(&case, "loaded and evaluated", loaded, "s", Some(Target::AtMost(10.0)))];
    figures.extend(lists(&dialer, services.len()).await?);
    figures.push(sessions(&identity, &services).await?);
    let memory = operator.controller.memory()?;
    figures.push(figure(&case, "controller's memory", memory, "MiB", Some(Target::AtMost(300.0))));
    figures.push(figure("empty controller", "memory", empty, "MiB", None));
    Ok(figures)
}

/// What the controller is filled with, in one request.
pub(super) fn network() -> Vec<Value> {
    let mut changes = Vec::with_capacity(IDENTITIES + SERVICES + POLICIES);
    for number in 0..IDENTITIES {
        let attributes = json!([format!("g{}", number % GROUPS)]);
        let fields = json!({ "name": format!("i{number}"), "roleAttributes": attributes });
        changes.push(create("identity", fields));
    }
    for number in 0..SERVICES {
        let attributes = json!([format!("g{}", number % GROUPS)]);
        let fields = json!({ "name": format!("s{number}"), "roleAttributes": attributes });
        changes.push(create("service", fields));
    }
    for number in 0..POLICIES {
        let group = number % GROUPS;
        let permission = if number < GROUPS { "Dial" } else { "Bind" };
        let fields = json!({
            "name": format!("p{number}"), "type": permission, "semantic": "AnyOf",
            "identityRoles": [format!("#g{group}")], "serviceRoles": [format!("#g{group}")],
        });
        changes.push(create("servicePolicy", fields));
    }
    // Sessions are given only where there is a router to use.
    changes.push(create("edgeRouter", json!({ "name": "r" })));
    changes
}

/// An identity at the client interface.
struct Dialer {
    http: Client,
    base: String,
    token: String,
}

impl Dialer {
    async fn new(identity: &Identity) -> Result<Self> {
        let http = client(identity)?;
        let base = identity.controller().to_owned();
        let token = authenticate(&http, &base).await?;
        Ok(Self { http, base, token })
    }

    /// Ids of the services that it may dial or host.
    async fn services(&self) -> Result<Vec<String>> {
        let request = self.http.get(format!("{}/services?limit=500", self.base));
        let answer = request.header("zt-session", &self.token).send().await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        let services = answer["data"].as_array().context("no list")?;
        Ok(services.iter().filter_map(|s| s["id"].as_str().map(str::to_owned)).collect())
    }

    async fn dial_session(&self, service: &str) -> Result<()> {
        let body = json!({ "serviceId": service, "type": "Dial" });
        let request = self.http.post(format!("{}/sessions", self.base)).json(&body);
        let answer = request.header("zt-session", &self.token).send().await?;
        answer.error_for_status()?.bytes().await?;
        Ok(())
    }
}

async fn lists(dialer: &Dialer, length: usize) -> Result<Vec<Figure>> {
    let mut times = Vec::with_capacity(LISTS);
    for _ in 0..LISTS {
        let started = Instant::now();
        dialer.services().await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let case = format!("GET /services, {length} of {SERVICES}");
    Ok(vec![
        figure(&case, "p50", percentile(&mut times, 50), "ms", None),
        figure(&case, "p99", percentile(&mut times, 99), "ms", Some(Target::AtMost(20.0))),
    ])
}

/// Dial sessions per second: the controller's authorization of a dial, with its signed token.
async fn sessions(identity: &Identity, services: &[String]) -> Result<Figure> {
    let mut dialers = JoinSet::new();
    let started = Instant::now();
    for number in 0..DIALERS {
        let dialer = Dialer::new(identity).await?;
        let services = services.to_owned();
        dialers.spawn(async move {
            let mut done = 0_u32;
            let began = Instant::now();
            for service in services.iter().cycle().skip(number) {
                if began.elapsed() >= DIALING {
                    break;
                }
                dialer.dial_session(service).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(one) = dialers.join_next().await {
        done += one??;
    }
    let rate = f64::from(done) / started.elapsed().as_secs_f64();
    let target = Some(Target::AtLeast(2_000.0));
    Ok(figure("dial authorisations, 8 clients", "rate, clients included", rate, "1/s", target))
}
