//! The compiler and linker of the kernel programs.
//!
//! `bpfel-unknown-none` is built with the library source of exactly the compiler that builds it, and linked by a
//! bpf-linker whose LLVM is no older than the compiler's. Two sets are known to work: a rustup toolchain
//! with `rust-src` and any bpf-linker; or, where nothing can be had from rustup, Debian's `rustc-web` set
//! with a bpf-linker built against Debian's LLVM 22.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    packages::has_apt,
    plan::{Build, Plan},
};
use crate::workspace::{Workspace, find_program, forget_calling_cargo, path_with};

/// First compiler that aya-ebpf accepts.
const OLDEST_RUST: (u32, u32) = (1, 87);
/// LLVM that the linker in the cache folder is built against.
const LINKER_LLVM: u32 = 22;
/// The compiler set of Debian, and the libraries that bpf-linker is built with.
const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_LINKER_LIBRARIES: [&str; 5] =
    ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "libxml2-dev"];

/// A compiler and a linker that fit together.
#[derive(Debug)]
pub(crate) struct KernelToolchain {
    compiler: Compiler,
    linker: Linker,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Compiler {
    /// Folder of `rustc` and `cargo`.
    bin: PathBuf,
    version: CompilerVersion,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct CompilerVersion {
    rust: (u32, u32),
    llvm: u32,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Linker {
    path: PathBuf,
    /// Newest LLVM whose output it reads; unknown for one that we did not build.
    llvm: Option<u32>,
}

impl KernelToolchain {
    /// Finds the compiler and the linker on this machine.
    ///
    /// # Errors
    /// One of them is missing: `cargo xtask setup` brings it.
    pub(crate) fn find(workspace: &Workspace) -> Result<Self> {
        let linker = find_linker(workspace).context("no bpf-linker: run `cargo xtask setup`")?;
        let compiler = find_compiler(linker.llvm)
            .context("no compiler for bpfel-unknown-none: run `cargo xtask setup`")?;
        Ok(Self { compiler, linker })
    }

    /// `cargo build` of this toolchain for the workspace of the kernel programs.
    pub(crate) fn build(&self, workspace: &Workspace) -> Result<Command> {
        self.command(workspace, "cargo", "build")
    }

    /// `cargo clippy` of this toolchain for the workspace of the kernel programs.
    pub(crate) fn clippy(&self, workspace: &Workspace) -> Result<Command> {
        // Not through cargo: that would prefer the clippy of rustup's folder to its own.
        self.command(workspace, "cargo-clippy", "clippy")
    }

    fn command(&self, workspace: &Workspace, program: &str, subcommand: &str) -> Result<Command> {
        let linker_folder = self.linker.path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let path = path_with([linker_folder, self.compiler.bin.clone()])?;
        let mut command = Command::new(self.compiler.bin.join(program));
        command.arg(subcommand).current_dir(workspace.root().join("ebpf/programs"));
        command.args(["-Z", "build-std=core", "--target", "bpfel-unknown-none"]);
        forget_calling_cargo(&mut command);
        for variable in ["RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(variable);
        }
        command.env("PATH", path).env("RUSTC_BOOTSTRAP", "1");
        command.env("CARGO", self.compiler.bin.join("cargo"));
        command.env("CARGO_TARGET_DIR", workspace.kernel_target());
        Ok(command)
    }

    /// Whether clippy for this compiler is there.
    pub(crate) fn has_clippy(&self) -> bool {
        self.compiler.bin.join("clippy-driver").exists()
            && self.compiler.bin.join("cargo-clippy").exists()
    }
}

/// Adds what is missing to build the kernel programs.
pub(crate) fn plan(workspace: &Workspace, plan: &mut Plan) -> Result<()> {
    let linker = find_linker(workspace);
    let llvm = linker.as_ref().map_or(Some(LINKER_LLVM), |linker| linker.llvm);
    let compiler = find_compiler(llvm);
    if (linker.is_none() || compiler.is_none()) && !debian_has_the_compiler()? {
        plan.add_manual("the kernel toolchain", ELSEWHERE);
        return Ok(());
    }
    if compiler.is_none() {
        plan.add_missing("a compiler for bpfel-unknown-none");
        plan.add_packages(&DEBIAN_COMPILER);
    }
    if linker.is_none() {
        let absent = DEBIAN_LINKER_LIBRARIES.iter().filter(|package| !is_installed(package));
        plan.add_packages(&absent.copied().collect::<Vec<_>>());
        plan.add_build(linker_build(workspace));
    }
    Ok(())
}

/// Adds clippy for the compiler of the kernel programs, if it is missing.
pub(crate) fn plan_clippy(workspace: &Workspace, plan: &mut Plan) -> Result<()> {
    const CLIPPY: &str = "clippy for the kernel programs";
    let Ok(toolchain) = KernelToolchain::find(workspace) else {
        // The compiler itself is in the plan, or the user is told how to bring it, with its clippy.
        if debian_has_the_compiler()? && !is_installed("rust-web-clippy") {
            plan.add_package(CLIPPY, "rust-web-clippy");
        }
        return Ok(());
    };
    if toolchain.has_clippy() {
        return Ok(());
    }
    if toolchain.compiler.bin == Path::new("/usr/bin") && has_apt() {
        plan.add_package(CLIPPY, "rust-web-clippy");
    } else {
        plan.add_manual(
            CLIPPY,
            format!(
                "add clippy to the toolchain in {}: rustup component add clippy --toolchain NAME",
                toolchain.compiler.bin.display()
            ),
        );
    }
    Ok(())
}

const ELSEWHERE: &str = "rustup toolchain install nightly --profile minimal \
     --component rust-src --component clippy && cargo install cargo-binstall && cargo binstall bpf-linker";

fn linker_build(workspace: &Workspace) -> Build {
    Build {
        name: "bpf-linker",
        version: "0.13.0",
        arguments: vec!["--no-default-features", "--features", "llvm-22"],
        // The linking step finds libLLVM through the first, the LLVM bindings through the second.
        env: BTreeMap::from([
            ("LLVM_PREFIX", "/usr/lib/llvm-22"),
            ("LLVM_SYS_221_PREFIX", "/usr/lib/llvm-22"),
        ]),
        root: workspace.cache().join("bpf-linker"),
    }
}

fn find_linker(workspace: &Workspace) -> Option<Linker> {
    let ours = workspace.cache().join("bpf-linker/bin/bpf-linker");
    if ours.is_file() {
        return Some(Linker { path: ours, llvm: Some(LINKER_LLVM) });
    }
    find_program("bpf-linker").map(|path| Linker { path, llvm: None })
}

/// The first compiler with its library source whose output a linker of this LLVM reads.
fn find_compiler(newest_llvm: Option<u32>) -> Option<Compiler> {
    toolchain_folders()
        .into_iter()
        .filter(|folder| folder.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file())
        .filter_map(|folder| {
            let bin = folder.join("bin");
            let output = Command::new(bin.join("rustc"))
                .arg("-vV")
                .env_remove("LD_LIBRARY_PATH")
                .output()
                .ok()?;
            let version = CompilerVersion::parse(&String::from_utf8_lossy(&output.stdout))?;
            bin.join("cargo").is_file().then_some(Compiler { bin, version })
        })
        .filter(|compiler| compiler.version.rust >= OLDEST_RUST)
        .find(|compiler| newest_llvm.is_none_or(|newest| compiler.version.llvm <= newest))
}

/// Folders that hold a Rust toolchain: the system's, then rustup's in the order of their names.
fn toolchain_folders() -> Vec<PathBuf> {
    let rustup = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")))
        .map(|home| home.join("toolchains"));
    let mut found: Vec<PathBuf> = rustup
        .and_then(|folder| fs::read_dir(folder).ok())
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    found.sort();
    found.insert(0, PathBuf::from("/usr"));
    found
}

impl CompilerVersion {
    /// Reads the answer of `rustc -vV`.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).map(|value| {
                let mut numbers = value.trim().split('.').map_while(|part| part.parse().ok());
                (numbers.next(), numbers.next())
            })
        };
        let (major, minor) = field("release:")?;
        let (llvm, _) = field("LLVM version:")?;
        Some(Self { rust: (major?, minor?), llvm: llvm? })
    }
}

/// Whether this machine's package lists, refreshed by the plan if need be, have Debian's compiler set.
fn debian_has_the_compiler() -> Result<bool> {
    if !has_apt() {
        return Ok(false);
    }
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    Ok(release.lines().any(|line| line == "ID=debian"))
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${Status}", package])
        .output()
        .is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_versions_are_read_from_rustc() {
        let text = "rustc 1.96.0 (hash) (built from a source tarball)\nbinary: rustc\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(CompilerVersion::parse(text), Some(CompilerVersion { rust: (1, 96), llvm: 22 }));
        let nightly = "release: 1.99.0-nightly\nLLVM version: 23.1.0\n";
        assert_eq!(
            CompilerVersion::parse(nightly),
            Some(CompilerVersion { rust: (1, 99), llvm: 23 })
        );
        assert_eq!(CompilerVersion::parse("release: 1.96.0\n"), None);
    }
}
