//! What the demo shows, step by step. Every step says what was seen, or fails.

use std::{
    io::{ErrorKind, Read as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    access::{Access, path},
    configuration::{
        self, DARK_NAME, DARK_SERVICE, GATEWAY_A, GATEWAY_B, SDK_IDENTITY, WEB_NAME, WEB_SERVICE,
    },
    deployment::{Deployment, PATIENCE, Programs},
    everyday, firewall, healing, mirroring, openziti, ports, sdk, starting,
    topology::{Family, address},
    verdict, watching,
};
use crate::{command::run, wait::until};

/// One thing to see.
pub struct Scene {
    /// Short name.
    pub name: &'static str,
    /// What is done and expected.
    pub promise: &'static str,
    /// Does it, and says what was seen: one line, and a table below it if there is one.
    pub play: fn(&mut Deployment) -> Result<String>,
}

/// In the request of the client.
pub(super) const REQUEST_MARKER: &str = "nightgate-request-plaintext";
/// In the page of the web server.
pub(super) const RESPONSE_MARKER: &str = "nightgate-response-plaintext";
/// In the page of the application.
pub(super) const DARK_MARKER: &str = "this server has no listening port";
/// All scenes, in their order: each one builds on those before it.
pub const SCENES: &[Scene] = &[
    Scene {
        name: "controller",
        promise: "first start makes the PKI and listens on one port",
        play: starting::start_controller,
    },
    Scene {
        name: "enroll",
        promise: "one-time tokens become certificates: router, two gateways, an application",
        play: starting::enroll,
    },
    Scene {
        name: "routers",
        promise: "router and gateways run; the gateways dial out",
        play: starting::start_routers,
    },
    Scene {
        name: "hosting",
        promise: "gateway B may host the web service, and does",
        play: host_web,
    },
    Scene {
        name: "refused",
        promise: "without a policy the client gets nothing, and explain says why",
        play: refuse_without_policy,
    },
    Scene {
        name: "allowed",
        promise: "with the policy curl by name reaches the server",
        play: allow_by_policy,
    },
    Scene { name: "ipv6", promise: "the same name over IPv6", play: reach_over_ipv6 },
    Scene {
        name: "servers",
        promise: "behind gateway B a database, a shell server and a sink; policies by attribute",
        play: everyday::host,
    },
    Scene {
        name: "dig",
        promise: "names have addresses of both families, and no name leaks that may not be used",
        play: everyday::names,
    },
    Scene {
        name: "psql",
        promise: "an unmodified psql, by name and by address",
        play: everyday::query,
    },
    Scene {
        name: "ssh",
        promise: "an unmodified ssh, by name and by address",
        play: everyday::log_in,
    },
    Scene { name: "iperf3", promise: "an unmodified iperf3, TCP and UDP", play: everyday::load },
    Scene { name: "ping", promise: "an unmodified ping gets its answers", play: everyday::ping },
    Scene {
        name: "dark server",
        promise: "an application serves through the SDK; its host listens on nothing",
        play: reach_dark_server,
    },
    Scene {
        name: "sdk client",
        promise: "a second application fetches its page through the SDK, once a policy lets it",
        play: sdk::fetch,
    },
    Scene {
        name: "openziti",
        promise: "OpenZiti's client of 2022 enrolls and reaches that application",
        play: openziti::fetch,
    },
    Scene {
        name: "old host",
        promise: "the same client hosts what a program behind gateway A reaches",
        play: openziti::host,
    },
    Scene {
        name: "underlay",
        promise: "outside there is TLS on one port and no plaintext",
        play: watching::look_at_underlay,
    },
    Scene {
        name: "nmap",
        promise: "neither gateway has a port that the underlay reaches",
        play: ports::scan,
    },
    Scene {
        name: "sensor",
        promise: "the sensor decodes both directions from VXLAN",
        play: watching::look_at_sensor,
    },
    Scene {
        name: "mirror on",
        promise: "an operator has the controller turn a mirror on for another service, for a time",
        play: mirroring::turn_on,
    },
    Scene {
        name: "circuits",
        promise: "an open connection is in the circuit list",
        play: list_circuits,
    },
    Scene {
        name: "healed",
        promise: "a transfer goes on, byte for byte, when a router on its path is killed",
        play: healing::heal,
    },
    Scene {
        name: "counters",
        promise: "what no rule allows is dropped and counted",
        play: show_counters,
    },
    Scene {
        name: "verdict",
        promise: "scan and attack through the overlay: the sensor behind its exit alerts, the identity is limited, then cut off",
        play: verdict::cut_off,
    },
    Scene {
        name: "revoked",
        promise: "without the policy again, the open connection ends and no new one comes",
        play: revoke,
    },
    Scene {
        name: "fw accepted",
        promise: "one `fw apply` later the client reaches a public server, with the gateway's address",
        play: firewall::accept,
    },
    Scene {
        name: "fw refused",
        promise: "reject tells the client at once, drop is silent, the attacker meets silence",
        play: firewall::refuse,
    },
    Scene {
        name: "fw limited",
        promise: "a rate limit stops a flood from one source and nobody else",
        play: firewall::limit,
    },
    Scene {
        name: "fw bad file",
        promise: "a bad file is refused with every error, and nothing changes",
        play: firewall::refuse_bad_file,
    },
    Scene {
        name: "fw undone",
        promise: "a change that nobody confirms undoes itself",
        play: firewall::undo,
    },
    Scene {
        name: "fw counters",
        promise: "rules and reasons have counted it all",
        play: firewall::count,
    },
];

/// Makes what the scenes play on.
///
/// # Errors
/// The process is not root, or a tool is missing.
pub fn stage(programs: Programs, family: Family) -> Result<Deployment> {
    Deployment::new(programs, &format!("{RESPONSE_MARKER}\n"), family)
}

/// The demo's network over IPv4, after so many of its [`SCENES`].
///
/// # Errors
/// As [`stage`], or a scene does not hold: then with what the processes logged last.
pub fn after(scenes: usize) -> Result<Deployment> {
    let mut deployment = stage(Programs::find()?, Family::V4)?;
    for scene in &SCENES[..scenes] {
        let played = (scene.play)(&mut deployment);
        played.with_context(|| format!("{}\n{}", scene.name, deployment.log_tails(40)))?;
    }
    Ok(deployment)
}

fn host_web(deployment: &mut Deployment) -> Result<String> {
    let server = configuration::web_server(deployment.family);
    deployment.operator(&format!(
        "service create {WEB_SERVICE} --intercept {WEB_NAME}:80 --host {server}"
    ))?;
    deployment.operator(&format!(
        "policy create {WEB_SERVICE}-bind bind --identity @{GATEWAY_B} --service @{WEB_SERVICE}"
    ))?;
    until("hosted service", PATIENCE, || {
        let answer = deployment.ask_operator(&explain(GATEWAY_A, WEB_SERVICE))?;
        Ok(answer.contains(GATEWAY_B).then_some(()))
    })?;
    Ok(format!("{GATEWAY_B} hosts {WEB_SERVICE} for {server}"))
}

fn refuse_without_policy(deployment: &mut Deployment) -> Result<String> {
    if let Ok(page) = curl(deployment, "-4", &web_page()) {
        bail!("the client got {page:?}");
    }
    let answer = deployment.ask_operator(&explain(GATEWAY_A, WEB_SERVICE))?;
    let reason = answer
        .lines()
        .find(|line| line.to_lowercase().contains("policy"))
        .with_context(|| format!("explain names no policy: {answer}"))?;
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let seen = format!("curl failed; explain: {reason}");
    deployment.note(Access::refused(&format!("curl http://{WEB_NAME}/"), "client, gw-a", &seen));
    Ok(seen)
}

fn allow_by_policy(deployment: &mut Deployment) -> Result<String> {
    deployment.operator(&format!(
        "policy create {WEB_SERVICE}-dial dial --identity #clients --service @{WEB_SERVICE}"
    ))?;
    wait_for_page(deployment, "-4", &web_page(), RESPONSE_MARKER)
}

fn reach_over_ipv6(deployment: &mut Deployment) -> Result<String> {
    let seen = wait_for_page(deployment, "-6", &web_page(), RESPONSE_MARKER)?;
    note_page(deployment, WEB_NAME, WEB_SERVICE, "the page, over IPv4 and IPv6")?;
    Ok(seen)
}

/// Adds what `curl` has just got to the table. A page is gone before its circuit is seen: a connection that is
/// left open shows the path.
pub(super) fn note_page(
    deployment: &mut Deployment,
    name: &str,
    service: &str,
    seen: &str,
) -> Result<()> {
    let connection = connect(deployment, name)?;
    let path = until("circuit", PATIENCE, || path(deployment, service))?.join(" - ");
    drop(connection);
    deployment.note(Access::reached(&format!("curl http://{name}/"), "client, gw-a", &path, seen));
    Ok(())
}

fn reach_dark_server(deployment: &mut Deployment) -> Result<String> {
    for command in [
        format!("service create {DARK_SERVICE} --intercept {DARK_NAME}:80"),
        format!(
            "policy create {DARK_SERVICE}-bind bind --identity @{SDK_IDENTITY} --service @{DARK_SERVICE}"
        ),
        format!(
            "policy create {DARK_SERVICE}-dial dial --identity #clients --service @{DARK_SERVICE}"
        ),
    ] {
        deployment.operator(&command)?;
    }
    let identity = deployment.file(&format!("{SDK_IDENTITY}.json"));
    deployment.start_sdk_host(&identity)?;
    let seen = wait_for_page(deployment, "-4", &format!("http://{DARK_NAME}/"), DARK_MARKER)?;
    let sockets = deployment.topology.sdk_host.shell("ss -H -l -n -t -u")?;
    ensure!(sockets.trim().is_empty(), "the host listens: {sockets}");
    note_page(deployment, DARK_NAME, DARK_SERVICE, "a page of an SDK application without a port")?;
    Ok(format!("{seen}; ss -lntu on its host: nothing"))
}

fn list_circuits(deployment: &mut Deployment) -> Result<String> {
    let connection = connect(deployment, WEB_NAME)?;
    let answer = deployment.wait_for_answer(GATEWAY_A, "circuits", WEB_SERVICE)?;
    drop(connection);
    Ok(format!("one from {GATEWAY_A}\n{answer}"))
}

fn show_counters(deployment: &mut Deployment) -> Result<String> {
    let forbidden = SocketAddr::new(address::GATEWAY_A[0].parse()?, 22);
    let attempt = deployment
        .topology
        .client
        .enter(|| TcpStream::connect_timeout(&forbidden, Duration::from_millis(300)))?;
    ensure!(
        attempt.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut),
        "{forbidden} answered: {attempt:?}"
    );
    let counters = deployment.wait_for_answer(GATEWAY_A, "fw counters", "no-rule")?;
    let seen = "silence, counted as no-rule";
    deployment.note(Access::refused(&format!("ssh {forbidden}"), "client, gw-a", seen));
    Ok(format!("{forbidden} did not answer\n{counters}"))
}

