//! Interfaces, addresses, routes and offloads of the host.
