//! Bringing the firewall into force before anything else of the gateway can start.

use std::{os::unix::net::UnixStream, path::PathBuf};

use nightgate_config::Config;
use nightgate_datapath::{DatapathError, PinError, Pins};
use nightgate_ruleset::CompileError;
use serde::Serialize;

use super::{
    lines,
    rules::{ChooseError, Rules},
};
use crate::{admin::RuleFile, firewall::Firewall, state::StateFolder};

/// What is needed to bring a firewall into force.
#[derive(Debug)]
pub struct RestoreConfig {
    /// The configuration.
    pub config: Config,
    /// Its file.
    pub file: RuleFile,
    /// Where the firewall stays.
    pub pins: Pins,
    /// Where the last good rules are kept.
    pub state: StateFolder,
}

/// What is in force.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// File whose rules are in force.
    pub file: String,
    /// How many rules.
    pub rules: usize,
    /// Interfaces that are protected.
    pub interfaces: Vec<String>,
    /// Interfaces that are not there yet; the running gateway protects them when they come.
    pub awaited: Vec<String>,
}

/// A firewall that cannot be brought into force.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The gateway itself looks after it.
    #[error("restore the firewall: the gateway's process answers at {}, expected none", socket.display())]
    Running {
        /// Its admin socket.
        socket: PathBuf,
    },
    /// The process has no privileges.
    #[error("restore the firewall: the process runs as an ordinary user, expected root")]
    NotRoot,
    /// The rules do not fit the kernel programs.
    #[error("{}", lines(.0))]
    Rules(Vec<CompileError>),
    /// There is no configuration to use.
    #[error(transparent)]
    Configuration(#[from] ChooseError),
    /// The kernel refuses.
    #[error(transparent)]
    Firewall(#[from] DatapathError),
    /// The firewall cannot be kept.
    #[error(transparent)]
    Pins(#[from] PinError),
}

/// Brings the last good rules into force, without controller, identity, DNS or mirror. They stay when this
/// process ends; a gateway that starts later takes them over.
///
/// # Errors
/// The rules cannot be had, or the kernel refuses them.
pub fn restore(restore: RestoreConfig) -> Result<Restored, RestoreError> {
    let RestoreConfig { config, file, pins, state } = restore;
    if UnixStream::connect(&config.admin_socket).is_ok() {
        return Err(RestoreError::Running { socket: config.admin_socket });
    }
    let gateway = config.gateway.as_ref().ok_or(ChooseError::NoZones)?;
    if !nix::unistd::geteuid().is_root() {
        return Err(RestoreError::NotRoot);
    }
    let compiled = nightgate_ruleset::compile(gateway).map_err(RestoreError::Rules)?;
    let rules = Rules::choose(file, config, compiled, state)?;
    let firewall = Firewall::start(rules.gateway(), rules.compiled().clone(), pins)?;
    Ok(Restored {
        file: rules.file().to_owned(),
        rules: rules.compiled().rules().len(),
        interfaces: firewall.interfaces(),
        awaited: firewall.awaited(),
    })
}
