//! The gateway: intercept listeners, private DNS and hosting.

pub mod dns;
pub mod intercept;
pub mod names;
