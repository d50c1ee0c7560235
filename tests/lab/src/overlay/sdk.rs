//! Our own SDK as a client in the demo.

use std::{path::Path, time::Instant};

use anyhow::{Result, bail, ensure};

use super::{
    access::Access,
    configuration::DARK_SERVICE,
    deployment::{Deployment, PATIENCE},
    scenes::DARK_MARKER,
};
use crate::{command::run, wait::until};

/// Identity of the application that fetches.
const IDENTITY: &str = "laptop";

/// Fetches the page of the application that listens on nothing, by an application on another host: nothing
/// without a policy, then the page.
pub(super) fn fetch(deployment: &mut Deployment) -> Result<String> {
    let [token, identity] =
        ["jwt", "json"].map(|end| deployment.file(&format!("{IDENTITY}.{end}")));
    deployment.operator(&format!("identity create {IDENTITY} --jwt-out {}", token.display()))?;
    deployment.operator(&format!("enroll {} --out {}", token.display(), identity.display()))?;
    if let Ok(page) = page(deployment, &identity) {
        bail!("{IDENTITY} got {page:?} without a policy");
    }
    let (what, by) = (format!("SDK, {DARK_SERVICE}"), format!("application, {IDENTITY}"));
    deployment.note(Access::refused(&what, &by, "no policy lets it dial"));
    deployment.operator(&format!("identity update {IDENTITY} --attributes clients"))?;
    let mut took = None;
    let page = until("page fetched by the SDK", PATIENCE, || {
        let started = Instant::now();
        let page = page(deployment, &identity).ok();
        took = Some(started.elapsed().as_millis());
        Ok(page)
    })?;
    ensure!(page.contains(DARK_MARKER), "expected a page with {DARK_MARKER:?}, got {page:?}");
    let took = took.unwrap_or_default();
    deployment.note(Access::reached(&what, &by, "r1", "the page"));
    Ok(format!("refused without a policy; with it {:?} in {took} ms", page.trim()))
}

fn page(deployment: &Deployment, identity: &Path) -> Result<String> {
    let mut client = deployment.sdk_client();
    run(client.arg(identity).arg(format!("http://{DARK_SERVICE}/")))
}
