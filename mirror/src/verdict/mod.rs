//! From an alert to what is done about it.
//!
//! [`Alert::from_eve`] and [`Alert::from_webhook`] read what sensors say; [`Judge::judge`] applies the policy. Both
//! are pure: the shell reads files and sockets, finds the flow that an alert is about, and acts.

mod alert;
mod eve;
mod judge;
mod limiter;
mod webhook;

pub use alert::{Alert, AlertError, Ends};
pub use judge::{Decision, Judge, Suspect};
