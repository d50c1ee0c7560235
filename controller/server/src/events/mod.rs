//! What happened lately, for the file of events and for whoever follows them.

mod file;
mod log;
mod told;

pub use self::file::EventBounds;
pub(crate) use self::{
    file::write_events,
    log::{EventLog, Line, Reader},
    told::{Told, identity_name, occurrence, router_name, service_name},
};
