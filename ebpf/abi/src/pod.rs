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
    crate::ether::EtherTypes,
    crate::guard::Guard,
    crate::guard::GuardPrefix,
    crate::limit::LimitKey,
    crate::Address,
    crate::Counter,
    crate::Fallback,
    crate::Flow,
    crate::FlowKey,
    crate::Hits,
    crate::Intercept,
    crate::InterceptPorts,
    crate::InterceptRange,
    crate::InterceptTable,
    crate::Interface,
    crate::Listener,
    crate::RuleEntry,
    crate::Settings,
    crate::Slot,
    crate::Throttle,
    crate::ZoneId,
    crate::counter::DropKey,
    crate::event::Event,
    crate::event::LogKey,
    crate::event::LogState,
    crate::event::Trace,
    crate::Bucket,
    crate::mirror::MirrorSensor,
    crate::mirror::MirrorSession,
    crate::tunnel::Copied,
    crate::tunnel::Doors,
    crate::tunnel::Origin,
    crate::tunnel::OriginKey,
    crate::tunnel::Taken,
    crate::tunnel::Source,
    crate::tunnel::TunnelSettings,
    crate::vlan::VlanKey,
);
