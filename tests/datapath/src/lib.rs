//! Packets in, packets out: the real kernel programs against tables and the reference classifier.
