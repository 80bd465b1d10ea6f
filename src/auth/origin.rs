//! Which pages may use the broker.
//!
//! A browser tells the origin (RFC 6454) of the page behind a request; programs send none. A page
//! from the broker's own address passes, any other must be listed. While the broker is open it also
//! looks at `Host`, because a foreign name that resolves to this machine (DNS rebinding) makes a
//! foreign page look like one of our own.

use std::net::IpAddr;

use crate::model::{Code, Problem};

/// Refuses a request whose page may not use the broker. `origin` and `host` are the headers as they
/// came; `open` says that no credential is configured; `allowed` are the listed origins.
pub fn check_origin(
    origin: Option<&str>,
    host: Option<&str>,
    scheme: &str,
    open: bool,
    allowed: &[String],
) -> Result<(), Problem> {
    let Some(origin) = origin else { return Ok(()) };
    if allowed.iter().any(|listed| listed == origin) {
        return Ok(());
    }
    let own = host.filter(|host| !host.is_empty()).is_some_and(|host| {
        let same = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
        same.is_some_and(|same| same.eq_ignore_ascii_case(host)) && (!open || is_loopback(host))
    });
    if own {
        return Ok(());
    }
    let detail = "pages of this origin are not allowed; list it in server.allowed_origins";
    Err(Problem::new(Code::OriginNotAllowed, detail))
}

/// Whether a `Host` header names this machine.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').unwrap_or_default(),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    if !port.is_empty() && port.strip_prefix(':').is_none_or(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    let is_localhost =
        name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    is_localhost || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_and_listed_origins_pass() {
        let allowed = ["https://dash.example".to_owned()];
        let own = "127.0.0.1:8080";
        for (origin, host, open, passes) in [
            (None, None, true, true),
            (None, Some("evil.example"), true, true),
            (Some("http://127.0.0.1:8080"), Some(own), true, true),
            (Some("http://localhost:8080"), Some("localhost:8080"), true, true),
            (Some("http://[::1]:8080"), Some("[::1]:8080"), true, true),
            (Some("http://evil.example:8080"), Some("evil.example:8080"), true, false),
            (Some("http://localhost.evil.example"), Some("localhost.evil.example"), true, false),
            (Some("http://127.0.0.1.evil.example"), Some("127.0.0.1.evil.example"), true, false),
            (Some("http://push.example"), Some("push.example"), false, true),
            (Some("http://127.0.0.1:8081"), Some(own), true, false),
            (Some("https://127.0.0.1:8080"), Some(own), true, false),
            (Some("http://127.0.0.1:8080"), None, true, false),
            (Some("null"), Some(own), true, false),
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
            let result = check_origin(origin, host, "http", open, &allowed);
            assert_eq!(result.is_ok(), passes, "{origin:?} at {host:?}, open: {open}");
        }
    }
}
