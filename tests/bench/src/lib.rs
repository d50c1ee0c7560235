//! Benchmark suites.
