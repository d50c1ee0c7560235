//! End-to-end encryption of circuits on libsodium.
