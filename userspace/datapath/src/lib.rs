//! Loads, attaches, stages and commits the kernel programs.
