//! The directory of a quickstart, and what it remembers.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use nightgate_pki::{FileAccess, write_atomically};
use serde::{Deserialize, Serialize};

/// Version of the file.
const VERSION: u32 = 1;

/// A directory that quickstart made.
pub(super) struct Folder {
    path: PathBuf,
    pub(super) state: State,
}

/// `quickstart.json`: by it a directory is known as ours.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct State {
    version: u32,
    /// Port of the controller; part of every identity file, so it stays.
    pub(super) controller_port: u16,
    /// Port of the router.
    pub(super) router_port: u16,
    /// Identities, service and policies have been made; what became of them since is up to people.
    pub(super) is_complete: bool,
}

/// What is asked for on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) controller: Option<u16>,
    pub(super) router: Option<u16>,
}

/// Default port of the controller, that of OpenZiti's own quickstart.
const CONTROLLER_PORT: u16 = 1280;

/// Default port of the router, that of OpenZiti's own quickstart.
const ROUTER_PORT: u16 = 3022;

impl Folder {
    /// Opens the directory, or makes it. Nothing is made before the ports are known to be free.
    pub(super) fn open(path: &Path, ports: Ports) -> anyhow::Result<Self> {
        let shown = path.display();
        let Some(state) = State::load(path)? else {
            ensure!(
                is_missing_or_empty(path)?,
                "{shown} is not empty and was not made by `nightgate quickstart`; name another directory"
            );
            let state = State {
                version: VERSION,
                controller_port: ports.controller.unwrap_or(CONTROLLER_PORT),
                router_port: ports.router.unwrap_or(ROUTER_PORT),
                is_complete: false,
            };
            ensure!(
                state.controller_port != state.router_port,
                "controller and router cannot both have port {}",
                state.router_port
            );
            state.check_ports("choose another with")?;
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .with_context(|| format!("make {shown}"))?;
            let folder = Self { path: fs::canonicalize(path)?, state };
            folder.save()?;
            return Ok(folder);
        };
        for (asked, kept, option) in [
            (ports.controller, state.controller_port, "--controller-port"),
            (ports.router, state.router_port, "--router-port"),
        ] {
            ensure!(
                asked.is_none_or(|asked| asked == kept),
                "{shown} was made with {option} {kept}; leave the option out, or name another directory"
            );
        }
        state.check_ports("name another directory, with another")?;
        Ok(Self { path: fs::canonicalize(path)?, state })
    }

    /// A file or directory in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Remembers that everything has been made.
    pub(super) fn complete(&mut self) -> anyhow::Result<()> {
        self.state.is_complete = true;
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        let file = state_file(&self.path);
        let text = serde_json::to_vec_pretty(&self.state)?;
        write_atomically(&file, &text, FileAccess::Everyone)
            .with_context(|| format!("write {}", file.display()))
    }
}

impl State {
    /// Where the controller is reached.
    pub(super) fn controller(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.controller_port).into()
    }

    /// Where the router is reached.
    pub(super) fn router(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.router_port).into()
    }

    fn load(folder: &Path) -> anyhow::Result<Option<Self>> {
        let file = state_file(folder);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let state: Self =
            serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
        let found = state.version;
        ensure!(found == VERSION, "{}: version {found}, expected {VERSION}", file.display());
        Ok(Some(state))
    }

    fn check_ports(&self, remedy: &str) -> anyhow::Result<()> {
        for (address, option) in
            [(self.controller(), "--controller-port"), (self.router(), "--router-port")]
        {
            match TcpListener::bind(address) {
                Ok(_free) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                    "{address} is in use; end the program that listens there (another quickstart?), or \
                     {remedy} {option}"
                ),
                Err(error) => return Err(error).with_context(|| format!("listen on {address}")),
            }
        }
        Ok(())
    }
}

fn is_missing_or_empty(path: &Path) -> anyhow::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("quickstart.json")
}
