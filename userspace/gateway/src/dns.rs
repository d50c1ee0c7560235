//! Private DNS: answers for the names that this gateway may dial, and for nothing else.

mod answer;
mod server;

pub use answer::{Answer, NameTable, answer};
pub use server::{DnsError, DnsServer};