fn revoke(deployment: &mut Deployment) -> Result<String> {
    let mut connection = connect(deployment, WEB_NAME)?;
    deployment.wait_for_answer(GATEWAY_A, "circuits", WEB_SERVICE)?;
    deployment.operator(&format!("policy delete {WEB_SERVICE}-dial"))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let ended = match connection.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    ensure!(
        ended,
        "the open connection lived on\n{}{}{}",
        deployment.ask(GATEWAY_A, "circuits")?,
        deployment.ask(GATEWAY_B, "circuits")?,
        deployment.ask(GATEWAY_A, "fw counters")?
    );
    let seen = refuse_without_policy(deployment)?;
    Ok(format!("open connection ended; {seen}"))
}

/// A connection of the client, left open.
fn connect(deployment: &Deployment, name: &str) -> Result<TcpStream> {
    let address = SocketAddr::new(resolve(deployment, name)?, 80);
    let connect = || TcpStream::connect_timeout(&address, PATIENCE);
    Ok(deployment.topology.client.enter(connect)??)
}

fn explain(identity: &str, service: &str) -> String {
    format!("explain dial {identity} {service}")
}

fn web_page() -> String {
    format!("http://{WEB_NAME}/{REQUEST_MARKER}")
}

/// Asks for a page until it comes: policies and hostings take effect within a moment, not at once.
pub(super) fn wait_for_page(
    deployment: &Deployment,
    family: &str,
    url: &str,
    marker: &str,
) -> Result<String> {
    let mut last = String::new();
    let page = until(&format!("answer from {url}"), PATIENCE, || {
        let page = curl(deployment, family, url);
        if let Err(error) = &page {
            last = format!("{error:#}");
        }
        Ok(page.ok())
    })
    .with_context(|| last)?;
    ensure!(page.contains(marker), "expected a page with {marker:?}, got {page:?}");
    Ok(format!("curl {family} {url} got the page"))
}

fn curl(deployment: &Deployment, family: &str, url: &str) -> Result<String> {
    let mut command = deployment.topology.client.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "5", family, url]);
    run(&mut command)
}

/// The address that the private DNS gives the client for a name.
pub(super) fn resolve(deployment: &Deployment, name: &str) -> Result<IpAddr> {
    let answer = deployment.topology.client.shell(&format!("getent ahostsv4 {name}"))?;
    let word = answer.split_whitespace().next().context("getent printed nothing")?;
    word.parse().with_context(|| format!("getent printed {word:?}"))
}
