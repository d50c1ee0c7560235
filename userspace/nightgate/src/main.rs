//! The nightgate command.
fn main() {}
