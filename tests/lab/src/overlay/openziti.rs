//! OpenZiti's client of 2022 in the demo, unmodified.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{
    access::Access,
    configuration::DARK_NAME,
    deployment::Deployment,
    scenes::{DARK_MARKER, note_page, wait_for_page},
};
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

/// A program that serves a page to whoever dials its service; it listens on nothing.
const SERVER: &str = r#"
import socket, sys
from openziti import zitilib
listener = zitilib.ziti_socket(socket.SOCK_STREAM)
zitilib.bind(listener, zitilib.load(sys.argv[1]), sys.argv[2])
zitilib.listen(listener, 16)
print("hosting", flush=True)
page = sys.argv[3].encode()
head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(page)
while True:
    descriptor, _ = zitilib.accept(listener)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
    if connection.recv(65536):
        connection.sendall(head + page)
    connection.close()
"#;
/// Its service, and the name that the client knows.
const SERVICE: &str = "old";
const NAME: &str = "old.corp";
/// Its page.
const PAGE: &str = "served by a client of 2022";

/// The old client hosts, and a program behind gateway A reaches it.
pub(super) fn host(deployment: &mut Deployment) -> Result<String> {
    for line in [
        format!("service create {SERVICE} --attribute open --intercept {NAME}:80"),
        format!("policy create {SERVICE}-bind bind --identity @{IDENTITY} --service @{SERVICE}"),
    ] {
        deployment.operator(&line)?;
    }
    let identity = deployment.file(&format!("{IDENTITY}.json"));
    deployment.start_openziti(SERVER, &identity, &[SERVICE, PAGE])?;
    let url = format!("http://{NAME}/");
    for family in ["-4", "-6"] {
        wait_for_page(deployment, family, &url, PAGE)?;
    }
    let seen = "the page of a program on OpenZiti's client of 2022, over IPv4 and IPv6";
    note_page(deployment, NAME, SERVICE, seen)?;
    Ok(format!("curl behind gateway A got {seen}"))
}

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
    let took = started.elapsed().as_millis();
    let by = format!("application, {IDENTITY}");
    deployment.note(Access::reached(
        &format!("OpenZiti's client, {DARK_NAME}"),
        &by,
        "r1",
        "the page",
    ));
    Ok(format!("{:?} in {took} ms", page.trim()))
}
