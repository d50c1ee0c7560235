//! The systemd units, and what the programs that they start write.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A unit of deploy/systemd, as its lines.
struct Unit(String);

impl Unit {
    /// All values of a key, one after the other.
    fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let lines =
            self.0.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='));
        lines.flat_map(str::split_whitespace)
    }

    /// The argument of a flag of the command.
    fn argument(&self, flag: &str) -> Option<&Path> {
        self.values("ExecStart").skip_while(|word| *word != flag).nth(1).map(Path::new)
    }

    /// Whether the command may write there.
    fn may_write(&self, path: &Path) -> bool {
        let state = self.values("StateDirectory").map(|name| Path::new("/var/lib").join(name));
        let others =
            self.values("ReadWritePaths").map(|it| PathBuf::from(it.trim_start_matches('-')));
        let is_strict = self.values("ProtectSystem").any(|it| it == "strict");
        !is_strict || state.chain(others).any(|folder| path.starts_with(folder))
    }
}

/// The identity's file is replaced when its certificate is renewed, through a neighbour in the same folder.
#[test]
fn whoever_runs_an_identity_may_renew_it() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let mut looked_at = 0;
    for entry in fs::read_dir(deploy.join("systemd")).unwrap() {
        let path = entry.unwrap().path();
        let unit = Unit(fs::read_to_string(&path).unwrap());
        if !unit.values("ExecStart").any(|word| word == "run") {
            continue;
        }
        let identity = match (unit.argument("--identity"), unit.argument("--config")) {
            (Some(identity), _) => identity.to_owned(),
            (None, Some(config)) => {
                let example = deploy.join("examples").join(config.file_name().unwrap());
                let text = fs::read_to_string(example).unwrap();
                let parsed = nightgate_config::parse(&text, "example").unwrap();
                config.parent().unwrap().join(parsed.router.identity)
            }
            (None, None) => panic!("{}: what does it run?", path.display()),
        };
        assert!(unit.may_write(&identity), "{}: {}", path.display(), identity.display());
        looked_at += 1;
    }
    assert_eq!(looked_at, 2, "gateway and tunneler");
}
