//! What runs that did not end in order have left on the machine.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    bpf::unmount_in,
    command::{program, run},
    namespace::{ETC, PREFIX},
    run::{FOLDER_PREFIX, RunId},
    wait::until,
};

/// Something of a run that is over.
#[derive(Debug)]
enum Leftover {
    Namespace(String),
    Process { pid: i32, command: String },
    Folder(PathBuf),
}

/// Lists namespaces, processes and files of runs that are over. None of them should be there.
///
/// # Errors
/// The machine's own lists cannot be read.
pub fn leftovers() -> Result<Vec<String>> {
    Ok(find(|run| !run.is_alive())?.iter().map(ToString::to_string).collect())
}

/// Lists what this run has made and not yet removed.
///
/// # Errors
/// The machine's own lists cannot be read.
pub fn remaining() -> Result<Vec<String>> {
    Ok(find(|run| run == RunId::current())?.iter().map(ToString::to_string).collect())
}

/// Removes what runs that are over have left behind; touches nothing of a run that is alive.
///
/// # Errors
/// Something cannot be removed, for example because the process is not root.
pub fn sweep() -> Result<()> {
    for leftover in find(|run| !run.is_alive())? {
        leftover.remove().with_context(|| format!("remove {leftover}"))?;
    }
    Ok(())
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Process { pid, command } => write!(f, "process {pid}: {command}"),
            Self::Folder(path) => write!(f, "folder {}", path.display()),
        }
    }
}

impl Leftover {
    fn remove(&self) -> Result<()> {
        match self {
            Self::Namespace(name) => run(program("ip").args(["netns", "delete", name])).map(drop),
            Self::Process { pid, .. } => {
                kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
                until("end of the process", std::time::Duration::from_secs(5), || {
                    Ok((!Path::new("/proc").join(pid.to_string()).exists()).then_some(()))
                })
            }
            Self::Folder(path) => {
                unmount_in(path)?;
                Ok(fs::remove_dir_all(path)?)
            }
        }
    }
}

/// Processes first: they hold on to the namespaces.
fn find(is_meant: impl Fn(RunId) -> bool) -> Result<Vec<Leftover>> {
    let mut found = processes(&is_meant)?;
    found.extend(names_in(Path::new("/run/netns"))?.into_iter().filter_map(|name| {
        let run = run_of(name.strip_prefix(PREFIX)?)?;
        is_meant(run).then_some(Leftover::Namespace(name))
    }));
    for (folder, prefix) in [(PathBuf::from(ETC), PREFIX), (std::env::temp_dir(), FOLDER_PREFIX)] {
        found.extend(names_in(&folder)?.into_iter().filter_map(|name| {
            let run = run_of(name.strip_prefix(prefix)?)?;
            is_meant(run).then(|| Leftover::Folder(folder.join(&name)))
        }));
    }
    Ok(found)
}

/// The run that a name starts with. Names we did not give have none.
fn run_of(name: &str) -> Option<RunId> {
    name.split_once('-').map_or(name, |(id, _)| id).parse().ok()
}

fn processes(is_meant: impl Fn(RunId) -> bool) -> Result<Vec<Leftover>> {
    let marker = format!("{}=", RunId::VARIABLE);
    let mut found = Vec::new();
    for name in names_in(Path::new("/proc"))? {
        let Ok(pid) = name.parse() else { continue };
        let folder = Path::new("/proc").join(&name);
        // Processes of other users, and those that end meanwhile, are none of ours.
        let Ok(environment) = fs::read(folder.join("environ")) else { continue };
        let run = environment.split(|byte| *byte == 0).find_map(|variable| {
            std::str::from_utf8(variable).ok()?.strip_prefix(&marker)?.parse::<RunId>().ok()
        });
        if run.is_some_and(&is_meant) {
            let command = fs::read(folder.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(Leftover::Process { pid, command });
        }
    }
    Ok(found)
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_gave_belong_to_a_run() {
        let current = RunId::current();
        assert_eq!(run_of(&format!("{current}-0-client")), Some(current));
        assert_eq!(run_of(&current.to_string()), Some(current));
        assert_eq!(run_of("somebody-elses"), None);
    }

    #[test]
    fn what_this_run_has_made_is_no_leftover_but_remains() {
        let folder = crate::temporary_folder().unwrap();
        let name = folder.path().display().to_string();
        let lists = |list: Vec<String>| list.iter().any(|entry| entry.contains(&name));
        assert!(!lists(leftovers().unwrap()));
        assert!(lists(remaining().unwrap()));
    }
}
