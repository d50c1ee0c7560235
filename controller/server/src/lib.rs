//! REST for clients and operators, and the routers' control channel, on one TLS port.
//!
//! [`init`] prepares a directory, [`Controller::start`] serves it. The whole model is held in memory;
//! every change goes to the store first. Routers are pushed the part they need, so that no dial has
//! to ask the controller.

mod address;
mod attempts;
mod clock;
mod control;
mod controller;
mod core;
mod events;
mod limit;
mod listener;
mod maintenance;
mod metrics;
mod mfa;
mod password;
mod paths;
mod rest;
mod settings;
mod setup;
mod tls;
mod trust;

pub use address::{Address, AddressError};
pub use controller::{Controller, StartError};
pub use events::EventBounds;
pub use maintenance::{BackedUp, Finding, MaintenanceError, Restored, backup, check, restore};
pub use nightgate_store::AuditBounds;
pub use settings::{Settings, SettingsError};
pub use setup::{InitError, Initialized, certificates, init, roll_over, roll_over_root};
pub use tls::TlsError;
