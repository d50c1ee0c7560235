use bytes::Bytes;
use nightgate_wire::{
    Headers,
    link::{Numbered, Payload},
};

use super::*;

fn payload(path: u64, sequence: u64, length: usize) -> Frame {
    let payload = Payload { body: Bytes::from(vec![0; length]), ..Payload::default() };
    Frame::Payload(PathId(path), Numbered { sequence, echo: 0, payload })
}

fn pop_all(queue: &mut LinkQueue) -> Vec<Frame> {
    std::iter::from_fn(|| queue.pop()).collect()
}

#[test]
fn a_long_queue_delays_another_circuit_by_a_turn_only() {
    let mut queue = LinkQueue::default();
    for sequence in 0..1_000 {
        queue.push(payload(1, sequence, 10_000));
    }
    queue.push(payload(2, 0, 10_000));
    let at = pop_all(&mut queue).iter().position(|frame| frame.path() == Some(PathId(2)));
    assert!(at.unwrap() <= QUANTUM / 10_000 + 1, "{at:?}");
}

#[test]
fn circuits_share_by_bytes_whatever_their_frames() {
    let mut queue = LinkQueue::default();
    for sequence in 0..2_000 {
        queue.push(payload(1, sequence, 1_000));
        queue.push(payload(2, sequence, 60_000));
    }
    let mut bytes = [0_usize; 3];
    for _ in 0..1_500 {
        let frame = queue.pop().unwrap();
        bytes[usize::try_from(frame.path().unwrap().0).unwrap()] += frame.encoded_len();
    }
    assert!(bytes[1].abs_diff(bytes[2]) <= 2 * 60_000, "{bytes:?}");
}

#[test]
fn one_circuits_frames_keep_their_order_and_its_end_comes_last() {
    let mut queue = LinkQueue::default();
    let frames: Vec<Frame> =
        (0..50).map(|n| payload(1, n, 9_000)).chain([Frame::Fin(PathId(1), 50)]).collect();
    frames.iter().for_each(|frame| queue.push(frame.clone()));
    assert_eq!(pop_all(&mut queue), frames);
    assert!(queue.is_empty());
}

#[test]
fn pings_and_acknowledgements_pass_data_and_only_the_newest_goes() {
    let mut queue = LinkQueue::default();
    queue.push(payload(1, 0, 10));
    let ack = |received, wish| Ack { received, wish, ..Ack::default() };
    queue.push(Frame::Ack(PathId(1), ack(1, Wish::Repeat)));
    queue.push(Frame::Ack(PathId(1), ack(2, Wish::Nothing)));
    for number in 0..1_000 {
        queue.push(Frame::Ping(number));
        queue.push(Frame::Pong(number));
    }
    let expected = [
        Frame::Pong(999),
        Frame::Ping(999),
        Frame::Ack(PathId(1), ack(2, Wish::Repeat)),
        payload(1, 0, 10),
    ];
    assert_eq!(pop_all(&mut queue), expected);
}

#[test]
fn who_fills_the_queue_loses_and_nobody_else() {
    let mut queue = LinkQueue::default();
    queue.push(payload(2, 0, 1_000));
    for sequence in 0..10_000 {
        queue.push(payload(1, sequence, 100_000));
        for other in 3..6 {
            queue.push(payload(other, sequence, 4_000));
        }
    }
    assert!(queue.bytes() <= LIMIT);
    let frames = pop_all(&mut queue);
    let of = |path| frames.iter().filter(|frame| frame.path() == Some(PathId(path))).count();
    assert_eq!((of(2), queue.bytes()), (1, 0));
    assert!(of(1) * 100_000 <= LIMIT / 2 && of(3) > 4_000 && of(4).abs_diff(of(5)) <= 1);
}

#[test]
fn a_path_that_ends_leaves_nothing_behind_and_a_flood_of_requests_is_bounded() {
    let mut queue = LinkQueue::default();
    queue.push(payload(1, 0, 1_000));
    queue.push(Frame::Close(PathId(1)));
    assert_eq!((queue.bytes(), pop_all(&mut queue)), (0, vec![Frame::Close(PathId(1))]));
    let mut headers = Headers::new();
    headers.put(1, vec![0; 10_000]);
    for path in 0..1_000 {
        queue.push(Frame::Open(PathId(path), headers.clone()));
    }
    assert!(queue.dropped() > 800);
    assert!(pop_all(&mut queue).len() < 200);
}

#[test]
fn who_does_not_read_answers_overruns_the_queue() {
    let mut queue = LinkQueue::default();
    let unroute = |path| Frame::Unroute(PathId(path), Headers::new());
    let overrun = (0..).find(|path| {
        queue.push(unroute(*path));
        queue.is_overrun()
    });
    assert!((100_000..250_000).contains(&overrun.unwrap()), "{overrun:?}");
    pop_all(&mut queue);
    assert!(!queue.is_overrun() && queue.is_empty());
}

#[test]
fn what_is_of_no_use_to_its_receiver_does_not_wait() {
    let mut queue = LinkQueue::bounded(100_000);
    let sent_on = |queue: &mut LinkQueue, sequences: &[u64]| -> Vec<u64> {
        sequences.iter().for_each(|number| queue.push(payload(1, *number, 10_000)));
        let first: Vec<Frame> = std::iter::from_fn(|| queue.pop()).take(2).collect();
        first.iter().map(sequence).collect()
    };
    // Four fit. The receiver hears of the gap when they have gone.
    assert_eq!(sent_on(&mut queue, &[0, 1, 2, 3, 4, 5, 6, 7]), [0, 1]);
    assert_eq!(sent_on(&mut queue, &[2, 3, 8, 9]), [2, 3]);
    assert_eq!(sent_on(&mut queue, &[]), [u64::MAX]);
    // Then it all comes again, and once more while some of it waits.
    assert_eq!(sent_on(&mut queue, &[4, 5, 6, 5, 6, 7]), [4, 5]);
    assert_eq!(sent_on(&mut queue, &[4, 5, 6, 7]), [4, 5]);
    assert_eq!(sent_on(&mut queue, &[]), [6, 7]);
    assert!(queue.is_empty() && queue.bytes() == 0);
    // What another router dropped is news for what comes after it only.
    queue.push(payload(1, 8, 10_000));
    queue.push(news_of_gap(PathId(1)));
    queue.push(news_of_gap(PathId(1)));
    assert_eq!(sent_on(&mut queue, &[9, 10]), [8, 9]);
}
