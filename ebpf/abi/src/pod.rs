//! Which types may be read from and written to maps.
#![expect(
    unsafe_code,
    reason = "aya::Pod is an unsafe trait; this is the only place it is implemented"
)]

macro_rules! pod {
    ($($name:ty),+ $(,)?) => {$(
        // SAFETY: repr(C) or repr(transparent), integers only, all padding is a field of its own (the size
        // assertion beside each definition), so every byte is initialised and every bit pattern is valid.
        unsafe impl aya::Pod for $name {}
    )+};
}

pod!(
    crate::Active,
    crate::Address,
    crate::Counter,
    crate::Flow,
    crate::FlowKey,
    crate::Intercept,
    crate::InterceptKey,
    crate::Interface,
    crate::Listener,
    crate::RuleEntry,
    crate::Slot,
    crate::ZoneId,
    crate::mirror::MirrorSession,
);
