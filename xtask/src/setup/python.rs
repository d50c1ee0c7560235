//! The client of others that tests put to work: OpenZiti's of 2022, from PyPI.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    packages::{self, Group},
    plan::Plan,
};
use crate::workspace::Workspace;

/// What `requirements.txt` pins, as pip names it on disk.
const INSTALLED: &str = "openziti-0.6.0.dist-info";

/// A folder of Python packages.
#[derive(Debug)]
pub(crate) struct Environment {
    /// What it is called in reports.
    pub(crate) name: &'static str,
    /// The folder.
    pub(crate) root: PathBuf,
    /// Packages with their versions and digests.
    pub(crate) requirements: PathBuf,
}

impl Environment {
    /// What makes it, one after the other; what an interrupted run left is replaced.
    pub(crate) fn commands(&self) -> [Command; 2] {
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&self.root);
        let mut install = Command::new(self.root.join("bin/pip"));
        install.args(["install", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r"]);
        install.arg(&self.requirements);
        [make, install]
    }
}

/// Adds the client if it is not there.
pub(crate) fn plan(workspace: &Workspace, plan: &mut Plan) {
    packages::plan(plan, Group::Python);
    let root = workspace.openziti_client();
    if !is_installed(&root) {
        let requirements = workspace.root().join("sdk/rust/tests/overlay/requirements.txt");
        plan.add_environment(Environment { name: "openziti client", root, requirements });
    }
}

fn is_installed(root: &Path) -> bool {
    let versions = fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
    versions
        .map(|version| version.path())
        .any(|version| version.join("site-packages").join(INSTALLED).join("RECORD").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_what_is_pinned() {
        let pinned = include_str!("../../../sdk/rust/tests/overlay/requirements.txt");
        let (name, version) =
            INSTALLED.strip_suffix(".dist-info").unwrap().split_once('-').unwrap();
        assert!(pinned.contains(&format!("{name}=={version} --hash=sha256:")), "{pinned}");
    }

    #[test]
    fn an_environment_is_installed_when_pip_has_written_its_record() {
        let root = tempfile::tempdir().unwrap();
        let package = root.path().join("lib/python3.11/site-packages").join(INSTALLED);
        fs::create_dir_all(&package).unwrap();
        assert!(!is_installed(root.path()));
        fs::write(package.join("RECORD"), "").unwrap();
        assert!(is_installed(root.path()));
    }
}
