//! Packet header parsing, pure and shared by kernel programs and host tests.
