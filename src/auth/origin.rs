//! Which pages may use the broker.
//!
//! A browser tells the origin (RFC 6454) of the page behind a request; programs send none. A page
//! from the broker's own address passes, any other must be listed. Scheme and authority are compared as
//! such: what may be written in several ways (a default port, an address of IPv6) is the same in each. While
//! the broker is open, pages of this machine pass on whatever port, such as those of a development server. It then also
//! looks at the host, because a foreign name that
//! resolves to this machine (DNS rebinding) makes a foreign page look like one of our own. Browsers tell no origin with
//! what such a page reads from its own address, so there the host alone tells.

use std::net::{IpAddr, Ipv6Addr};

use crate::model::{Code, Problem};

/// How the broker is asked: over TLS or not. What is another scheme is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`, and `ws`, which is the same to a server (RFC 6455, section 3).
    Http,
    /// `https`, and `wss`.
    Https,
}

impl Scheme {
    /// Reads a scheme, in any case of its letters (RFC 3986, section 3.1).
    pub fn parse(text: &str) -> Option<Self> {
        let is = |names: [&str; 2]| names.iter().any(|name| name.eq_ignore_ascii_case(text));
        match text {
            _ if is(["http", "ws"]) => Some(Scheme::Http),
            _ if is(["https", "wss"]) => Some(Scheme::Https),
            _ => None,
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// A host and a port, brought into one form (RFC 9110, section 4.2.3).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    host: Host,
    port: u16,
}

#[derive(Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// In lower case.
    Name(String),
}

impl Authority {
    /// Reads `host`, `host:` or `host:port`; `None` for anything else, also where it names a user.
    pub(super) fn parse(text: &str, scheme: Scheme) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                (Host::Address(address.parse::<Ipv6Addr>().ok()?.into()), port)
            }
            None => {
                let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                (Host::parse(name)?, port)
            }
        };
        let port = match port.strip_prefix(':').unwrap_or(port) {
            "" => scheme.default_port(),
            // A port has a colon before it, and digits alone.
            digits if digits.len() < port.len() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether it is of this machine, for whoever resolves it.
    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Address(address) => address.is_loopback(),
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }

    /// Whether somebody may have a name server say that it is this machine: an address is what it is, and nobody can be
    /// given a name of one label.
    fn may_be_rebound(&self) -> bool {
        match &self.host {
            Host::Address(_) => false,
            Host::Name(name) => name.contains('.') && !self.is_loopback(),
        }
    }
}

impl Host {
    /// Reads an address of IPv4, or a name of letters, digits, `-`, `.` and `_`.
    fn parse(text: &str) -> Option<Self> {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_legal) {
            return None;
        }
        let address = text.parse().map(Host::Address);
        Some(address.unwrap_or_else(|_| Host::Name(text.to_ascii_lowercase())))
    }
}

/// Which page makes a request, as far as its browser says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// None, or one that the browser does not name.
    Unknown,
    /// One from the broker's own address.
    Own,
    /// One of a listed origin, or of this machine while the broker is open.
    Listed,
}

/// What is said to who asks an open broker by a name that is none of this machine.
const REBOUND: &str = "while the broker is open, it is asked by a name of this machine: ask 127.0.0.1 or localhost, configure \
     `auth`, or list an origin of the name in server.allowed_origins";

/// Refuses a request whose page may not use the broker. `origin` is the header as it came; `host` and
/// `scheme` are what was asked for, where that is known; `open` says that no credential is configured;
/// `allowed` are the listed origins, in the form that browsers send.
pub(super) fn check_origin(
    origin: Option<&str>,
    host: Option<&str>,
    scheme: Option<Scheme>,
    open: bool,
    allowed: &[String],
) -> Result<Page, Problem> {
    let Some(origin) = origin else {
        return match host.filter(|host| open && !is_known(host, allowed)) {
            None => Ok(Page::Unknown),
            Some(_) => Err(Problem::new(Code::OriginNotAllowed, REBOUND)),
        };
    };
    if own(origin, host, scheme).is_some_and(|own| !open || own.is_loopback()) {
        return Ok(Page::Own);
    }
    // Asked by another name, "this machine" would be that of whoever looks at the page, behind a proxy.
    let of_this_machine = open && is_of_this_machine(origin);
    if allowed.iter().any(|listed| listed == origin) || of_this_machine && host.is_some_and(is_here)
    {
        return Ok(Page::Listed);
    }
    let is_own_name = |host: &str| origin.split_once("://").is_some_and(|(_, of)| of == host);
    let otherwise = match host {
        Some(_) if of_this_machine => {
            ", or ask 127.0.0.1 or localhost, where pages of this machine are let in while the broker is open"
        }
        Some(_) if own(origin, host, scheme).is_some() => {
            ", or configure `auth`: while the broker is open, its own pages are let in on this machine alone"
        }
        // Only a proxy knows by which scheme, or under which name, its clients ask.
        Some(host) if is_own_name(host) => {
            ", or the proxy that speaks TLS for the broker in server.trusted_proxies"
        }
        _ => "",
    };
    let detail = format!(
        "pages of this origin are not allowed: list it in server.allowed_origins{otherwise}"
    );
    Err(Problem::new(Code::OriginNotAllowed, detail).allowed_by("server.allowed_origins"))
}

