//! The main scene: programs of every day on the client, unmodified, and their servers behind the other gateway.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    access::{Access, client, watch},
    configuration::{
        self, DATABASE_PORT, DATABASE_SERVICE, GATEWAY_A, GATEWAY_B, HIDDEN_NAME, HIDDEN_SERVICE,
        PERFORMANCE_PORT, PERFORMANCE_SERVICE, SSH_PORT, SSH_SERVICE,
    },
    deployment::{Deployment, PATIENCE},
    servers,
    topology::address,
};
use crate::wait::until;

/// In the query of the client.
pub(super) const QUERY_MARKER: &str = "nightgate-query-plaintext";
/// In the command of the client.
pub(super) const COMMAND_MARKER: &str = "nightgate-command-plaintext";
/// Who is at the client.
const CLIENT: &str = "client, gw-a";
/// How long iperf3 sends, in seconds, and at which rate: the captures are read again and again.
const STREAM: [&str; 4] = ["-t", "1", "-b", "10M"];
const DATAGRAMS: [&str; 6] = ["-t", "1", "-b", "2M", "-l", "1200"];

/// The domain of all names here.
fn name(service: &str) -> String {
    format!("{service}.corp")
}

/// Names, IPv4 and IPv6: how the client says where the server is.
fn places(service: &str) -> [String; 3] {
    [name(service), address::SERVER[0].to_owned(), address::SERVER[1].to_owned()]
}

/// Servers behind gateway B, and a service that the client may not use.
pub(super) fn host(deployment: &mut Deployment) -> Result<String> {
    servers::start(deployment)?;
    for (service, protocols, port) in [
        (DATABASE_SERVICE, json!(["tcp"]), DATABASE_PORT),
        (SSH_SERVICE, json!(["tcp"]), SSH_PORT),
        (PERFORMANCE_SERVICE, json!(["tcp", "udp"]), PERFORMANCE_PORT),
    ] {
        let intercept = json!({
            "protocols": protocols,
            "addresses": places(service),
            "portRanges": [{ "low": port, "high": port }],
        });
        let server = deployment.family.of(address::SERVER);
        let host = json!({
            "forwardProtocol": true,
            "allowedProtocols": protocols,
            "address": server,
            "port": port,
        });
        let configs = [("intercept.v1", intercept), ("host.v1", host)];
        let mut create = format!("service create {service} --attribute servers --attribute open");
        for (kind, document) in configs {
            let config = format!("{service}-{kind}");
            let file = deployment.write(&config, &document.to_string())?;
            let file = file.display();
            deployment.operator(&format!("config create {config} {kind} --data {file}"))?;
            create.push_str(&format!(" --config {config}"));
        }
        deployment.operator(&create)?;
    }
    let web = configuration::web_server(deployment.family);
    for line in [
        format!(
            "service create {HIDDEN_SERVICE} --attribute servers --intercept {HIDDEN_NAME}:443 --host {web}"
        ),
        format!("policy create servers-bind bind --identity @{GATEWAY_B} --service #servers"),
        "policy create open-dial dial --identity #clients --service #open".to_owned(),
    ] {
        deployment.operator(&line)?;
    }
    for service in [DATABASE_SERVICE, SSH_SERVICE, PERFORMANCE_SERVICE] {
        until(&format!("hosted {service}"), PATIENCE, || {
            let answer = deployment.ask_operator(&format!("explain dial {GATEWAY_A} {service}"))?;
            let known = dig(deployment, &format!("{} A", name(service)))?;
            Ok((answer.contains(GATEWAY_B) && !known.is_empty()).then_some(()))
        })?;
    }
    Ok("PostgreSQL, OpenSSH and iperf3 listen on gateway B's LAN; gw-b hosts them".to_owned())
}

