//! The gateway: intercept listeners, private DNS and hosting.