/// Whether an origin is of a page that this machine serves, on whatever port.
pub(super) fn is_of_this_machine(origin: &str) -> bool {
    let parts = origin.split_once("://");
    let authority = parts.and_then(|(scheme, of)| Authority::parse(of, Scheme::parse(scheme)?));
    authority.is_some_and(|authority| authority.is_loopback())
}

/// Whether the host that was asked for is this machine.
fn is_here(host: &str) -> bool {
    // No port matters, so neither does the scheme.
    Authority::parse(host, Scheme::Http).is_some_and(|asked| asked.is_loopback())
}

/// Whether the host that was asked for is none that somebody may have made this machine's, or a listed one.
fn is_known(host: &str, allowed: &[String]) -> bool {
    // What ends in a number is an address to a browser, whatever it is (URL standard, section 3.5).
    if host.bytes().all(|byte| byte.is_ascii_digit() || b".:".contains(&byte)) {
        return true;
    }
    // No port matters, so neither does the scheme.
    let parse = |text| Authority::parse(text, Scheme::Http);
    let Some(asked) = parse(host) else { return false };
    let mut listed = allowed.iter().filter_map(|origin| parse(origin.split_once("://")?.1));
    !asked.may_be_rebound() || listed.any(|listed| listed.host == asked.host)
}

