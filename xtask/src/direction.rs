//! Who may depend on whom, and which crates stay pure.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{sources, workspace::Workspace};

/// What each package of ours may depend on, without the prefix `nightgate-`. Absent means no.
///
/// `controller/` and `userspace/` meet in `model`, `wire` and the pure `fabric` alone; the binary is where everything
/// meets.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    // ebpf/
    ("abi", &[]),
    ("packet", &["abi"]),
    ("ebpf", &["abi", "packet"]),
    // userspace/
    ("config", &[]),
    ("ruleset", &["config", "packet", "abi"]),
    ("wire", &[]),
    ("fabric", &["wire", "model"]),
    ("e2ee", &["identity"]),
    ("passphrase", &[]),
    ("identity", &["passphrase"]),
    ("datapath", &["ruleset", "abi"]),
    ("netlink", &[]),
    ("tls", &[]),
    ("telemetry", &[]),
    ("export", &["config", "telemetry"]),
    ("router", &["wire", "fabric", "e2ee", "identity", "model", "netlink", "telemetry", "tls"]),
    (
        "gateway",
        &[
            "router",
            "fabric",
            "datapath",
            "netlink",
            "mirror",
            "config",
            "ruleset",
            "e2ee",
            "model",
            "abi",
            "packet",
            "telemetry",
            "export",
        ],
    ),
    (
        "tunnel",
        &[
            "sdk",
            "gateway",
            "datapath",
            "netlink",
            "mirror",
            "config",
            "export",
            "model",
            "abi",
            "telemetry",
        ],
    ),
    // controller/
    ("model", &[]),
    ("policy", &["model"]),
    ("pki", &["model", "passphrase"]),
    ("store", &["model"]),
    ("server", &["policy", "store", "pki", "model", "wire", "fabric", "telemetry"]),
    // sdk/ and mirror/
    ("sdk", &["wire", "e2ee", "identity", "model"]),
    ("mirror", &["config", "packet", "abi"]),
    // The composition root.
    (
        "nightgate",
        &[
            "router",
            "gateway",
            "tunnel",
            "server",
            "config",
            "ruleset",
            "datapath",
            "model",
            "telemetry",
            "sdk",
            "pki",
            "identity",
            "identity",
        ],
    ),
    // Tests and tasks may look at everything they test.
    ("lab", &[]),
    ("datapath-tests", &["lab", "datapath", "ruleset", "config", "packet", "abi"]),
    ("e2e-tests", &["lab", "netlink", "sdk"]),
    ("fuzz", &["wire", "packet", "config", "model", "pki", "e2ee", "identity", "mirror", "sdk"]),
    (
        "bench",
        &[
            "lab", "datapath", "ruleset", "config", "packet", "abi", "e2ee", "identity", "sdk",
            "router", "server", "netlink", "gateway",
        ],
    ),
    (
        "instructions",
        &[
            "lab", "wire", "fabric", "model", "e2ee", "identity", "config", "ruleset", "packet",
            "abi",
        ],
    ),
    ("xtask", &["lab"]),
];

/// Libraries that one package wraps, so that the others never see them.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("aya", &["datapath", "datapath-tests", "abi", "bench"]),
    ("rtnetlink", &["netlink"]),
    ("libsodium-rs", &["e2ee"]),
    ("rusqlite", &["store"]),
];

/// Packages without clock, randomness and I/O, and where their sources are.
const PURE: &[(&str, &str)] = &[
    ("abi", "ebpf/abi"),
    ("packet", "ebpf/packet"),
    ("config", "userspace/config"),
    ("ruleset", "userspace/ruleset"),
    ("wire", "userspace/wire"),
    ("fabric", "userspace/fabric"),
    ("model", "controller/model"),
    ("policy", "controller/policy"),
];

/// What a pure package must not depend on.
const IMPURE_LIBRARIES: &[&str] =
    &["tokio", "aya", "rustls", "rtnetlink", "rand", "getrandom", "uuid", "reqwest", "axum"];
/// What the sources of a pure package must not say outside of tests.
const IMPURE_WORDS: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "tokio::",
    "rustls::",
    "rtnetlink::",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
];

/// `abi` names aya for one trait, behind the feature `user`.
const PURITY_EXCEPTIONS: &[(&str, &str)] = &[("abi", "aya")];

/// Compares the dependencies of every package, and the words in pure sources, with the tables above.
///
/// # Errors
/// Cargo cannot describe the workspace.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut packages = describe(&mut workspace.cargo(METADATA))?;
    let mut kernel = workspace.cargo(METADATA);
    packages.extend(describe(kernel.current_dir(workspace.root().join("ebpf/programs")))?);
    let mut problems = undeclared_dependencies(&packages);
    problems.extend(wrapped_libraries(&packages));
    problems.extend(impure_dependencies(&packages));
    for (name, folder) in PURE {
        for file in sources::rust_files(&workspace.root().join(folder).join("src"))? {
            problems.extend(impure_words(file.without_tests()).map(|word| {
                format!("{folder}/src/{}: {name} is pure but says {word}", file.path.display())
            }));
        }
    }
    Ok(problems)
}

