//! Replication for intrusion detection: which services' packets are copied, and how the copies reach a sensor.
//!
//! [`Plan::new`] turns what the operator wrote and what the host says about the way to each sensor into the
//! values of the kernel's session table. It touches nothing.

mod error;
pub mod flow;
mod health;
mod numbers;
mod plan;
pub mod verdict;

pub use error::PlanError;
pub use health::{Health, Trouble};
pub use numbers::{Numbering, Over};
pub use plan::{Plan, PlannedSensor, PlannedSession, SensorPath};
