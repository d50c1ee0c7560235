//! The project's tasks: set up, build, demo, test, check, bench, fuzz.
fn main() {}
