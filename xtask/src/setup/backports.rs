//! Packages that Debian has only in the backports of this release.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::plan::Plan;
use crate::workspace::find_program;

/// Where the source of backports is added to the machine's own; apt takes nothing from it that is not asked
/// for by name (Debian marks backports `NotAutomatic`).
const FILE: &str = "/etc/apt/sources.list.d/nightgate-backports.sources";

/// The backports of this machine's release, from the mirror that it uses for the release itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Backports {
    uri: String,
    release: String,
    signed_by: Option<String>,
}

/// Adds the intrusion detection system that looks at mirrored traffic.
pub(crate) fn plan(plan: &mut Plan) {
    if find_program("suricata").is_some() {
        return;
    }
    match Backports::of_machine() {
        Ok(backports) => plan.add_backport("suricata", "suricata", backports),
        Err(error) => plan.add_manual(
            "suricata",
            format!("suricata: Debian's package of that name, from backports ({error:#})"),
        ),
    }
}

impl Backports {
    fn of_machine() -> Result<Self> {
        let text = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
        let release = text
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .context("/etc/os-release names no VERSION_CODENAME, expected a release of Debian")?;
        let texts = source_files().into_iter().filter_map(|path| fs::read_to_string(path).ok());
        Self::from_sources(release.trim_matches('"'), texts)
            .with_context(|| format!("no source of apt has the suite {release}"))
    }

    /// Finds the source that the release itself comes from, in either of apt's formats (sources.list(5)).
    fn from_sources(release: &str, texts: impl IntoIterator<Item = String>) -> Option<Self> {
        let of_text = |text: String| {
            let stanzas = text.split("\n\n").filter_map(|stanza| of_stanza(release, stanza)).next();
            stanzas.or_else(|| text.lines().find_map(|line| of_line(release, line)))
        };
        texts.into_iter().find_map(of_text)
    }

    /// Adds the source to the machine's.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        fs::write(FILE, self.text()).with_context(|| FILE.to_owned())
    }

    fn text(&self) -> String {
        let signed = self.signed_by.as_ref().map(|key| format!("Signed-By: {key}\n"));
        let Self { uri, release, .. } = self;
        let signed = signed.unwrap_or_default();
        format!("Types: deb\nURIs: {uri}\nSuites: {release}-backports\nComponents: main\n{signed}")
    }

    /// As a line for a shell.
    pub(crate) fn line(&self) -> String {
        let lines = self.text().trim_end().replace('\n', "\\n");
        format!("printf '{lines}\\n' | sudo tee {FILE}")
    }

    /// Installs packages from backports.
    pub(crate) fn install(&self, packages: impl IntoIterator<Item = &'static str>) -> Command {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["install", "-y", "--no-install-recommends", "-t"]);
        command.arg(format!("{}-backports", self.release)).args(packages);
        command
    }
}

fn source_files() -> Vec<PathBuf> {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, "/etc/apt/sources.list".into());
    files
}

/// `deb [options] URI SUITE COMPONENT...`
fn of_line(release: &str, line: &str) -> Option<Backports> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options.split_whitespace().find_map(|word| word.strip_prefix("signed-by="));
    (suite == release && words.any(|word| word == "main"))
        .then(|| Backports::new(uri, release, signed_by))
}

/// A stanza of deb822-style fields.
fn of_stanza(release: &str, stanza: &str) -> Option<Backports> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let has =
        |name, word| field(name).is_some_and(|list| list.split_whitespace().any(|w| w == word));
    let uri = field("URIs")?.split_whitespace().next()?;
    (has("Types", "deb") && has("Suites", release) && has("Components", "main"))
        .then(|| Backports::new(uri, release, field("Signed-By")))
}

impl Backports {
    fn new(uri: &str, release: &str, signed_by: Option<&str>) -> Self {
        let signed_by = signed_by.map(Into::into);
        Self { uri: uri.into(), release: release.into(), signed_by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "Types: deb\n# a comment\nURIs: http://deb.example/debian\n\
        Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /key.gpg\n\n\
        Types: deb\nURIs: http://deb.example/security\nSuites: bookworm-security\nComponents: main\n";

    #[test]
    fn the_mirror_of_the_release_is_found_in_both_formats() {
        let line = "# deb http://no/debian bookworm main\n\
            deb [arch=amd64 signed-by=/key.gpg] http://deb.example/debian bookworm main contrib\n";
        let expected = Backports::new("http://deb.example/debian", "bookworm", Some("/key.gpg"));
        for text in [STANZAS, line] {
            let found = Backports::from_sources("bookworm", [String::new(), text.into()]);
            assert_eq!(found.as_ref(), Some(&expected), "{text}");
        }
        let other = "deb http://deb.example/debian bookworm-backports main\n";
        assert_eq!(Backports::from_sources("bookworm", [other.into()]), None);
    }

    #[test]
    fn only_what_is_asked_for_comes_from_backports() {
        let backports = Backports::from_sources("bookworm", [STANZAS.into()]).unwrap();
        assert_eq!(
            backports.text(),
            "Types: deb\nURIs: http://deb.example/debian\nSuites: bookworm-backports\n\
             Components: main\nSigned-By: /key.gpg\n"
        );
        let install = backports.install(["suricata"]);
        let words: Vec<_> = install.get_args().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words[3..], ["-t", "bookworm-backports", "suricata"]);
    }
}
