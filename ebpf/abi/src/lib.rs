//! What kernel programs and userspace share: keys, values, map names, limits, reasons.