const METADATA: [&str; 4] = ["metadata", "--no-deps", "--format-version", "1"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Nothing for an ordinary dependency, else `dev` or `build`.
    kind: Option<String>,
    /// Where it is, if it is one of ours.
    path: Option<String>,
}

impl Package {
    fn short_name(&self) -> &str {
        short(&self.name)
    }

    /// What the product itself is built with; tests may use anything.
    fn dependencies(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"))
    }
}

fn describe(command: &mut Command) -> Result<Vec<Package>> {
    let text = nightgate_lab::run(command)?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("read the answer of cargo metadata")?;
    Ok(metadata.packages)
}

fn undeclared_dependencies(packages: &[Package]) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.iter().copied().collect();
    let mut problems = Vec::new();
    for package in packages {
        let name = package.short_name();
        let Some(allowed) = table.get(name) else {
            problems.push(format!("{name}: not in the table of xtask/src/direction.rs; add it"));
            continue;
        };
        for dependency in package.dependencies().filter(|dependency| dependency.path.is_some()) {
            let other = short(&dependency.name);
            if !allowed.contains(&other) {
                problems.push(format!("{name} -> {other}: {name} may depend on {allowed:?}"));
            }
        }
    }
    problems
}

fn wrapped_libraries(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for (library, allowed) in ONLY_IN {
        for package in packages {
            let name = package.short_name();
            let uses = package.dependencies().any(|dependency| dependency.name == *library);
            if uses && !allowed.contains(&name) {
                problems.push(format!("{name} -> {library}: {library} is for {allowed:?} alone"));
            }
        }
    }
    problems
}

fn impure_dependencies(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let name = package.short_name();
        if !PURE.iter().any(|(pure, _)| *pure == name) {
            continue;
        }
        for dependency in package.dependencies() {
            let library = dependency.name.as_str();
            let excepted = PURITY_EXCEPTIONS.contains(&(name, library));
            if IMPURE_LIBRARIES.contains(&library) && !excepted {
                problems.push(format!("{name} -> {library}: {name} is pure"));
            }
        }
    }
    problems
}

/// Words in code; comments may say them.
fn impure_words(text: &str) -> impl Iterator<Item = &'static str> {
    IMPURE_WORDS.iter().copied().filter(move |word| {
        text.lines().any(|line| line.split("//").next().unwrap_or_default().contains(word))
    })
}

fn short(name: &str) -> &str {
    name.strip_prefix("nightgate-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Package {
        let dependency = |(name, kind, ours): &(&str, Option<&str>, bool)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
            path: ours.then(|| "/somewhere".to_owned()),
        };
        Package {
            name: name.to_owned(),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn a_dependency_against_the_direction_is_named() {
        let wrong = [package("nightgate-wire", &[("nightgate-router", None, true)])];
        assert_eq!(undeclared_dependencies(&wrong), ["wire -> router: wire may depend on []"]);

        let right = [package("nightgate-router", &[("nightgate-wire", None, true)])];
        assert!(undeclared_dependencies(&right).is_empty());
    }

    #[test]
    fn tests_may_depend_on_anything() {
        let tests = [package("nightgate-wire", &[("nightgate-router", Some("dev"), true)])];
        assert!(undeclared_dependencies(&tests).is_empty());
    }

    #[test]
    fn an_unknown_package_has_to_be_placed() {
        assert_eq!(undeclared_dependencies(&[package("nightgate-new", &[])]).len(), 1);
    }

    #[test]
    fn a_wrapped_library_stays_in_its_package() {
        let packages = [
            package("nightgate-netlink", &[("rtnetlink", None, false)]),
            package("nightgate-gateway", &[("rtnetlink", None, false)]),
        ];
        assert_eq!(wrapped_libraries(&packages).len(), 1);
    }

    #[test]
    fn a_pure_package_has_no_clock() {
        assert!(
            impure_dependencies(&[package("nightgate-fabric", &[("tokio", None, false)])]).len()
                == 1
        );
        assert!(
            impure_dependencies(&[package("nightgate-abi", &[("aya", None, false)])]).is_empty()
        );
        assert_eq!(impure_words("let t = Instant::now();").collect::<Vec<_>>(), ["Instant::now"]);
        assert_eq!(impure_words("// not Instant::now()").count(), 0);
    }

    #[test]
    fn the_table_has_no_circle() {
        let table: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.iter().copied().collect();
        let mut done: Vec<&str> = Vec::new();
        while done.len() < table.len() {
            let ready: Vec<&str> = table
                .iter()
                .filter(|(name, allowed)| {
                    !done.contains(name) && allowed.iter().all(|other| done.contains(other))
                })
                .map(|(name, _)| *name)
                .collect();
            assert!(!ready.is_empty(), "a circle among what is left after {done:?}");
            done.extend(ready);
        }
    }
}
