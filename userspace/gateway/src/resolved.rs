//! systemd-resolved, told of the private DNS while the gateway runs.
//!
//! What is told is told of an interface of our own, and is forgotten with it: when the gateway stops, or after a crash by
//! the next start or by `gateway down`. Whatever else resolved knows stays as it is.

use std::{io, net::SocketAddr, process::ExitStatus};

use nightgate_netlink::{DNS_DEVICE, Netlink, NetlinkError, Undo};
use tokio::process::Command;
use tracing::info;

use crate::listener::LOOPBACKS;

/// The program that comes with systemd-resolved.
const RESOLVECTL: &str = "resolvectl";

/// systemd-resolved asks the private DNS.
#[derive(Debug)]
pub struct Resolved {
    undo: Undo,
    told: Told,
}

/// What resolved is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// Where the private DNS answers.
    pub servers: Vec<SocketAddr>,
    /// Domains whose names it is asked for; empty text for all names.
    pub domains: Vec<String>,
}

/// systemd-resolved cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ResolvedError {
    /// Its program cannot be started.
    #[error(
        "start {RESOLVECTL}: {0}; dns.resolved needs systemd-resolved, dns.resolv_conf does not"
    )]
    Start(#[source] io::Error),
    /// It refuses.
    #[error(
        "{RESOLVECTL} {command}: {status}: {detail}; dns.resolved needs systemd-resolved to run"
    )]
    Refused {
        /// What it was told.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        detail: String,
    },
    /// There is no interface for it.
    #[error(transparent)]
    Interface(#[from] NetlinkError),
}

impl Resolved {
    /// Has names of the domains asked of the servers.
    ///
    /// # Errors
    /// There is no resolved, or it refuses; nothing stays told.
    pub async fn tell(netlink: &Netlink, told: Told) -> Result<Self, ResolvedError> {
        let undo = netlink.create_dns_link().await?;
        for command in commands(&told) {
            if let Err(error) = run(&command).await {
                if let Err(left) = netlink.undo(undo).await {
                    tracing::warn!(error = %left, "the interface of the private DNS stays behind");
                }
                return Err(error);
            }
        }
        info!(domains = ?told.domains, "systemd-resolved asks the private DNS");
        Ok(Self { undo, told })
    }

    /// What it is told.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Has it forgotten.
    ///
    /// # Errors
    /// The interface cannot be removed.
    pub async fn forget(self, netlink: &Netlink) -> Result<(), NetlinkError> {
        netlink.undo(self.undo).await
    }
}

/// What has to be said (resolvectl(1)). Private names are not signed, and our answers come over plain DNS alone.
fn commands(told: &Told) -> Vec<Vec<String>> {
    let of = |verb: &str, words: Vec<String>| {
        [vec![verb.to_owned(), DNS_DEVICE.to_owned()], words].concat()
    };
    let off = |verb| of(verb, vec!["no".to_owned()]);
    let all = told.domains.iter().any(String::is_empty);
    // A tilde: names below the domain come here, and it is not appended to single words.
    let domain =
        |domain: &String| if domain.is_empty() { "~.".into() } else { format!("~{domain}") };
    vec![
        off("llmnr"),
        off("mdns"),
        off("dnssec"),
        off("dnsovertls"),
        of("default-route", vec![if all { "yes" } else { "no" }.to_owned()]),
        of("domain", told.domains.iter().map(domain).collect()),
        of("dns", told.servers.iter().map(|server| from_here(*server).to_string()).collect()),
    ]
}

/// Where this host reaches a server of its own: resolved does not take the unspecified address for one.
fn from_here(mut server: SocketAddr) -> SocketAddr {
    if server.ip().is_unspecified() {
        let loopback = if server.is_ipv4() { LOOPBACKS[0] } else { LOOPBACKS[1] };
        server.set_ip(loopback);
    }
    server
}

async fn run(command: &[String]) -> Result<(), ResolvedError> {
    let output =
        Command::new(RESOLVECTL).args(command).output().await.map_err(ResolvedError::Start)?;
    if output.status.success() {
        return Ok(());
    }
    let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ResolvedError::Refused { command: command.join(" "), status: output.status, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_domains_or_all_are_asked_of_the_private_dns() {
        let told = |domains: &[&str]| Told {
            servers: ["0.0.0.0:5353", "[fd00::1]:53"].map(|text| text.parse().unwrap()).to_vec(),
            domains: domains.iter().map(|it| (*it).to_owned()).collect(),
        };
        let lines =
            |told: &Told| commands(told).iter().map(|words| words.join(" ")).collect::<Vec<_>>();
        let split = lines(&told(&["corp", "db.example"]));
        assert!(split.contains(&"domain ngdns0 ~corp ~db.example".to_owned()), "{split:?}");
        assert!(split.contains(&"default-route ngdns0 no".to_owned()), "{split:?}");
        let all = lines(&told(&[""]));
        assert!(all.contains(&"domain ngdns0 ~.".to_owned()), "{all:?}");
        assert_eq!(all.last().unwrap(), "dns ngdns0 127.0.0.1:5353 [fd00::1]:53");
    }
}
