//! Feeds the target named in `NIGHTGATE_FUZZ_TARGET` to libFuzzer.

#![no_main]

use std::sync::LazyLock;

use nightgate_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("NIGHTGATE_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("NIGHTGATE_FUZZ_TARGET={name:?}: no such target"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
