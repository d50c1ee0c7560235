//! Controller, routers and applications as processes of their own, and what operators see of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod lost;
mod mfa;
mod observe;
mod offline;
mod overlay;
mod trace;
