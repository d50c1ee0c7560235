//! Configuration text to a checked model.
