//! Address translation: rewritten bytes with all their checksums, both ways.

mod changes;
mod destination;
mod errors;
mod source;
mod support;
