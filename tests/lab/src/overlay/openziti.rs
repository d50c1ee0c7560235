//! OpenZiti's client of 2022 in the demo, unmodified.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{configuration::DARK_NAME, deployment::Deployment, scenes::DARK_MARKER};
use crate::command::run;

/// Identity of the program that is built on the old client.
const IDENTITY: &str = "old-app";

/// A program that knows of the overlay no more than the file of its identity; the name that it asks for is
/// one that the service intercepts.
const PROGRAM: &str = r#"
import http.client, os, sys
import openziti
connection = http.client.HTTPConnection(sys.argv[2])
connection.sock = openziti.load(sys.argv[1]).connect((sys.argv[2], 80))
connection.request("GET", "/")
print(connection.getresponse().read().decode(), flush=True)
os._exit(0)
"#;

/// Enrolls the client and fetches the page of the application that listens on nothing.
pub(super) fn fetch(deployment: &mut Deployment) -> Result<String> {
    let [token, identity] =
        ["jwt", "json"].map(|end| deployment.file(&format!("{IDENTITY}.{end}")));
    deployment.operator(&format!(
        "identity create {IDENTITY} --attribute clients --jwt-algorithm RS256 --jwt-out {}",
        token.display()
    ))?;
    let mut enroll = deployment.openziti()?;
    enroll.args(["-m", "openziti", "enroll", "-j"]).arg(&token).arg("-i").arg(&identity);
    run(&mut enroll)?;
    let mut fetch = deployment.openziti()?;
    let started = Instant::now();
    fetch.args(["-c", PROGRAM]).arg(&identity).arg(DARK_NAME);
    let page = run(&mut fetch)?;
    ensure!(page.contains(DARK_MARKER), "expected a page with {DARK_MARKER:?}, got {page:?}");
    Ok(format!("{:?} in {} ms", page.trim(), started.elapsed().as_millis()))
}
