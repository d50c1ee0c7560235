//! Streams against a scripted router.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::*;
use crate::scripted::{channel, circuit, is_fin};

#[tokio::test]
async fn bytes_pass_both_ways_encrypted_and_plain() {
    for encrypted in [true, false] {
        let (channel, mut router) = channel().await;
        let (mut stream, mut host) = circuit(&channel, &mut router, encrypted).await;
        assert_eq!(stream.is_encrypted(), encrypted);

        stream.write_all(b"question").await.unwrap();
        let sent = router.recv().await;
        assert_eq!(sent.body == "question", !encrypted, "plaintext only where agreed");
        assert_eq!(host.open(&sent), b"question");

        router.send(host.data(b"answer")).await;
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }
}

#[tokio::test]
async fn long_write_becomes_records_of_at_most_31_kib() {
    let (channel, mut router) = channel().await;
    let (mut stream, mut host) = circuit(&channel, &mut router, true).await;
    let plaintext: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();

    let (written, received) = tokio::join!(stream.write_all(&plaintext), async {
        let mut received = Vec::new();
        while received.len() < plaintext.len() {
            let message = router.recv().await;
            assert!(message.body.len() <= MAX_PLAINTEXT + nightgate_e2ee::RECORD_OVERHEAD);
            received.extend(host.open(&message));
        }
        received
    });

    written.unwrap();
    assert_eq!(received, plaintext);
}

#[tokio::test]
async fn each_half_ends_by_itself() {
    let (channel, mut router) = channel().await;
    let (mut stream, mut host) = circuit(&channel, &mut router, true).await;

    stream.write_all(b"all").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(host.open(&router.recv().await), b"all");
    assert!(is_fin(&router.recv().await));
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);

    router.send(host.data(b"late answer")).await;
    router.send(host.fin()).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "late answer");
}

#[tokio::test]
async fn dropped_stream_delivers_what_was_written_then_ends_then_closes() {
    let (channel, mut router) = channel().await;
    let (mut stream, mut host) = circuit(&channel, &mut router, true).await;

    stream.write_all(b"last words").await.unwrap();
    drop(stream);
    drop(channel);

    assert_eq!(host.open(&router.recv().await), b"last words");
    assert!(is_fin(&router.recv().await));
    let closed = router.recv().await;
    assert_eq!(closed.content_type, content::STATE_CLOSED);
    assert_eq!(closed.headers.u32(header::CONN_ID), Some(host.id));
    assert!(router.is_left().await, "the channel ends with its last user");
}

#[tokio::test]
async fn close_without_reason_is_the_end_and_with_reason_an_error() {
    let (channel, mut router) = channel().await;
    let (mut stream, host) = circuit(&channel, &mut router, false).await;
    router.send(host.closed("")).await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);

    let (mut stream, host) = circuit(&channel, &mut router, false).await;
    router.send(host.closed("policy withdrawn")).await;
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    assert!(error.to_string().contains("policy withdrawn"), "{error}");
    let error = stream.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn altered_record_fails_the_stream_for_good() {
    let (channel, mut router) = channel().await;
    let (mut stream, mut host) = circuit(&channel, &mut router, true).await;
    let mut message = host.data(b"pay 10");
    let mut body = message.body.to_vec();
    body[4] ^= 1;
    message.body = body.into();

    router.send(message).await;
    router.send(host.data(b"genuine")).await;

    for _ in 0..2 {
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn multipart_message_that_was_not_agreed_on_is_refused() {
    let (channel, mut router) = channel().await;
    let (mut stream, mut host) = circuit(&channel, &mut router, false).await;
    let mut message = host.data(b"\x01\0x");
    message.headers.put_u32(header::FLAGS, flag::MULTIPART_MESSAGE);

    router.send(message).await;

    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn lost_channel_fails_reads_and_writes() {
    let (channel, mut router) = channel().await;
    let (mut stream, _) = circuit(&channel, &mut router, true).await;

    drop(router);
    let error = stream.read(&mut [0; 8]).await.unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(stream.write(b"x").await.is_err());
    assert!(!channel.is_open());
}

#[tokio::test(start_paused = true)]
async fn writer_waits_while_the_router_does_not_read() {
    let (channel, mut router) = channel().await;
    let (mut stream, mut host) = circuit(&channel, &mut router, false).await;
    let plenty = vec![7; 4 * 1024 * 1024];

    let mut writing = Box::pin(stream.write_all(&plenty));
    let unread = timeout(Duration::from_secs(5), &mut writing).await;
    assert!(unread.is_err(), "4 MiB do not fit into the queue");

    let mut received = 0;
    let reading = async {
        while received < plenty.len() {
            received += host.open(&router.recv().await).len();
        }
    };
    let (written, ()) = tokio::join!(writing, reading);
    written.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stream_nobody_reads_is_closed_and_the_others_go_on() {
    let (channel, mut router) = channel().await;
    let (mut idle, mut idle_host) = circuit(&channel, &mut router, false).await;
    let (mut busy, mut busy_host) = circuit(&channel, &mut router, false).await;
    let started = tokio::time::Instant::now();

    let mut received = [0; 5];
    let flood = async {
        for _ in 0..200 {
            router.send(idle_host.data(&[0; 31 * 1024])).await;
        }
        router.send(busy_host.data(b"hello")).await;
        router.recv().await
    };
    let (notice, read) = tokio::join!(flood, busy.read_exact(&mut received));

    read.unwrap();
    assert_eq!(&received, b"hello");
    assert!(started.elapsed() >= Duration::from_secs(30), "it was given time");
    assert_eq!(notice.content_type, content::STATE_CLOSED);
    assert_eq!(notice.headers.u32(header::CONN_ID), Some(idle_host.id));
    let mut kept = Vec::new();
    let error = idle.read_to_end(&mut kept).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    assert!(kept.len() <= 4 * 1024 * 1024, "{} bytes were kept", kept.len());
}
