//! Which programs may use which services: `tunnel.yaml`.
//!
//! ```yaml
//! only:
//!   - services: [db]
//!     executables: [/usr/bin/psql]
//!     users: [1000]
//!   - services: [db]
//!     cgroups: [/system.slice/web.service]
//! ```
//! A service that no entry names is for every program. One that is named is for programs that fit one of its entries,
//! in all that the entry says.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::process::Process;

/// What programs may use.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Entries; without any, every program may use every service.
    #[serde(default)]
    only: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
struct Entry {
    services: Vec<String>,
    executables: Option<Vec<String>>,
    users: Option<Vec<u32>>,
    cgroups: Option<Vec<String>>,
}

/// A `tunnel.yaml` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// It is not of the form.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        source: Box<serde_saphyr::Error>,
    },
    /// An entry says nothing of programs.
    #[error(
        "{}: only: entry {entry} names no executables, users or cgroups, expected at least one of them",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        entry: usize,
    },
}

impl Policy {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read or is not of the form.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let text = fs::read_to_string(path)
            .map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
        let policy: Self = serde_saphyr::from_str(&text).map_err(|source| {
            let (path, source) = (path.to_owned(), Box::new(source));
            PolicyError::Parse { path, source }
        })?;
        let empty = |entry: &Entry| {
            entry.executables.is_none() && entry.users.is_none() && entry.cgroups.is_none()
        };
        match policy.only.iter().position(empty) {
            Some(index) => Err(PolicyError::Empty { path: path.to_owned(), entry: index + 1 }),
            None => Ok(policy),
        }
    }

    /// Whether every program may use every service.
    pub fn is_empty(&self) -> bool {
        self.only.is_empty()
    }

    /// Whether a program may use the service of this name. What is not known of the program fits nothing.
    pub fn allows(&self, service: &str, process: &Process) -> bool {
        let mut entries = self
            .only
            .iter()
            .filter(|entry| entry.services.iter().any(|name| name == service))
            .peekable();
        entries.peek().is_none() || entries.any(|entry| entry.fits(process))
    }
}

impl Entry {
    fn fits(&self, process: &Process) -> bool {
        let among = |wanted: &Option<Vec<String>>, found: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| {
                found.as_ref().is_some_and(|found| wanted.iter().any(|it| it == found))
            })
        };
        among(&self.executables, &process.executable)
            && self.users.as_ref().is_none_or(|users| users.contains(&process.user))
            // A cgroup stands for those below it.
            && self.cgroups.as_ref().is_none_or(|wanted| {
                process.cgroup.as_ref().is_some_and(|found| {
                    wanted.iter().any(|it| Path::new(found).starts_with(it))
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psql(user: u32) -> Process {
        Process {
            pid: 1,
            command: "psql".into(),
            executable: Some("/usr/bin/psql".into()),
            user,
            group: 0,
            cgroup: Some("/user.slice/one".into()),
        }
    }

    #[test]
    fn a_named_service_is_for_programs_that_fit_an_entry() {
        let policy: Policy = serde_saphyr::from_str(
            "only:\n\
             - { services: [db], executables: [/usr/bin/psql], users: [1000] }\n\
             - { services: [db, web], cgroups: [/system.slice] }\n",
        )
        .unwrap();
        assert!(policy.allows("db", &psql(1000)));
        assert!(!policy.allows("db", &psql(1001)));
        assert!(!policy.allows("web", &psql(1000)));
        assert!(policy.allows("other", &psql(1001)));
        let unit = Some("/system.slice/web.service".to_owned());
        assert!(policy.allows("web", &Process { cgroup: unit, ..psql(1) }));
        let alike = Some("/system.slices".to_owned());
        assert!(!policy.allows("web", &Process { cgroup: alike, ..psql(1) }));
        assert!(!policy.allows("db", &Process { executable: None, cgroup: None, ..psql(1000) }));
    }

    #[test]
    fn mistakes_are_named() {
        let folder = std::env::temp_dir().join(format!("nightgate-policy-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tunnel.yaml");
        for (text, expected) in [
            ("only: [{ services: [db] }]", "entry 1 names no executables"),
            ("only: [{ services: [db], user: [1] }]", "user"),
            ("onyl: []", "onyl"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Policy::load(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("tunnel.yaml"), "{error}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
