//! Controller and router as processes of their own, so that their memory can be told apart.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nightgate_identity::Identity;
use nightgate_lab::memory;
use nightgate_router::{Lanes, LinkConfig, Router, RouterConfig};
use nightgate_server::Controller;
use tokio::io::AsyncReadExt as _;

/// First word of the command line of such a process.
pub const SERVE: &str = "serve";

/// A process that runs one role until it is dropped.
pub(super) struct Role(Child);

impl Role {
    /// Serves a controller directory.
    pub(super) fn controller(dir: &Path) -> Result<Self> {
        Self::start(&["controller", &dir.display().to_string()])
    }

    /// Runs a router with this identity file.
    pub(super) fn router(identity: &Path, address: SocketAddr) -> Result<Self> {
        Self::start(&["router", &identity.display().to_string(), &address.to_string()])
    }

    fn start(words: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        command.arg(SERVE).args(words).stdin(Stdio::piped());
        command.spawn().map(Self).context("start a role")
    }

    /// CPU seconds that it has used so far.
    pub(super) fn cpu(&self) -> Result<f64> {
        crate::cpu::seconds(self.0.id())
    }

    /// Memory that it has in use, in MiB (`VmRSS` of proc_pid_status(5)).
    pub(super) fn memory(&self) -> Result<f64> {
        Ok(memory(self.0.id(), "VmRSS")? as f64 / 1_024.0)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An address whose port nobody has at this moment.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Runs a role until standard input ends: the main function of such a process.
///
/// # Errors
/// The role does not start.
pub fn serve(words: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    runtime.block_on(async {
        match words.as_slice() {
            ["controller", dir] => {
                let controller = Controller::start(Path::new(dir)).await?;
                end_of_input().await;
                controller.stop().await;
            }
            ["router", identity, address] => {
                let address: SocketAddr = address.parse()?;
                let config = RouterConfig {
                    identity: Identity::load(identity)?,
                    listen: Some(address),
                    advertise: Some(address.to_string()),
                    legacy_clients: false,
                    links: LinkConfig::default(),
                    offline: nightgate_router::Offline::default(),
                };
                let router = Router::start(config, Lanes::here()).await?;
                end_of_input().await;
                router.shutdown().await;
            }
            _ => bail!("serve controller DIR, or serve router IDENTITY ADDRESS"),
        }
        Ok(())
    })
}

async fn end_of_input() {
    // Whatever comes, and an error too, is the end.
    let _ended = tokio::io::stdin().read(&mut [0]).await;
}
