use super::*;
use crate::native::schedule::{Secrets, TRANSCRIPT_LENGTH};

const BINDING: Binding<'_> = Binding { service: "s", instance: "", app_data: b"" };

fn line(id: u8, since: Instant) -> Line {
    let secret = Secrets::derive(&[id; 32], &[0; TRANSCRIPT_LENGTH]).line;
    let peer = ProvenIdentity { id: "web".into(), fingerprint: String::new() };
    Line::new(Cipher::ChaCha20Poly1305, secret, peer, since)
}

fn bytes(secret: &TrafficSecret) -> Vec<u8> {
    secret.shared(<[u8]>::to_vec)
}

#[test]
fn both_ends_have_the_same_secret_for_each_number_and_no_other_has_it() {
    let now = Instant::now();
    let (mut dialer, mut host) = (line(1, now), line(1, now));
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (number, secret) = dialer.step();
        let turn = host.take(number, |_| true).unwrap();
        assert_eq!(bytes(&turn.secret), bytes(&secret));
        assert!(!seen.contains(&bytes(&secret)));
        seen.push(bytes(&secret));
    }
}

#[test]
fn what_nobody_proves_moves_nothing() {
    let now = Instant::now();
    let mut host = line(1, now);
    for number in [0, 5, WINDOW - 1, WINDOW, u32::MAX] {
        assert!(host.take(number, |_| false).is_none());
    }
    assert_eq!((host.next, host.passed.len()), (0, 0));
    assert!(host.take(WINDOW, |_| true).is_none(), "too far ahead");
    assert!(host.take(WINDOW - 1, |_| true).is_some());
    assert_eq!(host.passed.len(), WINDOW as usize - 1);
    assert!(host.take(2 * WINDOW - 1, |_| true).is_some());
    assert_eq!(host.passed.len(), WINDOW as usize, "no more are kept");
    assert!(host.take(0, |_| true).is_none(), "the oldest went");
}

#[test]
fn lines_end_with_time_and_with_use() {
    let (lines, start) = (Lines::default(), Instant::now());
    lines.keep_dialing("s", "", line(1, start), start);
    lines.keep_hosting(line(1, start));
    let late = start + LINE_LIFETIME;
    assert!(lines.turn(BINDING, late - Duration::from_millis(1)).is_some());
    assert!(lines.turn(BINDING, late).is_none());
    assert!(lines.take(&line(1, start).id, 0, late, |_| true).is_none());

    lines.keep_dialing("s", "", line(2, late), late);
    let turns = (0..=LINE_CIRCUITS).filter(|_| lines.turn(BINDING, late).is_some()).count();
    assert_eq!(turns, LINE_CIRCUITS as usize);
}

#[test]
fn after_a_miss_nothing_is_kept_for_a_while() {
    let (lines, now) = (Lines::default(), Instant::now());
    lines.keep_dialing("s", "", line(1, now), now);
    lines.missed("s", "", now);
    lines.keep_dialing("s", "", line(2, now), now);
    assert!(lines.turn(BINDING, now).is_none());
    let later = now + LINE_PAUSE;
    lines.keep_dialing("s", "", line(3, later), later);
    assert_eq!(lines.turn(BINDING, later).map(|turn| turn.id), Some(line(3, later).id));
}

#[test]
fn the_oldest_lines_go_first() {
    let (lines, start) = (Lines::default(), Instant::now());
    let id = |at: usize| u128::try_from(at).unwrap().to_be_bytes();
    for at in 0..=MAX_LINES {
        let line = line(1, start + Duration::from_millis(at as u64));
        lines.keep_hosting(Line { id: id(at), ..line });
    }
    let hosting = locked(&lines.hosting);
    assert_eq!(hosting.len(), MAX_LINES + 1 - LEAVING);
    assert!(!hosting.contains_key(&id(LEAVING - 1)));
    assert!([LEAVING, MAX_LINES].iter().all(|at| hosting.contains_key(&id(*at))));
}
