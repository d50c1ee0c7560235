//! Namespaces, topologies and processes for tests and the demo.
