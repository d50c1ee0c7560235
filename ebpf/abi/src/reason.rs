//! Why a packet passed or was refused.

/// What a [`Reason`] says about a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It passed. Every packet has exactly one reason of kind `Pass` or `Drop` at each hook.
    Pass,
    /// It was refused.
    Drop,
    /// Something happened beside it, to a copy.
    Event,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $kind:ident;)*) => {
        /// Closed list of what can become of a packet: the index of a counter, the metric label and the word
        /// that operators see. Each place that can refuse has its own.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kebab-case word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// What it says about the packet.
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind::$kind,)*
                }
            }
        }
    };
}

reasons! {
    /// Received for the gateway itself.
    Local = "local", Pass;
    /// Received to be forwarded.
    Forwarded = "forwarded", Pass;
    /// Received and handed to the intercept listener.
    Intercepted = "intercepted", Pass;
    /// An echo request to an intercepted destination that can be reached: it was answered.
    EchoAnswered = "echo-answered", Pass;
    /// Sent, by the gateway itself or forwarded.
    Sent = "sent", Pass;
    /// Sent to a sensor: an encapsulated copy. No rule judges it, and it is not copied again.
    MirrorCopy = "mirror-copy", Pass;
    /// Sent to the sender of a rejected packet: a TCP reset or an ICMP error. No rule judges it.
    Answer = "answer", Pass;
    /// Tagged for a VLAN whose device is in a zone: its rules judge it there.
    Vlan = "vlan", Pass;
    /// Neither IP nor ARP, and of a protocol that the zone asks for.
    PassThrough = "pass-through", Pass;
    /// ARP (RFC 826).
    Arp = "arp", Pass;
    /// IPv6 neighbour discovery with hop limit 255 (RFC 4861 section 7.1).
    NeighbourDiscovery = "neighbour-discovery", Pass;

    /// The zone's guard blocks the source.
    Blocked = "blocked", Drop;
    /// The source sends more of a kind than the zone's guard allows.
    Flood = "flood", Drop;
    /// Shorter than an Ethernet header.
    EthernetTruncated = "ethernet-truncated", Drop;
    /// An 802.1Q tag is cut off.
    VlanTruncated = "vlan-truncated", Drop;
    /// More than two 802.1Q tags.
    VlanDepth = "vlan-depth", Drop;
    /// Neither IPv4, IPv6 nor ARP.
    EtherType = "ether-type", Drop;
    /// Not an ARP packet for IPv4 over Ethernet, or cut off.
    ArpMalformed = "arp-malformed", Drop;
    /// Shorter than an IPv4 header.
    Ipv4Truncated = "ipv4-truncated", Drop;
    /// The version field of an IPv4 packet is not 4.
    Ipv4Version = "ipv4-version", Drop;
    /// The IPv4 header length is below 20 bytes or beyond the packet.
    Ipv4HeaderLength = "ipv4-header-length", Drop;
    /// The IPv4 total length is below the header's or beyond the frame.
    Ipv4TotalLength = "ipv4-total-length", Drop;
    /// Shorter than an IPv6 header.
    Ipv6Truncated = "ipv6-truncated", Drop;
    /// The version field of an IPv6 packet is not 6.
    Ipv6Version = "ipv6-version", Drop;
    /// The IPv6 payload length reaches beyond the frame.
    Ipv6PayloadLength = "ipv6-payload-length", Drop;
    /// An IPv6 extension header is cut off.
    Ipv6ExtensionTruncated = "ipv6-extension-truncated", Drop;
    /// More IPv6 extension headers than are looked at.
    Ipv6ExtensionDepth = "ipv6-extension-depth", Drop;
    /// An IPv6 hop-by-hop header that is not the first, or a second fragment header (RFC 8200 section 4.1).
    Ipv6ExtensionOrder = "ipv6-extension-order", Drop;
    /// An IPv6 routing header of type 0 (RFC 5095).
    Ipv6RoutingType0 = "ipv6-routing-type-0", Drop;
    /// A later fragment of a packet whose first one has not been seen by the rules in force, or too long ago.
    FragmentUnknown = "fragment-unknown", Drop;
    /// A first fragment without all of its transport header (RFC 1858 section 3, RFC 7112).
    FragmentTiny = "fragment-tiny", Drop;
    /// A fragment that says again what the first one has said, and those after it (RFC 1858 section 4, RFC 5722).
    FragmentOverlap = "fragment-overlap", Drop;
    /// A fragment that no packet can be made of: without data, of a broken length, or beyond 64 KiB.
    FragmentLength = "fragment-length", Drop;
    /// An ICMP error in fragments, or neighbour discovery with a fragment header (RFC 6980): nobody has to send them.
    FragmentControl = "fragment-control", Drop;
    /// Shorter than a TCP header.
    TcpTruncated = "tcp-truncated", Drop;
    /// The TCP data offset is below 20 bytes or beyond the packet.
    TcpDataOffset = "tcp-data-offset", Drop;
    /// TCP flags that no connection brings forth: none, SYN with FIN or RST, a FIN without ACK (RFC 9293 section
    /// 3.10.7).
    TcpFlags = "tcp-flags", Drop;
    /// Shorter than a UDP header.
    UdpTruncated = "udp-truncated", Drop;
    /// The UDP length is below 8 bytes or beyond the packet.
    UdpLength = "udp-length", Drop;
    /// Shorter than an ICMP or ICMPv6 header.
    IcmpTruncated = "icmp-truncated", Drop;
    /// ICMPv6 in IPv4, or ICMP in IPv6.
    IcmpFamily = "icmp-family", Drop;
    /// A source address that cannot be a sender's: loopback, multicast, broadcast or reserved (RFC 6890).
    MartianSource = "martian-source", Drop;
    /// A destination address that never is on a wire: loopback or unspecified (RFC 6890).
    MartianDestination = "martian-destination", Drop;
    /// An IPv4-mapped IPv6 address on the wire (RFC 6890 section 2.2.3).
    MappedAddress = "mapped-address", Drop;

    /// The programs' own work space could not be read.
    WorkSpace = "work-space", Drop;
    /// No rule set has been committed.
    NotCommitted = "not-committed", Drop;
    /// The bank in force could not be read.
    BankMissing = "bank-missing", Drop;
    /// The packet's interface is in no zone.
    UnknownInterface = "unknown-interface", Drop;
    /// Tagged for a VLAN that has no device in a zone.
    UnknownVlan = "unknown-vlan", Drop;
    /// The packet would leave, or came in, by an interface in no zone.
    UnknownZone = "unknown-zone", Drop;
    /// The routing table refuses the destination, or the route could not be looked up.
    Unroutable = "unroutable", Drop;
    /// A packet of a known flow on an interface of another zone than the flow's.
    ZoneMismatch = "zone-mismatch", Drop;
    /// An ICMP or ICMPv6 error whose quote is cut off or was not sent by the error's receiver.
    IcmpQuote = "icmp-quote", Drop;
    /// An ICMP or ICMPv6 error that quotes a packet of no known flow, or a TCP segment outside the window.
    IcmpUnrelated = "icmp-unrelated", Drop;
    /// A TCP segment outside the window that the other end has granted (RFC 9293 section 3.4).
    TcpWindow = "tcp-window", Drop;
    /// A TCP segment that acknowledges what was never sent, or what was acknowledged long ago (RFC 5961
    /// section 5.2).
    TcpAcknowledgement = "tcp-acknowledgement", Drop;
    /// A TCP SYN that the connection's state has no place for: from the end that did not open it.
    TcpState = "tcp-state", Drop;
    /// A TCP RST outside the window (RFC 5961 section 3.2).
    TcpReset = "tcp-reset", Drop;
    /// A TCP segment in the middle of a connection that is not known, where the configuration refuses those.
    TcpPickup = "tcp-pickup", Drop;
    /// One of its addresses is in quarantine.
    Quarantined = "quarantined", Drop;
    /// Its flow, or one of its addresses, has been limited by an alert, and is beyond that.
    Throttled = "throttled", Drop;
    /// A rule refuses it.
    Rule = "rule", Drop;
    /// A rule rejects it.
    Rejected = "rejected", Drop;
    /// A rule would accept it, but not at this rate.
    RateLimited = "rate-limited", Drop;
    /// A rule would accept it, but not beside so many others.
    ConnectionLimit = "connection-limit", Drop;
    /// No rule matches.
    NoRule = "no-rule", Drop;
    /// The flow could not be remembered.
    FlowTable = "flow-table", Drop;
    /// All ports that the source may get are taken.
    NatExhausted = "nat-exhausted", Drop;
    /// The interface has no address that the source could get.
    NatNoAddress = "nat-no-address", Drop;
    /// The addresses and ports are those of another flow, or reserved for one.
    NatConflict = "nat-conflict", Drop;
    /// A flow with the address of an interface left by another: it ends.
    NatRerouted = "nat-rerouted", Drop;
    /// The way to a translated flow had been pushed out of the flow table; it is there again.
    NatRestored = "nat-restored", Drop;
    /// New addresses or ports could not be written into the packet: it ends before its checksum.
    NatRewrite = "nat-rewrite", Drop;
    /// The destination is intercepted, but not for this protocol's packets.
    InterceptProtocol = "intercept-protocol", Drop;
    /// The destination is intercepted, and a fragment is of no connection that is known there.
    InterceptFragment = "intercept-fragment", Drop;
    /// The destination is intercepted and no listener is set.
    NoListener = "no-listener", Drop;
    /// The destination is intercepted and nothing listens where the listener should be.
    ListenerGone = "listener-gone", Drop;
    /// An echo request to an intercepted destination that cannot be reached.
    EchoUnreachable = "echo-unreachable", Drop;
    /// An echo request to an intercepted destination that could not be turned into its answer.
    EchoFailed = "echo-failed", Drop;
    /// The kernel refused to hand the packet to the listener.
    AssignRefused = "assign-refused", Drop;

    /// A rejected packet was answered by a TCP reset.
    AnsweredReset = "answered-reset", Event;
    /// A rejected packet was answered by an ICMP error.
    AnsweredUnreachable = "answered-unreachable", Event;
    /// A rejected packet gets no answer: it is one itself, went to more than one host, or came from none.
    AnswerUndue = "answer-undue", Event;
    /// A rejected packet was not answered because too many are.
    AnswerLimited = "answer-limited", Event;
    /// A rejected packet could not be turned into an answer.
    AnswerFailed = "answer-failed", Event;
    /// A copy went to the mirror device.
    Mirrored = "mirrored", Event;
    /// A copy was due and there is no mirror device.
    MirrorNoDevice = "mirror-no-device", Event;
    /// The kernel refused to make or send the copy.
    MirrorRefused = "mirror-refused", Event;
    /// A log record was due and its rule has had too many.
    LogSuppressed = "log-suppressed", Event;
    /// A log record was due and nobody has read those before.
    LogLost = "log-lost", Event;
    /// A packet was to be traced and there were too many.
    TraceSuppressed = "trace-suppressed", Event;
    /// A packet was to be traced and nobody has read those before.
    TraceLost = "trace-lost", Event;
}

impl Reason {
    /// How many there are: length of the counter array.
    pub const COUNT: usize = Self::ALL.len();

    /// The reason with this index.
    pub fn from_index(index: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.index() == index)
    }

    /// Index of its counter.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kebab_case_and_distinct() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            let word = reason.as_str();
            assert!(
                word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
            assert!(Reason::ALL[..index].iter().all(|other| other.as_str() != word), "{word}");
            assert_eq!(reason.index() as usize, index);
        }
    }
}
