//! The gateway: intercept listeners, private DNS and hosting.

pub mod admin;
pub mod carry;
pub mod dns;
pub mod hosting;
pub mod intercept;
pub mod listener;
pub mod mirror;
pub mod names;
pub mod protection;
pub mod report;
