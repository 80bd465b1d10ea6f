//! The origin of a page, as browsers send it (RFC 6454, section 6).
//!
//! Compared exactly with what a request says, so it is brought into the very form that browsers use:
//! lower case, no default port, IPv6 in its short form. Anything that could never match is refused.

use std::net::Ipv6Addr;

/// Why a text can't be the origin of a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// `*`.
    #[error("would let every page in; list each origin as scheme://host[:port]")]
    Everything,
    /// `null`, which any page can make its browser say.
    #[error("is what any page may call itself; list each origin as scheme://host[:port]")]
    Null,
    /// A URL with something behind its host and port.
    #[error("has more than an origin; write {0:?}")]
    TooMuch(String),
    /// A name that is not in the ASCII form that browsers send.
    #[error("has a host that is not ASCII; write its xn-- form")]
    NotAscii,
    /// Anything else.
    #[error("is not an origin; the form is scheme://host[:port], such as https://app.example")]
    Malformed,
}

/// Reads an origin into the form that browsers send.
pub fn parse(text: &str) -> Result<String, OriginError> {
    match text {
        "*" => return Err(OriginError::Everything),
        "null" => return Err(OriginError::Null),
        _ if !text.is_ascii() => return Err(OriginError::NotAscii),
        _ => {}
    }
    let (scheme, rest) = text.split_once("://").ok_or(OriginError::Malformed)?;
    let (authority, more) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let scheme = scheme.to_ascii_lowercase();
    let begins_with_letter = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    if !begins_with_letter
        || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    {
        return Err(OriginError::Malformed);
    }
    let (host, port) = split_port(authority)?;
    let port = match (scheme.as_str(), port) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    let origin = format!("{scheme}://{}{port}", host_as_sent(host)?);
    if more.is_empty() { Ok(origin) } else { Err(OriginError::TooMuch(origin)) }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), OriginError> {
    let port_at = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|colon| bracket + colon),
        None => authority.find(':'),
    };
    let Some(port_at) = port_at else { return Ok((authority, None)) };
    let digits = Some(&authority[port_at + 1..]).filter(|port| !port.starts_with('+'));
    match digits.and_then(|digits| digits.parse().ok()) {
        None | Some(0) => Err(OriginError::Malformed),
        port => Ok((&authority[..port_at], port)),
    }
}

fn host_as_sent(host: &str) -> Result<String, OriginError> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| OriginError::Malformed)?;
        return Ok(format!("[{address}]"));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() || !host.bytes().all(legal) {
        return Err(OriginError::Malformed);
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_take_the_form_that_browsers_send() {
        for (typed, sent) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("https://app.example:80", "https://app.example:80"),
            ("http://[0:0:0:0:0:0:0:1]:8080", "http://[::1]:8080"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ] {
            assert_eq!(parse(typed).as_deref(), Ok(sent), "{typed}");
        }
    }

    #[test]
    fn what_is_not_an_origin_is_refused_with_the_right_form() {
        use OriginError::{Everything, Malformed, NotAscii, Null, TooMuch};
        let more = |origin: &str| TooMuch(origin.to_owned());
        for (text, error) in [
            ("*", Everything),
            ("null", Null),
            ("https://app.example/", more("https://app.example")),
            ("https://app.example:8443/path?x", more("https://app.example:8443")),
            ("app.example", Malformed),
            ("https://*.example", Malformed),
            ("https://", Malformed),
            ("://app.example", Malformed),
            ("https://user@app.example", Malformed),
            ("https://app.example:", Malformed),
            ("https://app.example:0", Malformed),
            ("https://app.example:99999", Malformed),
            ("https://app.example:+80", Malformed),
            ("https://[::1", Malformed),
            ("https://app example", Malformed),
            ("https://bücher.example", NotAscii),
            ("", Malformed),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
}