/// The private DNS as `dig` sees it, by UDP and TCP, over both families.
pub(super) fn names(deployment: &mut Deployment) -> Result<String> {
    let name = name(DATABASE_SERVICE);
    let mut seen = Vec::new();
    for (kind, is_right) in
        [("A", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("AAAA", IpAddr::is_ipv6)]
    {
        for options in ["", "+tcp "] {
            let answer = dig(deployment, &format!("{options}{name} {kind}"))?;
            let found: IpAddr = answer.parse().with_context(|| format!("{kind}: {answer:?}"))?;
            ensure!(is_right(&found), "{kind}: {found}");
            let back = dig(deployment, &format!("{options}-x {found}"))?;
            ensure!(back == format!("{name}."), "PTR of {found}: {back:?}");
            seen.push(found.to_string());
        }
    }
    seen.dedup();
    let hidden = client(deployment, &format!("dig @{} {HIDDEN_NAME} A", address::GATEWAY_A[0]))?;
    ensure!(hidden.contains("NXDOMAIN"), "{HIDDEN_NAME}: {hidden}");
    let reason = deployment.ask_operator(&format!("explain dial {GATEWAY_A} {HIDDEN_SERVICE}"))?;
    let reason = reason.lines().find(|line| line.to_lowercase().contains("policy"));
    let reason = reason.context("explain names no policy")?;
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let addresses = seen.join(", ");
    deployment.note(Access::reached(&format!("dig {name} A AAAA PTR"), CLIENT, "gw-a", &addresses));
    let refused = format!("NXDOMAIN; explain: {reason}");
    deployment.note(Access::refused(&format!("dig {HIDDEN_NAME}"), CLIENT, &refused));
    Ok(format!("{name} is {addresses}, by UDP and TCP; {HIDDEN_NAME}: {refused}"))
}

fn dig(deployment: &Deployment, question: &str) -> Result<String> {
    let mut answers = Vec::new();
    for server in address::GATEWAY_A {
        let line = format!("dig @{server} +short +time=2 +tries=2 {question}");
        answers.push(client(deployment, &line).unwrap_or_default().trim().to_owned());
    }
    let [v4, v6] = answers.as_slice() else { bail!("two answers") };
    ensure!(v4 == v6, "{question}: {v4:?} over IPv4, {v6:?} over IPv6");
    Ok(v4.clone())
}

/// `psql` by name and by address.
pub(super) fn query(deployment: &mut Deployment) -> Result<String> {
    let query = format!("select '{QUERY_MARKER}', inet_client_addr(), pg_sleep(0.5)");
    let mut seen = String::new();
    for place in places(DATABASE_SERVICE) {
        let mut psql = deployment.topology.client.command("psql");
        psql.env("PGCONNECT_TIMEOUT", "10")
            .args(["-X", "-A", "-t", "-U", "postgres", "-h", &place]);
        psql.args(["-p", &DATABASE_PORT.to_string(), "-c", &query, "postgres"]);
        let (row, path) = watch(deployment, DATABASE_SERVICE, &mut psql)?;
        let mut columns = row.trim().split('|');
        ensure!(columns.next() == Some(QUERY_MARKER), "psql at {place}: {row:?}");
        seen = format!("a row; the server saw {}", columns.next().unwrap_or_default());
        let path = path.context("psql ran without a circuit")?;
        deployment.note(Access::reached(&format!("psql {place}"), CLIENT, &path, &seen));
    }
    Ok(format!("by name, IPv4 and IPv6: {seen}"))
}

/// `ssh` by name and by address.
pub(super) fn log_in(deployment: &mut Deployment) -> Result<String> {
    let script = format!("echo {COMMAND_MARKER} $SSH_CONNECTION; sleep 0.5");
    for place in places(SSH_SERVICE) {
        let mut ssh = servers::ssh(deployment)?;
        let (said, path) = watch(deployment, SSH_SERVICE, ssh.args([&place, &script]))?;
        ensure!(said.starts_with(COMMAND_MARKER), "ssh to {place}: {said:?}");
        let path = path.context("ssh ran without a circuit")?;
        let seen = "logged in by key, ran a command";
        deployment.note(Access::reached(&format!("ssh {place}"), CLIENT, &path, seen));
    }
    Ok("by name, IPv4 and IPv6: logged in by key, ran a command".to_owned())
}

/// `iperf3` with TCP and UDP, over both families.
pub(super) fn load(deployment: &mut Deployment) -> Result<String> {
    let mut all = Vec::new();
    for place in places(PERFORMANCE_SERVICE) {
        for (what, options) in [("TCP", STREAM.as_slice()), ("UDP", DATAGRAMS.as_slice())] {
            let udp = what == "UDP";
            let mut iperf3 = deployment.topology.client.command("iperf3");
            iperf3.args(["-c", &place, "-p", &PERFORMANCE_PORT.to_string(), "-J"]).args(options);
            iperf3.args(["--connect-timeout", "10000"]).args(udp.then_some("-u"));
            // The server takes one client at a time, and a moment after each.
            let mut error = Value::Null;
            let (report, path) = until("free iperf3", PATIENCE, || {
                let (text, path) = watch(deployment, PERFORMANCE_SERVICE, &mut iperf3)?;
                let report: Value = serde_json::from_str(&text)?;
                error = report["error"].clone();
                Ok(error.is_null().then_some((report, path)))
            })
            .with_context(|| error.to_string())?;
            let path = path.context("iperf3 ran without a circuit")?;
            let seen = outcome(&report, udp)
                .with_context(|| format!("iperf3 {what} to {place}: {report}"))?;
            all.push(format!("{what} {seen}"));
            deployment.note(Access::reached(
                &format!("iperf3 {what} {place}"),
                CLIENT,
                &path,
                &seen,
            ));
        }
    }
    Ok(all.join("; "))
}

/// What the server received, as the client was told; nothing is lost of datagrams.
fn outcome(report: &Value, udp: bool) -> Result<String> {
    let end = &report["end"];
    if udp {
        let sum = &end["sum"];
        let (sent, lost) = (sum["packets"].as_u64(), sum["lost_packets"].as_u64());
        let (sent, lost) = (sent.context("packets")?, lost.context("lost packets")?);
        ensure!(sent > 0 && lost == 0, "{lost} of {sent} lost");
        return Ok(format!("{sent} datagrams, none lost"));
    }
    let received = end["sum_received"]["bytes"].as_u64().context("bytes received")?;
    let rate = end["sum_received"]["bits_per_second"].as_f64().unwrap_or_default();
    // What is on its way when it stops is not received.
    ensure!(received >= 250_000, "{received} bytes received");
    Ok(format!("{:.1} MB at {:.0} Mbit/s", received as f64 / 1e6, rate / 1e6))
}

/// `ping` by name and by address: the kernel of gateway A answers while somebody hosts.
pub(super) fn ping(deployment: &mut Deployment) -> Result<String> {
    let [name, v4, v6] = places(DATABASE_SERVICE);
    for (option, place) in [("-4", &name), ("-6", &name), ("-4", &v4), ("-6", &v6)] {
        let said = client(deployment, &format!("ping {option} -n -c 3 -i 0.2 -W 2 {place}"))?;
        ensure!(said.contains(" 0% packet loss"), "ping {option} {place}: {said}");
        let what = format!("ping {option} {place}");
        deployment.note(Access::reached(&what, CLIENT, "gw-a", "3 of 3 answered while gw-b hosts"));
    }
    Ok("by name and by address, IPv4 and IPv6: 3 of 3 answered".to_owned())
}