/// The authority that was asked for, where it is that of the origin too, by the same scheme.
fn own(origin: &str, host: Option<&str>, scheme: Option<Scheme>) -> Option<Authority> {
    let (of_origin, authority) = origin.split_once("://")?;
    let scheme = scheme.filter(|scheme| Scheme::parse(of_origin) == Some(*scheme))?;
    let asked = Authority::parse(host?, scheme)?;
    (Authority::parse(authority, scheme)? == asked).then_some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_and_listed_origins_pass() {
        let (allowed, http) = (["https://dash.example".to_owned()], Some(Scheme::Http));
        let own = "127.0.0.1:8080";
        for (origin, host, open, passes) in [
            (None, None, true, true),
            (None, Some("evil.example"), true, false),
            (None, Some("evil.example:8080"), true, false),
            (None, Some("evil.example"), false, true),
            (None, Some("localhost.evil.example"), true, false),
            (None, Some("user@127.0.0.1"), true, false),
            (None, Some("dash.example:8080"), true, true),
            (None, Some("app.localhost:8080"), true, true),
            (None, Some("192.0.2.1:8080"), true, true),
            (None, Some("127.1:8080"), true, true),
            (None, Some("[::1]:8080"), true, true),
            (None, Some("broker"), true, true),
            (Some("http://127.0.0.1:8080"), Some(own), true, true),
            (Some("http://localhost:8080"), Some("localhost:8080"), true, true),
            (Some("http://[::1]:8080"), Some("[::1]:8080"), true, true),
            (Some("http://evil.example:8080"), Some("evil.example:8080"), true, false),
            (Some("http://localhost.evil.example"), Some("localhost.evil.example"), true, false),
            (Some("http://127.0.0.1.evil.example"), Some("127.0.0.1.evil.example"), true, false),
            (Some("http://push.example"), Some("push.example"), false, true),
            (Some("http://127.0.0.1:8081"), Some(own), true, true),
            (Some("https://127.0.0.1:8080"), Some(own), true, true),
            (Some("http://localhost:5173"), Some(own), true, true),
            (Some("http://[::1]:5173"), Some("localhost:8080"), true, true),
            (Some("http://127.9.9.9"), Some("app.localhost:8080"), true, true),
            (Some("http://localhost:5173"), Some(own), false, false),
            (Some("http://localhost:5173"), Some("push.example"), true, false),
            (Some("http://localhost:5173"), Some("dash.example"), true, false),
            (Some("http://localhost:5173"), Some("192.0.2.1:8080"), true, false),
            (Some("http://127.0.0.1:8080"), None, true, false),
            (Some("http://user@localhost:5173"), Some(own), true, false),
            (Some("http://localhost:5173/"), Some(own), true, false),
            (Some("http://localhost.:5173"), Some(own), true, false),
            (Some("http://[::ffff:127.0.0.1]:5173"), Some(own), true, false),
            (Some("http://127.0.0.1:8081"), Some(own), false, false),
            (Some("http://app.localhost:3000"), Some("evil.example"), true, false),
            (Some("null"), Some(own), true, false),
            (Some("ftp://127.0.0.1"), Some(own), true, false),
            (Some(""), Some(""), true, false),
            (Some("http://"), Some(""), false, false),
            (Some("https://dash.example"), Some(own), true, true),
            (Some("https://dash.example.evil.example"), Some(own), true, false),
            (Some("https://dash.example:444"), Some(own), true, false),
            (Some("http://dash.example"), Some(own), true, false),
            (Some("*"), Some(own), true, false),
            (Some("http://app.localhost:8080"), Some("app.localhost:8080"), true, true),
            (Some("http://[::1].evil.example"), Some("[::1].evil.example"), true, false),
            (
                Some("http://127.0.0.1:80@evil.example"),
                Some("127.0.0.1:80@evil.example"),
                true,
                false,
            ),
            (Some("http://notlocalhost"), Some("notlocalhost"), true, false),
            (Some("http://128.0.0.1"), Some("128.0.0.1"), true, false),
            (Some("http://[::2]"), Some("[::2]"), true, false),
            (Some("http://0.0.0.0:8080"), Some("0.0.0.0:8080"), true, false),
            (Some("https://dash.example/"), Some(own), true, false),
            (Some("https://dash.example:443"), Some(own), true, false),
            (Some("https://dash.example."), Some(own), true, false),
            (Some("https://DASH.example"), Some(own), true, false),
            (Some("https://user@dash.example"), Some(own), true, false),
            (Some("https://sub.dash.example"), Some(own), true, false),
            (Some("https://dash.example https://evil.example"), Some(own), true, false),
            (Some("https://evil.example https://dash.example"), Some(own), true, false),
            (Some(" https://dash.example"), Some(own), true, false),
            (Some("https://dash.example\0"), Some(own), true, false),
            (Some("file://"), Some(own), true, false),
            (Some("chrome-extension://dash.example"), Some(own), true, false),
            (Some("//dash.example"), Some(own), true, false),
        ] {
            let result = check_origin(origin, host, http, open, &allowed);
            assert_eq!(result.is_ok(), passes, "{origin:?} at {host:?}, open: {open}");
        }
    }

    #[test]
    fn a_refusal_says_what_would_let_the_page_in() {
        let detail = |origin, host, open| {
            check_origin(Some(origin), Some(host), Some(Scheme::Http), open, &[])
                .unwrap_err()
                .detail
        };
        let foreign = detail("https://evil.example", "push.example", false);
        assert!(foreign.ends_with("list it in server.allowed_origins"), "{foreign}");
        let behind_tls = detail("https://push.example", "push.example", false);
        assert!(behind_tls.contains("server.trusted_proxies"), "{behind_tls}");
        let open = detail("http://push.example", "push.example", true);
        assert!(open.contains("configure `auth`"), "{open}");
        let elsewhere = detail("http://localhost:5173", "push.example", true);
        assert!(elsewhere.contains("ask 127.0.0.1 or localhost"), "{elsewhere}");
    }

    #[test]
    fn an_authority_is_the_same_however_it_is_written() {
        for (one, other, is_same) in [
            ("a.example", "A.Example:80", true),
            ("a.example:", "a.example:0080", true),
            ("[::1]", "[0:0::1]:80", true),
            ("[::ffff:1.2.3.4]", "[::ffff:102:304]", true),
            ("[::ffff:1.2.3.4]", "1.2.3.4", false),
            ("1.2.3.4", "1.2.3.4:80", true),
            ("a.example", "a.example.", false),
            ("a.example:80", "a.example:81", false),
            ("a.example", "b.example", false),
        ] {
            let parse = |text| Authority::parse(text, Scheme::Http).expect(text);
            assert_eq!(parse(one) == parse(other), is_same, "{one} {other}");
        }
        let ports = [("a", 443), ("a:80", 80), ("a:443", 443)];
        for (text, port) in ports {
            assert_eq!(Authority::parse(text, Scheme::Https).map(|of| of.port), Some(port));
        }
        for text in [
            "",
            ":80",
            "a:+80",
            "a:80a",
            "a:65536",
            "a:80:80",
            "a b",
            "u@a",
            "a/b",
            "[::1",
            "::1",
            "[::1]80",
            "[::1%eth0]",
            "[1.2.3.4]",
            "b\u{fc}cher",
            "%61",
        ] {
            assert_eq!(Authority::parse(text, Scheme::Http), None, "{text}");
        }
    }

    #[test]
    fn schemes_pair_and_unknown_ones_are_nobodys() {
        let passes = |origin, host, scheme| {
            check_origin(Some(origin), Some(host), Scheme::parse(scheme), false, &[]).is_ok()
        };
        for (origin, host, scheme, expected) in [
            ("https://a", "a:443", "https", true),
            ("https://a:443", "a", "WSS", true),
            ("wss://a", "a", "https", true),
            ("http://a", "a:80", "ws", true),
            ("https://a", "a:80", "https", false),
            ("https://a:80", "a:80", "http", false),
            ("http://a", "a", "https", false),
            ("http://a", "a", "gopher", false),
            ("gopher://a", "a", "gopher", false),
            ("http://a", "a", "", false),
        ] {
            assert_eq!(passes(origin, host, scheme), expected, "{origin} {host} {scheme}");
        }
    }
}
