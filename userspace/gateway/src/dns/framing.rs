//! DNS messages on a stream: each after its length in two bytes (RFC 1035 section 4.2.2).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The next message, at most 65,535 bytes; `None` where the stream ends between messages.
///
/// # Errors
/// The stream fails, or ends within a message.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes a message and its length at once (RFC 7766 section 8).
///
/// # Errors
/// The stream fails, or the message has more than 65,535 bytes ([`io::ErrorKind::InvalidInput`]).
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let invalid = |_too_long| io::Error::from(io::ErrorKind::InvalidInput);
    let length = u16::try_from(message.len()).map_err(invalid)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_as_they_were_written_and_half_a_message_is_none() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        for message in [&b""[..], b"one", &[7; 65_535]] {
            write(&mut ours, message).await.unwrap();
            assert_eq!(read(&mut theirs).await.unwrap().as_deref(), Some(message));
        }
        let refused = write(&mut ours, &[0; 65_536]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        for cut in [&b"\x00"[..], b"\x00\x05abc"] {
            let mut stream = cut;
            let error = read(&mut stream).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut:?}");
        }
        assert_eq!(read(&mut &b""[..]).await.unwrap(), None);
    }
}
