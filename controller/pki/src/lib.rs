//! The controller's certificate authority, enrollment tokens and session tokens.
