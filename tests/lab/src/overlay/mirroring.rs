//! An operator turns a mirror on for a service, at the controller, for a time.

use anyhow::{Context as _, Result, ensure};

use super::{
    configuration::{DARK_NAME, DARK_SERVICE, GATEWAY_A},
    deployment::{Deployment, PATIENCE},
    scenes::{DARK_MARKER, wait_for_page},
};
use crate::{
    command::{program, run},
    wait::until,
};

/// Name of the config.
const CONFIG: &str = "watch-dark";
/// The identifier of its copies.
const VNI: u32 = 77;

/// What was not mirrored is, from the operator's word on and until its time is over; the audit log has both.
pub(super) fn turn_on(deployment: &mut Deployment) -> Result<String> {
    let file = document(deployment, "+1 day")?;
    deployment.operator(&format!("config create {CONFIG} mirror.v1 --data {file}"))?;
    deployment.operator(&format!("service update {DARK_SERVICE} --config {CONFIG}"))?;
    let copied = format!("vxlan.vni == {VNI} && frame contains \"{DARK_MARKER}\"");
    let shown = || deployment.ask(GATEWAY_A, "mirror");
    until("copies of the service", PATIENCE, || {
        fetch(deployment)?;
        Ok((deployment.sensor.count(&copied)? > 0).then_some(()))
    })
    .with_context(|| shown().unwrap_or_default())?;
    let session = format!("by-{DARK_SERVICE}");
    let with = shown()?;
    ensure!(with.contains(&session), "no session {session}: {with}");

    let file = document(deployment, "-1 day")?;
    deployment.operator(&format!("config update {CONFIG} --data {file}"))?;
    let expired = until("the end of its time", PATIENCE, || {
        fetch(deployment)?;
        let after = shown()?;
        let row = after.lines().find(|row| row.contains(&session) && row.contains("expired"));
        Ok(row.map(str::to_owned))
    })
    .with_context(|| shown().unwrap_or_default())?;
    let audited = deployment.operator("audit")?;
    ensure!(audited.contains(CONFIG), "the audit log does not tell of {CONFIG}: {audited}");
    Ok(format!("copies of {DARK_SERVICE} in VNI {VNI}, audited; after its time: {expired}"))
}

fn fetch(deployment: &Deployment) -> Result<String> {
    wait_for_page(deployment, "-4", &format!("http://{DARK_NAME}/"), DARK_MARKER)
}

/// The file with the session, which is good until then.
fn document(deployment: &Deployment, until: &str) -> Result<String> {
    let mut date = program("date");
    let expires = run(date.args(["-u", "-d", until, "+%Y-%m-%dT%H:%M:%SZ"]))?;
    let text = format!(
        "{{\"sensor\": \"ids\", \"vni\": {VNI}, \"expires\": \"{}\", \"gateways\": [\"{GATEWAY_A}\"]}}",
        expires.trim()
    );
    Ok(deployment.write(&format!("{CONFIG}.json"), &text)?.display().to_string())
}
