//! Embeds the kernel objects that `cargo xtask build` leaves in `target/ebpf/`, or empty stubs, so that
//! checking and linting work on a machine without the kernel toolchain. Loading a stub is an error.

use std::{env, error::Error, fs, path::PathBuf};

use sha2::{Digest as _, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../target/ebpf");
    // The folder has to be there to be watched for the object.
    fs::create_dir_all(&folder)?;
    for name in ["nightgate-ebpf", "nightgate-tunnel-ebpf"] {
        let path = folder.join(name);
        let watched = if path.exists() { &path } else { &folder };
        println!("cargo::rerun-if-changed={}", watched.display());
        let object = fs::read(&path).unwrap_or_default();
        if name == "nightgate-ebpf" {
            let digest: String =
                Sha256::digest(&object)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            println!("cargo::rustc-env=NIGHTGATE_EBPF_DIGEST={digest}");
        }
        fs::write(PathBuf::from(env::var("OUT_DIR")?).join(name), object)?;
    }
    Ok(())
}
