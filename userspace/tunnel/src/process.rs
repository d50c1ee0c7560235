//! Which program a connection is of.

use std::{fs, path::Path};

use nightgate_abi::tunnel::Origin;
use serde::{Deserialize, Serialize};

/// A program that connects or sends to a service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Process {
    /// Process id, in the tunneler's namespace.
    pub pid: u32,
    /// Name of its thread, up to 15 bytes.
    pub command: String,
    /// Path of its executable; none if it had ended before it could be asked.
    pub executable: Option<String>,
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
    /// Path of its cgroup v2 from the root of the hierarchy; none as for [`Self::executable`].
    pub cgroup: Option<String>,
}

impl Process {
    /// What the kernel's hook told, and what /proc tells of the process if it still runs. Hooks on interfaces know none,
    /// and tell process 0.
    pub fn of(origin: &Origin) -> Self {
        let folder = Path::new("/proc").join(origin.process.to_string());
        let command = origin.command.split(|byte| *byte == 0).next().unwrap_or_default();
        let executable = fs::read_link(folder.join("exe")).ok();
        let groups = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
        Self {
            pid: origin.process,
            command: String::from_utf8_lossy(command).into_owned(),
            executable: executable.map(|path| path.to_string_lossy().into_owned()),
            user: origin.user,
            group: origin.group,
            // The line of the v2 hierarchy (cgroups(7)).
            cgroup: groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_is_known_and_another_only_by_what_the_hook_told() {
        let mut command = [0; 16];
        command[..4].copy_from_slice(b"curl");
        let origin = |process| Origin { process, user: 7, command, ..Origin::default() };

        let own = Process::of(&origin(std::process::id()));
        assert_eq!(own.executable, std::env::current_exe().ok().map(|it| it.display().to_string()));
        assert_eq!((own.command.as_str(), own.user), ("curl", 7));
        assert_eq!(Process::of(&origin(u32::MAX)).executable, None);
    }
}
