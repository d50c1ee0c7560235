//! TCP connections through the programs: what cannot belong to a connection is refused, what an end would ask about
//! passes and changes nothing.

use nightgate_abi::{
    Reason::{self, Forwarded, Sent, TcpAcknowledgement, TcpFlags, TcpReset, TcpState, TcpWindow},
    flow::Phase,
};
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use tcp_flags::{ACK, FIN, RST, SYN};

const WEB: &str = "- { id: web, from: lan, to: wan, protocol: tcp, action: accept }";
const ENDS: [(&str, &str); 2] =
    [("10.1.0.2:4000", "192.0.2.1:80"), ("[2001:db8:1::2]:4000", "[2001:db8:9::1]:80")];

/// A connection through a gateway: the client's numbers begin at 1,000, the server's at 5,000.
struct Connection<'a, 'b> {
    world: &'a mut World<'b>,
    client: &'a str,
    server: &'a str,
}

impl Connection<'_, '_> {
    fn client(&mut self, flags: u8, numbers: [u32; 2], data: usize) -> Reason {
        let frame = segment(self.client, self.server, flags, numbers, data);
        self.world.receive(LAN, &frame).reason
    }

    fn server(&mut self, flags: u8, numbers: [u32; 2], data: usize) -> Reason {
        let frame = segment(self.server, self.client, flags, numbers, data);
        self.world.receive(WAN, &frame).reason
    }

    fn phase(&self) -> Phase {
        let flows = self.world.datapath.flows().expect("flows");
        let [flow] = flows.as_slice() else { panic!("one flow: {flows:#?}") };
        flow.phase
    }
}

/// Opens a connection of each family, and hands it to a function.
fn open(test: impl Fn(&mut Connection<'_, '_>) + Sync) {
    for (client, server) in ENDS {
        with_world(WEB, |world| {
            let mut connection = Connection { world, client, server };
            assert_eq!(connection.client(SYN, [1_000, 0], 0), Forwarded);
            assert_eq!(connection.server(SYN | ACK, [5_000, 1_001], 0), Forwarded);
            assert_eq!(connection.phase(), Phase::Opening);
            assert_eq!(connection.client(ACK, [1_001, 5_001], 0), Forwarded);
            assert_eq!(connection.phase(), Phase::Established);
            test(&mut connection);
        });
    }
}

#[test]
fn segments_that_the_other_end_would_not_accept_are_refused() {
    open(|connection| {
        assert_eq!(connection.client(ACK, [1_001, 5_001], 1_400), Forwarded);
        assert_eq!(connection.client(ACK, [1_001 + 65_536, 5_001], 1), TcpWindow);
        assert_eq!(connection.client(ACK, [2_401, 5_002], 0), TcpAcknowledgement);
        assert_eq!(connection.server(SYN, [900_000, 0], 0), TcpState);
        assert_eq!(connection.server(RST, [900_000, 0], 0), TcpReset);
        assert_eq!(connection.server(ACK, [5_001, 2_401], 1_400), Forwarded);
        assert_eq!(connection.phase(), Phase::Established);
        // It is judged where it is seen first, and not again where it leaves.
        let far = segment(connection.client, connection.server, ACK, [900_000, 5_001], 0);
        assert_eq!(connection.world.forward(LAN, WAN, &far).reason, Sent);
    });
}

#[test]
fn only_a_reset_with_the_expected_number_closes() {
    open(|connection| {
        assert_eq!(connection.server(RST, [5_002, 0], 0), Forwarded, "the client asks");
        assert_eq!(connection.phase(), Phase::Established);
        assert_eq!(connection.client(SYN, [70_000, 0], 0), Forwarded, "the server asks");
        assert_eq!(connection.phase(), Phase::Established);
        assert_eq!(connection.server(RST, [5_001, 0], 0), Forwarded);
        assert_eq!(connection.phase(), Phase::Closed);
    });
}

#[test]
fn a_connection_closes_from_both_ends() {
    open(|connection| {
        assert_eq!(connection.client(FIN | ACK, [1_001, 5_001], 0), Forwarded);
        assert_eq!(connection.phase(), Phase::Closing);
        assert_eq!(connection.server(ACK, [5_001, 1_002], 1_000), Forwarded);
        assert_eq!(connection.server(FIN | ACK, [6_001, 1_002], 0), Forwarded);
        assert_eq!(connection.phase(), Phase::Closed);
        assert_eq!(connection.client(ACK, [1_002, 6_002], 0), Forwarded);
    });
}

#[test]
fn the_window_is_checked_when_rules_change_as_well() {
    open(|connection| {
        connection.world.commit(WEB);
        assert_eq!(connection.client(ACK, [900_000, 5_001], 0), TcpWindow);
        connection.world.commit(WEB);
        assert_eq!(connection.client(ACK, [1_001, 5_001], 100), Forwarded);
        assert_eq!(connection.server(ACK, [5_001, 1_101], 100), Forwarded);
    });
}

#[test]
fn windows_grow_by_the_scale_in_the_options_of_both_syns() {
    /// Maximum segment size, no-operation, window scale 2, then padding.
    const OPTIONS: [u8; 12] = [2, 4, 5, 180, 1, 3, 3, 2, 1, 1, 0, 0];
    for (client, server) in ENDS {
        for (answer, reason) in [(OPTIONS, Forwarded), ([1; 12], TcpWindow)] {
            with_world(WEB, |world| {
                let mut connection = Connection { world, client, server };
                let syn = with_options(segment(client, server, SYN, [1_000, 0], 0), OPTIONS);
                let acknowledged = segment(server, client, SYN | ACK, [5_000, 1_001], 0);
                assert_eq!(connection.world.receive(LAN, &syn).reason, Forwarded);
                let answer = with_options(acknowledged, answer);
                assert_eq!(connection.world.receive(WAN, &answer).reason, Forwarded);
                assert_eq!(connection.client(ACK, [1_001, 5_001], 0), Forwarded);
                assert_eq!(connection.server(ACK, [5_001 + 200_000, 1_001], 1_000), reason);
            });
        }
    }
}

#[test]
fn flags_that_no_connection_brings_forth_are_refused() {
    with_world(WEB, |world| {
        let (client, server) = ENDS[0];
        for flags in [0, FIN, SYN | FIN, SYN | RST, RST | FIN | ACK, SYN | FIN | RST | ACK] {
            assert_eq!(world.receive(LAN, &tcp(client, server, flags)).reason, TcpFlags);
        }
    });
}

/// A segment without data, with twelve bytes of options.
fn with_options(frame: Vec<u8>, options: [u8; 12]) -> Vec<u8> {
    const IP: usize = 14;
    let is_v4 = frame[12] == 8;
    let (transport, total, length) = if is_v4 { (34, IP + 2, 20 + 32) } else { (54, IP + 4, 32) };
    let frame = patched(frame, total, &u16::to_be_bytes(length));
    [&patched(frame, transport + 12, &[0x80])[..], &options].concat()
}
