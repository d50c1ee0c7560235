//! Circuits, links, routes and flow control as state machines without I/O.
