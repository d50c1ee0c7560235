//! Whether a TCP segment can belong to a connection, and what it changes.
//!
//! Both ends are followed by what they send: how far, what they acknowledge, and how much they have room for. A
//! segment passes if the other end could accept it (RFC 9293 section 3.4, with the limits of RFC 5961 for
//! acknowledgements and resets). Where the other end would ask whether a SYN or RST is genuine (the challenge
//! ACK of RFC 5961), the segment passes and changes nothing, so that the end can ask.

use nightgate_abi::{
    Reason, Sender,
    flow::Direction,
    sender::{SCALE_MAX, sent},
};

use crate::{Segment, tcp_flags};

/// A segment with what else is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its numbers.
    pub segment: &'a Segment,
    /// [`tcp_flags`]
    pub flags: u8,
    /// Its direction in the flow.
    pub direction: Direction,
    /// Window scale of a SYN, if it has the option.
    pub scale: Option<u8>,
}

/// The least window that counts for what is late, in bytes: packets joined by the kernel are as long.
const LATE_WINDOW_MIN: u32 = 66_000;
/// Bytes of data a SYN may carry, of which a RST need not acknowledge any (RFC 7413).
const SYN_DATA_MAX: u32 = 1_460;

/// Takes over what the first segment of a flow says about its sender, of whom nothing is known.
#[inline(always)]
pub fn begin(arrival: &Arrival<'_>, sender: &mut Sender) {
    if arrival.has(tcp_flags::SYN) {
        arrival.open(sender);
    } else {
        arrival.pick_up(sender);
        arrival.proceed(sender, &Sender::default());
    }
    sender.see(arrival.flags);
}

/// Takes over what a segment says in a connection that is known. Only a connection that is opened anew changes what
/// is known of the receiver.
///
/// # Errors
/// The segment cannot belong to the connection, and has changed nothing.
#[inline(always)]
pub fn follow(
    arrival: &Arrival<'_>,
    sender: &mut Sender,
    receiver: &mut Sender,
) -> Result<(), Reason> {
    if arrival.has(tcp_flags::RST) {
        arrival.reset(sender, receiver)?;
    } else if arrival.has(tcp_flags::SYN) {
        arrival.synchronise(sender, receiver)?;
    } else {
        arrival.go_on(sender, receiver)?;
    }
    sender.see(arrival.flags);
    Ok(())
}

/// Takes over that a segment goes on until `end`: of its first fragment, [`begin`] and [`follow`] see the data of that
/// one only.
#[inline(always)]
pub fn extend(end: u32, sender: &mut Sender) {
    if is_before(sender.end, end) {
        sender.end = end;
    }
}

/// Whether a sequence number is one of those that a sender may have on their way (RFC 5927 section 4).
#[inline(always)]
pub fn is_recent(sequence: u32, sender: &Sender, receiver: &Sender) -> bool {
    !is_before(sender.end, sequence)
        && !is_before(sequence, sender.end.wrapping_sub(late(receiver)).wrapping_sub(1))
}

