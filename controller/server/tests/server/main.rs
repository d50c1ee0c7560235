//! The controller over real TLS on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod advisories;
mod auth_policies;
mod authenticators;
mod cas;
mod channel;
mod client_api;
mod common;
mod configs;
mod control;
mod directory;
mod enroll;
mod enrollments;
mod events;
mod legacy;
mod limits;
mod maintenance;
mod management;
mod metrics;
mod mfa;
mod native;
mod network;
mod openapi;
mod password;
mod quarantine;
mod renewal;
mod schema;
mod tags;
mod terminators;
mod update;
mod usage;
