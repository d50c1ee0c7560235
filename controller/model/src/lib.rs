//! Entities, API types and control messages of the overlay.
//!
//! Pure: no clock, no I/O, no cryptography. The controller writes these types, routers, gateways and
//! the SDK read them; it is, with `wire`, the only crate both sides share.

pub mod action;
pub mod activity;
pub mod api;
pub mod auth;
pub mod authorization;
pub mod ca;
pub mod configs;
pub mod control;
pub mod entity;
pub mod event;
pub mod filter;
pub mod id;
pub mod kind;
pub mod network;
pub mod quarantine;
pub mod replica;
pub mod spec;
pub mod terminator;
pub mod token;
