//! Where things are, and how cargo is called.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The checkout and the folders that the tasks write to.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    cache: PathBuf,
}

/// Cargo profile of host programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Profile {
    /// Fast to build.
    Dev,
    /// Fast to run.
    Release,
}

impl Profile {
    /// The folder below the target folder that the programs land in.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }

    /// What cargo is told to choose the profile.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["--release"],
        }
    }
}

impl Workspace {
    /// Finds the checkout this task was started from.
    ///
    /// # Errors
    /// The checkout has moved since the task was compiled, or the user has no home folder.
    pub(crate) fn find() -> Result<Self> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        if !root.join("ebpf/programs").is_dir() {
            bail!("{} is not a checkout: run `cargo xtask` inside one", root.display());
        }
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder)?,
            None => root.join("target"),
        };
        Ok(Self { root, target, cache: cache_folder()? })
    }

    /// The top folder of the checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where tools that the tasks install for themselves are kept, shared by all checkouts.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// Where the output of finished steps is kept.
    pub(crate) fn logs(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// The kernel object that host programs embed; the same place whatever the target folder is.
    pub(crate) fn kernel_object(&self, name: &str) -> PathBuf {
        self.kernel_target().join(name)
    }

    /// The Python environment with OpenZiti's client of 2022; where tests look for it, whatever the
    /// target folder is.
    pub(crate) fn openziti_client(&self) -> PathBuf {
        self.root.join("target/openziti-2022")
    }

    /// systemd-resolved as its package has it; installed, it would take the machine's own resolver over.
    pub(crate) fn systemd_resolved(&self) -> PathBuf {
        self.root.join("target/systemd-resolved")
    }

    /// The target folder of the kernel programs.
    pub(crate) fn kernel_target(&self) -> PathBuf {
        self.root.join("target/ebpf")
    }

    /// The target folder of the instrumented fuzz targets, and what they find.
    pub(crate) fn fuzz_target(&self) -> PathBuf {
        self.target.join("fuzz")
    }

    /// A program that cargo built.
    pub(crate) fn program(&self, profile: Profile, name: impl AsRef<Path>) -> PathBuf {
        self.target.join(profile.folder()).join(name)
    }

    /// The cargo that started this task, at the top of the checkout.
    pub(crate) fn cargo<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(arguments).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        forget_calling_cargo(&mut command);
        command
    }
}

/// Takes away what the calling cargo set for this task and would mislead another compiler.
pub(crate) fn forget_calling_cargo(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command.env_remove("LD_LIBRARY_PATH");
}

/// A `PATH` with these folders before those that this task has.
///
/// # Errors
/// A folder's name has a colon.
pub(crate) fn path_with(folders: impl IntoIterator<Item = PathBuf>) -> Result<OsString> {
    let inherited = env::var_os("PATH").unwrap_or_default();
    let all = folders.into_iter().chain(env::split_paths(&inherited));
    env::join_paths(all).context("put folders into PATH")
}

/// Finds a program as the shell would, and in the administrator's folders too.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

fn cache_folder() -> Result<PathBuf> {
    if let Some(cache) = env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        return Ok(PathBuf::from(cache).join("nightgate"));
    }
    let home = env::home_dir().context("no home folder: set HOME")?;
    Ok(home.join(".cache/nightgate"))
}
