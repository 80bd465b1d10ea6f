//! Upgrades that are none of ours.
//!
//! Copied configurations of proxies ask for an upgrade with every request, and some clients ask for one to
//! HTTP/2 with their first. A server may ignore that (RFC 9110, section 7.8), and actix-http 3.20 does not: it says
//! `connection: upgrade` in its answer and hangs up, and takes whatever comes behind `Upgrade: websocket` for the new
//! protocol. So such a request is made one that asks for nothing, before actix-http sees it. After one that asked for a
//! WebSocket the connection ends: a proxy that did not look at the answer would pass on as its frames what
//! we took for requests.

use memchr::memchr;

use crate::protocol::Protocols;

/// What stands in the place of `Upgrade:websocket`.
const LAST: &[u8; 16] = b"Connection:close";

/// Blanks out what asks for an upgrade in `head`, the first bytes of a request. What it does not see, for it came in
/// pieces that end within such a line, costs the connection alone.
pub(super) fn ignore_upgrade(head: &mut [u8], protocols: Protocols) {
    let Some(end) = memchr(b'\n', head) else { return };
    let (first, mut rest) = head.split_at_mut(end + 1);
    // Most heads have no such line, so that this is not asked.
    let mut is_ours = None;
    loop {
        let length = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let (line, behind) = rest.split_at_mut(length);
        match line {
            [] | [b'\r' | b'\n', ..] => return,
            [b'c' | b'C' | b'u' | b'U', ..]
                if is_about_upgrades(line)
                    && *is_ours.get_or_insert_with(|| asks_for_ours(first, protocols)) =>
            {
                return;
            }
            [b'c' | b'C', ..] => blank_option(value_of(line, b"connection")),
            [b'u' | b'U', ..] => {
                let value = value_of(line, b"upgrade");
                let is_websocket = value.trim_ascii_start().eq_ignore_ascii_case(b"websocket");
                value.fill(b' ');
                if is_websocket && let Some(whole) = line.first_chunk_mut() {
                    *whole = *LAST;
                }
            }
            _ => {}
        }
        rest = behind;
    }
}

/// Whether a line is of a field by which an upgrade is asked for.
fn is_about_upgrades(line: &[u8]) -> bool {
    let is = |name: &[u8]| {
        line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name)
    };
    is(b"connection") || is(b"upgrade")
}

/// Whether a request that begins so may upgrade.
fn asks_for_ours(first: &[u8], protocols: Protocols) -> bool {
    // An upgrade within HTTP/1.0 is to be ignored (RFC 9110, section 7.8).
    !first.trim_ascii_end().ends_with(b"HTTP/1.0")
        && target(first).is_some_and(|path| is_websocket_path(path, protocols))
}

/// Whether a WebSocket can be opened at this path.
fn is_websocket_path(path: &[u8], protocols: Protocols) -> bool {
    std::str::from_utf8(path).is_ok_and(|path| protocols.websocket_at(path).is_some())
}

/// The path that the first line of a request asks for.
fn target(line: &[u8]) -> Option<&[u8]> {
    let target = line.split(|byte| *byte == b' ').nth(1)?;
    let path = match target.iter().position(|byte| *byte == b'/')? {
        0 => target,
        // The absolute form (RFC 9112, section 3.2.2): behind the scheme and the authority.
        at => {
            let authority = target.get(at + 2..)?;
            authority.get(authority.iter().position(|byte| *byte == b'/')?..)?
        }
    };
    path.split(|byte| *byte == b'?').next()
}

/// The value in a line, where that is of the field of this name; else nothing.
fn value_of<'a>(line: &'a mut [u8], name: &[u8]) -> &'a mut [u8] {
    match line.split_at_mut_checked(name.len()) {
        Some((named, [b':', value @ ..])) if named.eq_ignore_ascii_case(name) => {
            let end = value.trim_ascii_end().len();
            &mut value[..end]
        }
        _ => &mut [],
    }
}

/// Blanks out the option of a connection that names the upgrade.
fn blank_option(value: &mut [u8]) {
    for option in value.split_mut(|byte| *byte == b',') {
        if option.trim_ascii().eq_ignore_ascii_case(b"upgrade") {
            option.fill(b' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PROTOCOLS;

    fn ignored(head: &str) -> String {
        let mut head = head.replace('|', "\r\n").into_bytes();
        ignore_upgrade(&mut head, PROTOCOLS);
        String::from_utf8(head).unwrap().replace("\r\n", "|")
    }

    #[test]
    fn what_asks_for_an_upgrade_is_blanked_out_and_nothing_else() {
        for (head, expected) in [
            (
                "POST /v1/events HTTP/1.1|Host: a|Connection: upgrade|Content-Length: 1||1",
                "POST /v1/events HTTP/1.1|Host: a|Connection:        |Content-Length: 1||1",
            ),
            (
                "GET / HTTP/1.1|connection: keep-alive, Upgrade|UPGRADE:h2c|HTTP2-Settings: AA||",
                "GET / HTTP/1.1|connection: keep-alive,        |UPGRADE:   |HTTP2-Settings: AA||",
            ),
            (
                "GET /v1/wso HTTP/1.1|Upgrade-Insecure-Requests: 1|Upgrade: websocket||",
                "GET /v1/wso HTTP/1.1|Upgrade-Insecure-Requests: 1|Connection:close  ||",
            ),
            (
                "GET / HTTP/1.1|Upgrade:WebSocket|Connection: upgrade||",
                "GET / HTTP/1.1|Connection:close |Connection:        ||",
            ),
            // A body is nobody's to change.
            (
                "POST /a HTTP/1.1|Content-Length: 19||Connection: upgrade",
                "POST /a HTTP/1.1|Content-Length: 19||Connection: upgrade",
            ),
            (
                "GET /v1/ws HTTP/1.0|Connection: upgrade|Upgrade: websocket||",
                "GET /v1/ws HTTP/1.0|Connection:        |Connection:close  ||",
            ),
            ("GET / HTTP/1.1|Connection: close|||", "GET / HTTP/1.1|Connection: close|||"),
            ("GET / HTTP/1.1|Conn", "GET / HTTP/1.1|Conn"),
            ("", ""),
        ] {
            assert_eq!(ignored(head), expected);
        }
    }

    #[test]
    fn an_upgrade_where_it_is_ours_is_left_alone() {
        for target in ["/v1/ws", "/v1/ws?topic=a/b", "http://a.example/v1/ws?topic=a"] {
            let head = format!("GET {target} HTTP/1.1|Connection: upgrade|Upgrade: websocket||");
            assert_eq!(ignored(&head), head);
        }
    }
}
