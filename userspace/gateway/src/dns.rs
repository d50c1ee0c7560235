//! Private DNS: answers for the names that this gateway may dial, and for nothing else.

mod answer;
mod forward;
pub mod framing;
mod limit;
mod server;
mod table;
mod upstream;

pub use answer::{Answer, answer};
pub use forward::{Inquiry, NotBelieved, Policy, Question};
pub use server::{DnsError, DnsServer, Knowledge};
pub use table::{Clients, Found, NameTable};