impl Arrival<'_> {
    #[inline(always)]
    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sequence number behind the segment's last.
    #[inline(always)]
    const fn end(&self) -> u32 {
        let flags = (self.has(tcp_flags::SYN) as u32) + (self.has(tcp_flags::FIN) as u32);
        self.segment.sequence.wrapping_add(self.segment.length).wrapping_add(flags)
    }

    /// A segment that neither opens nor resets.
    #[inline(always)]
    fn go_on(&self, sender: &mut Sender, receiver: &Sender) -> Result<(), Reason> {
        if !sender.has(sent::ANYTHING) && self.is_challenge(receiver) {
            return Ok(());
        }
        self.check_window(sender, receiver)?;
        self.check_acknowledgement(sender, receiver)?;
        if !sender.has(sent::ANYTHING) {
            self.pick_up(sender);
        }
        self.proceed(sender, receiver);
        Ok(())
    }

    /// Whether it is an acknowledgement in answer to a first SYN, by which an end says that it has a connection
    /// already (RFC 9293 section 3.5.1). The originator answers with a RST.
    #[inline(always)]
    fn is_challenge(&self, receiver: &Sender) -> bool {
        receiver.has(sent::ANYTHING)
            && !receiver.has(sent::ACKNOWLEDGEMENT)
            && self.segment.length == 0
            && !self.has(tcp_flags::FIN)
    }

    /// A SYN, with or without an acknowledgement.
    #[inline(always)]
    fn synchronise(&self, sender: &mut Sender, receiver: &mut Sender) -> Result<(), Reason> {
        // The receiver has accepted nothing yet, so this one counts, whatever was sent before.
        let is_opening = !receiver.has(sent::ACKNOWLEDGEMENT);
        if self.has(tcp_flags::ACK) {
            if is_opening {
                self.check_acknowledgement(sender, receiver)?;
                self.open(sender);
                return Ok(());
            }
            let is_asked = receiver.has(sent::ANOTHER_SYN) && self.direction == Direction::Reply;
            return match self.go_on(sender, receiver) {
                Err(_) if is_asked => {
                    self.open_anew(sender, receiver);
                    Ok(())
                }
                ordinary => ordinary,
            };
        }
        match self.direction {
            Direction::Original if !receiver.has(sent::ANYTHING) => self.open(sender),
            // The first one once more.
            Direction::Original if !sender.has(sent::ACKNOWLEDGEMENT) => {}
            // The responder answers with an acknowledgement, whatever the number (RFC 5961 section 4.2), or
            // has forgotten the connection and opens another.
            Direction::Original => sender.flags |= sent::ANOTHER_SYN,
            // Both ends open at once (RFC 9293 section 3.5).
            Direction::Reply if is_opening => self.open(sender),
            Direction::Reply => {
                self.check_window(sender, receiver).map_err(|_window| Reason::TcpState)?;
            }
        }
        Ok(())
    }

    /// A RST closes the connection if it is where its sender is or where its receiver expects it (RFC 5961
    /// section 3.2); elsewhere in the window the receiver asks.
    #[inline(always)]
    fn reset(&self, sender: &mut Sender, receiver: &Sender) -> Result<(), Reason> {
        let sequence = self.segment.sequence;
        let is_silent = !sender.has(sent::ANYTHING);
        let is_acknowledged = receiver.has(sent::ACKNOWLEDGEMENT);
        let is_exact = if is_silent && !is_acknowledged {
            // In answer to a SYN, whose number it has to acknowledge (RFC 9293 section 3.10.7.3).
            let missing = receiver.end.wrapping_sub(self.segment.acknowledgement);
            if !self.has(tcp_flags::ACK) || missing > SYN_DATA_MAX {
                return Err(Reason::TcpReset);
            }
            missing == 0
        } else {
            let is_in_window = !is_acknowledged
                || (!is_before(sequence, receiver.acknowledged)
                    && !is_before(receiver.granted, sequence));
            let is_where_sender_is = !is_silent && sequence == sender.end;
            if !is_in_window && !is_where_sender_is {
                return Err(Reason::TcpReset);
            }
            is_where_sender_is || (is_acknowledged && sequence == receiver.acknowledged)
        };
        if is_exact {
            if is_silent {
                sender.end = sequence;
            }
            sender.flags |= sent::ANYTHING | sent::RESET;
        }
        Ok(())
    }

    /// The segment begins in what the receiver has room for, and does not end long before what it has.
    #[inline(always)]
    fn check_window(&self, sender: &Sender, receiver: &Sender) -> Result<(), Reason> {
        if !receiver.has(sent::ANYTHING) {
            return Ok(());
        }
        let (limit, newest) =
            match (sender.has(sent::ANYTHING), receiver.has(sent::ACKNOWLEDGEMENT)) {
                (true, true) => (receiver.granted, sender.end),
                (true, false) => (sender.end.wrapping_add(receiver.window), sender.end),
                (false, true) => (receiver.granted, receiver.acknowledged),
                (false, false) => return Ok(()),
            };
        let oldest = newest.wrapping_sub(late(receiver)).wrapping_sub(1);
        if is_before(limit, self.segment.sequence) || is_before(self.end(), oldest) {
            return Err(Reason::TcpWindow);
        }
        Ok(())
    }

    /// The segment acknowledges what the receiver has sent, and not what it sent long ago.
    #[inline(always)]
    fn check_acknowledgement(&self, sender: &Sender, receiver: &Sender) -> Result<(), Reason> {
        if !receiver.has(sent::ANYTHING) {
            return Ok(());
        }
        let acknowledgement = self.segment.acknowledgement;
        if is_before(receiver.end, acknowledgement)
            || is_before(acknowledgement, receiver.end.wrapping_sub(late(sender)))
        {
            return Err(Reason::TcpAcknowledgement);
        }
        Ok(())
    }

    /// A SYN's sender begins anew.
    #[inline(always)]
    fn open(&self, sender: &mut Sender) {
        // The windows of SYNs are not scaled (RFC 7323 section 2.2).
        let window = u32::from(self.segment.window);
        sender.flags = sender.flags & sent::CONFIRMATION | sent::ANYTHING;
        sender.end = self.end();
        sender.window = window.max(1);
        if let Some(scale) = self.scale {
            sender.scale = scale;
            sender.flags |= sent::SCALE;
        }
        if self.has(tcp_flags::ACK) {
            sender.flags |= sent::ACKNOWLEDGEMENT;
            sender.acknowledged = self.segment.acknowledgement;
            sender.granted = self.segment.acknowledgement.wrapping_add(window);
        }
    }

    /// The responder has accepted another SYN in an open connection, which it had forgotten. The options of that SYN
    /// are not known any more.
    #[inline(always)]
    fn open_anew(&self, sender: &mut Sender, receiver: &mut Sender) {
        self.open(sender);
        receiver.end = self.segment.acknowledgement;
        receiver.scale = SCALE_MAX;
        receiver.flags = receiver.flags & sent::CONFIRMATION | sent::ANYTHING | sent::SCALE;
    }

    /// A sender whose SYN has been missed. Its windows are taken for as large as they can be.
    #[inline(always)]
    fn pick_up(&self, sender: &mut Sender) {
        sender.end = self.end();
        sender.scale = SCALE_MAX;
        sender.flags |= sent::ANYTHING | sent::SCALE;
    }

    /// What a segment says that does not open.
    #[inline(always)]
    fn proceed(&self, sender: &mut Sender, receiver: &Sender) {
        let end = self.end();
        if is_before(sender.end, end) {
            sender.end = end;
        }
        let mut flags = sender.flags & !sent::ANOTHER_SYN;
        if self.has(tcp_flags::FIN) {
            flags |= sent::FIN;
        }
        if self.has(tcp_flags::RST) {
            flags |= sent::RESET;
        }
        if self.has(tcp_flags::ACK) {
            let window = u32::from(self.segment.window) << (sender.shift(receiver) & 31);
            let acknowledged = self.segment.acknowledgement;
            let is_first = !sender.has(sent::ACKNOWLEDGEMENT);
            // The window of the SYN, which is not scaled, may have been a little larger than one that is.
            let room = if is_first { window.max(sender.window) } else { window };
            let granted = acknowledged.wrapping_add(room);
            if is_first || is_before(sender.acknowledged, acknowledged) {
                sender.acknowledged = acknowledged;
            }
            if is_first || is_before(sender.granted, granted) {
                sender.granted = granted;
            }
            sender.window = sender.window.max(window).max(1);
            flags |= sent::ACKNOWLEDGEMENT;
        }
        if flags != sender.flags {
            sender.flags = flags;
        }
    }
}

/// How far behind an honest segment or acknowledgement may be, in bytes: two of the windows that an end has granted,
/// as it may have been overtaken by a window's worth on each way. Below 2^31, as windows are (RFC 7323 section 2.3).
#[inline(always)]
fn late(granter: &Sender) -> u32 {
    granter.window.max(LATE_WINDOW_MIN).wrapping_mul(2)
}

/// Whether a sequence number is before another (RFC 9293 section 3.4).
#[inline(always)]
const fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) >> 31 != 0
}
