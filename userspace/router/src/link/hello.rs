//! The first frame of each end of a connection.

use std::collections::BTreeSet;

use bytes::BytesMut;
use nightgate_wire::{
    Headers,
    link::{Frame, VERSION, header},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{LinkConfig, LinkError, Side, stream::FrameReader};

/// Says hello and hears the other end's: both must speak the same version, and the dialer must dial a group that
/// the listener listens for.
pub(super) async fn say_hello<R, W>(
    side: Side,
    links: &LinkConfig,
    reader: &mut FrameReader<R>,
    writer: &mut W,
) -> Result<(), LinkError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let ours = match side {
        Side::Dialer => &links.dial,
        Side::Listener => &links.listen,
    };
    let mut wire = BytesMut::new();
    Frame::Hello(headers(ours)).encode(&mut wire);
    writer.write_all(&wire).await?;
    writer.flush().await?;
    let Frame::Hello(hello) = reader.next().await? else { return Err(LinkError::Hello) };
    check(ours, &hello)
}

fn headers(groups: &BTreeSet<String>) -> Headers {
    let mut headers = Headers::new();
    headers.put_u32(header::VERSION, VERSION);
    headers.put_text(header::GROUPS, &joined(groups, "\n"));
    headers
}

fn check(ours: &BTreeSet<String>, hello: &Headers) -> Result<(), LinkError> {
    if hello.u32(header::VERSION) != Some(VERSION) {
        return Err(LinkError::Hello);
    }
    let theirs = hello.text(header::GROUPS).unwrap_or_default();
    if !theirs.split('\n').any(|group| ours.contains(group)) {
        return Err(LinkError::Groups {
            ours: joined(ours, ", "),
            theirs: theirs.replace('\n', ", "),
        });
    }
    Ok(())
}

fn joined(groups: &BTreeSet<String>, separator: &str) -> String {
    groups.iter().map(String::as_str).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn routers_link_where_they_have_a_group_in_common() {
        let check =
            |ours: &[&str], theirs: &[&str]| check(&groups(ours), &headers(&groups(theirs)));
        assert!(check(&["default"], &["default"]).is_ok());
        assert!(check(&["paris", "rome"], &["oslo", "rome"]).is_ok());
        let refused = check(&["paris"], &["oslo", "rome"]).unwrap_err().to_string();
        assert!(refused.contains("oslo, rome") && refused.contains("paris"), "{refused}");
        assert!(check(&[], &["rome"]).is_err());
        assert!(check(&["rome"], &[]).is_err());
    }

    #[test]
    fn another_version_is_refused() {
        let mut hello = headers(&groups(&["default"]));
        hello.put_u32(header::VERSION, VERSION + 1);
        assert!(matches!(check(&groups(&["default"]), &hello), Err(LinkError::Hello)));
    }
}
