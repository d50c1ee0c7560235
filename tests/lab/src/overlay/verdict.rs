//! An attack through the encrypted overlay, a real intrusion detection system behind its exit, and what follows.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{
    access::Access,
    configuration::{GATEWAY_B, WEB_SERVICE},
    deployment::{Deployment, PATIENCE},
};
use crate::{
    command::run,
    suricata::{Checksums, Suricata},
    wait::until,
};

/// Who means no good, with an identity that was enrolled in good order.
const IDENTITY: &str = "mallory";
/// What passes of who scans.
pub(super) const LIMIT: &str = "5/s";
/// Where the attacker reaches the service, on its own host.
const PROXY: &str = "127.0.0.1:8081";
/// In the request that the rule knows.
const ATTACK: &str = "attack-marker";
/// In one that is less grave.
const SCAN: &str = "scan-marker";
const RULES: &str = "alert http any any -> any any (msg:\"demo attack\"; http.uri; content:\"/attack-marker\"; \
                     priority:1; sid:1000001; rev:1;)\n\
                     alert http any any -> any any (msg:\"demo scan\"; http.uri; content:\"/scan-marker\"; \
                     priority:2; sid:1000002; rev:1;)\n";
/// Number of the rule about the attack.
const SID: u64 = 1_000_001;
/// Likewise about the other.
const SCAN_SID: u64 = 1_000_002;

/// Scans, is limited and released; attacks, is cut off, tries again, and is released.
pub(super) fn cut_off(deployment: &mut Deployment) -> Result<String> {
    let mut suricata = Suricata::start(
        &deployment.topology.gateway_b,
        "lan0",
        &deployment.file(IDS),
        RULES,
        Checksums::OfKernel,
    )?;
    enroll(deployment)?;
    wait_for(deployment, "harmless", "the service before the attack")?;

    let limited = limit(deployment, &suricata)?;
    let started = Instant::now();
    // Whether the answer still comes is a race that the attacker may win once.
    drop(fetch(deployment, ATTACK));
    suricata.wait_for_alerts(SID, 1)?;
    let listed = until("quarantine", PATIENCE, || {
        let listed = deployment.operator("quarantine list")?;
        Ok(listed.contains(IDENTITY).then_some(listed))
    })
    .with_context(|| verdicts(deployment))?;
    let took = started.elapsed();
    let again = fetch(deployment, "harmless");
    ensure!(again.is_err(), "the second attempt got {again:?}");
    let explained = deployment.ask_operator(&format!("explain dial {IDENTITY} {WEB_SERVICE}"))?;
    ensure!(explained.contains("quarantine"), "explain says nothing of it: {explained}");
    deployment.operator(&format!("quarantine release {IDENTITY}"))?;
    wait_for(deployment, "harmless", "the service after the release")?;
    suricata.stop()?;
    let by = format!("application, {IDENTITY}");
    let seen = "in quarantine after an alert, until released";
    deployment.note(Access::refused(&format!("proxy, {WEB_SERVICE}"), &by, seen));
    Ok(format!(
        "cut off {} ms after the request, the second attempt refused, released again; before, {limited}\n{listed}{}",
        took.as_millis(),
        verdicts(deployment)
    ))
}

/// Scans, until packets beyond the rate that an alert leaves are dropped; gives what the gateway says of it.
fn limit(deployment: &Deployment, suricata: &Suricata) -> Result<String> {
    drop(fetch(deployment, SCAN));
    suricata.wait_for_alerts(SCAN_SID, 1)?;
    let listed = until("rate limit", PATIENCE, || {
        let listed = deployment.ask(GATEWAY_B, "fw quarantine list")?;
        Ok(listed.lines().find(|row| row.contains(IDENTITY)).map(str::to_owned))
    })
    .with_context(|| verdicts(deployment))?;
    ensure!(listed.contains(LIMIT), "limited to {LIMIT}: {listed}");
    until("packets beyond the limit", PATIENCE, || {
        // Slow as it is, it may get its answer.
        drop(fetch(deployment, "harmless"));
        Ok(deployment.ask(GATEWAY_B, "fw counters")?.contains("throttled").then_some(()))
    })?;
    deployment.ask(GATEWAY_B, &format!("fw quarantine release {IDENTITY}"))?;
    wait_for(deployment, "harmless", "the service without a limit")?;
    Ok(format!("limited to {LIMIT} for a scan, and released"))
}

/// Folder of the sensor's files, below the deployment's.
const IDS: &str = "ids";

/// The file that the sensor's alerts are in, beside the operator's socket.
pub(super) fn alerts_file(socket: &str) -> String {
    let folder = std::path::Path::new(socket).with_file_name(IDS);
    folder.join("suricata/eve.json").display().to_string()
}

fn verdicts(deployment: &Deployment) -> String {
    deployment.ask(GATEWAY_B, "verdicts").unwrap_or_else(|error| format!("{error:#}"))
}

fn enroll(deployment: &mut Deployment) -> Result<()> {
    let [token, identity] =
        ["jwt", "json"].map(|end| deployment.file(&format!("{IDENTITY}.{end}")));
    let (token, path) = (token.display(), identity.display());
    for command in [
        format!("identity create {IDENTITY} --jwt-out {token}"),
        format!("enroll {token} --out {path}"),
        format!(
            "policy create {IDENTITY}-dial dial --identity @{IDENTITY} --service @{WEB_SERVICE}"
        ),
    ] {
        deployment.operator(&command)?;
    }
    deployment.start_proxy(&identity, WEB_SERVICE, PROXY)
}

fn wait_for(deployment: &Deployment, path: &str, what: &str) -> Result<()> {
    let mut last = String::new();
    until(what, PATIENCE, || {
        let page = fetch(deployment, path);
        if let Err(error) = &page {
            last = format!("{error:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(page.ok().map(drop))
    })
    .with_context(|| last)
}

fn fetch(deployment: &Deployment, path: &str) -> Result<String> {
    let mut command = deployment.topology.sdk_host.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "5"]);
    run(command.arg(format!("http://{PROXY}/{path}")))
}
