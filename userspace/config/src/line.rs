//! Lines of files.

use std::fmt;

/// The line that something stands on in its file, counted from 1. It is no part of what that says: any two
/// lines are equal, so that a rule that only moves down its file is the same rule.
#[derive(Clone, Copy, Debug)]
pub struct Line(u32);

impl Line {
    pub(crate) fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl PartialEq for Line {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Line {}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
