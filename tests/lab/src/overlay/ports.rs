//! Somebody on the underlay who looks for a way in.

use std::thread;

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    access::Access,
    deployment::Deployment,
    topology::{Family, address},
};
use crate::command::run;

/// All TCP ports. Silence is not waited for long, on a network that loses nothing; so many probes in a second.
const TCP: &str = "-sS -p- --min-rate 20000 --max-retries 1 --max-rtt-timeout 100ms";
const TCP_PORTS: u32 = 65_535;
/// The UDP ports that services of every day use most, as nmap counts them.
const UDP: &str = "-sU --top-ports 100 --min-rate 2000 --max-retries 1 --max-rtt-timeout 100ms";
const UDP_PORTS: u32 = 100;
/// Where the router's port is.
const NEIGHBOURHOOD: &str = "-sS -p 400-500";

/// Neither gateway has an open port; the router, which has one, shows that nmap finds them.
pub(super) fn scan(deployment: &mut Deployment) -> Result<String> {
    let own: &Deployment = deployment;
    let router = own.family.of(address::ROUTER);
    let open = open_ports(own, NEIGHBOURHOOD, router)?;
    ensure!(open == ["443/open/tcp"], "open on the router: {open:?}");
    let gateways = [address::UNDERLAY_A, address::UNDERLAY_B].map(|of| own.family.of(of));
    thread::scope(|scope| {
        let both = gateways.map(|gateway| scope.spawn(move || find_nothing(own, gateway)));
        let ended = both.map(|scan| scan.join().unwrap_or_else(|_panic| bail!("a scan failed")));
        ended.into_iter().collect::<Result<()>>()
    })?;
    let seen = format!(
        "none of {TCP_PORTS} TCP ports is open, none of {UDP_PORTS} common UDP ports answers"
    );
    for (name, target) in ["gw-a", "gw-b"].into_iter().zip(gateways) {
        deployment.note(Access::refused(&format!("nmap {name} {target}"), "attacker", &seen));
    }
    Ok(format!("{seen} at {}; at the router nmap finds 443", gateways.join(" and ")))
}

fn find_nothing(deployment: &Deployment, target: &str) -> Result<()> {
    for scan in [TCP, UDP] {
        let open = open_ports(deployment, scan, target)?;
        ensure!(open.is_empty(), "open at {target}: {open:?}");
    }
    Ok(())
}

/// `port/open/protocol` of each open port that nmap finds. Of UDP ports, silent ones are not open.
fn open_ports(deployment: &Deployment, scan: &str, target: &str) -> Result<Vec<String>> {
    let mut nmap = deployment.topology.attacker.command("nmap");
    nmap.args(["-n", "-Pn", "-oG", "-"]).args(scan.split_whitespace());
    nmap.args((deployment.family == Family::V6).then_some("-6")).arg(target);
    let printed = run(&mut nmap).context("nmap")?;
    ensure!(printed.contains("(1 host up) scanned"), "nmap did not scan {target}: {printed}");
    Ok(found(&printed))
}

/// Of lines like `Host: 192.0.2.20 ()<TAB>Ports: 443/open/tcp//https///, 80/closed/tcp//http///`.
fn found(printed: &str) -> Vec<String> {
    let ports = |line: &str| -> Option<Vec<String>> {
        let (_, ports) = line.strip_prefix("Host: ")?.split_once("Ports: ")?;
        let open = ports.split_whitespace().filter(|port| port.contains("/open/"));
        let port = |port: &str| port.split("//").next().unwrap_or_default().to_owned();
        Some(open.map(port).collect())
    };
    printed.lines().filter_map(ports).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_ports_are_told_from_others() {
        let printed = "# Nmap 7.93\nHost: 192.0.2.20 ()\tStatus: Up\n\
            Host: 192.0.2.20 ()\tPorts: 22/closed/tcp//ssh///, 443/open/tcp//https///\tIgnored State: closed\n\
            Host: 192.0.2.11 ()\tPorts: 53/open|filtered/udp//domain///\n";
        assert_eq!(found(printed), ["443/open/tcp"]);
    }
}
