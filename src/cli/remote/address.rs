//! Where a broker is, and what a proxy before it is told.

use actix_web::http::Uri;
use actix_web::http::header::HeaderValue;
use base64::prelude::{BASE64_STANDARD, Engine};

use super::super::Failure;

/// The variable that holds what a proxy asks for.
const LOGIN: &str = "FANFARE_PROXY_LOGIN";

/// Where the broker is.
#[derive(Debug, Clone, clap::Args)]
pub struct UrlArgs {
    /// The broker's URL, with USER:PASSWORD@ before its host where a proxy asks for them (better set
    /// FANFARE_PROXY_LOGIN) [default: $FANFARE_URL, or http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Where the broker is, and what a proxy before it is told.
#[derive(Debug)]
pub(super) struct Address {
    /// Without a slash at its end.
    pub(super) base: String,
    /// The value of `Authorization` for the proxy.
    pub(super) login: Option<HeaderValue>,
}

impl UrlArgs {
    /// As if it were given.
    pub fn of(url: String) -> Self {
        Self { url: Some(url) }
    }

    /// The URL that the arguments or the environment name, without a slash at its end: of a broker before which
    /// nobody asks for a password.
    pub fn base(self) -> Result<String, Failure> {
        match self.address()? {
            Address { base, login: None } => Ok(base),
            _ => Err(Failure::Usage(
                "this asks a broker itself, and not a proxy with a password".into(),
            )),
        }
    }

    pub(super) fn address(self) -> Result<Address, Failure> {
        let url = self.url.or_else(|| variable("FANFARE_URL"));
        let (base, user) = base(url.as_deref().unwrap_or("http://127.0.0.1:8080"))?;
        let login = user.map(|user| decoded(&user)).or_else(|| Some(variable(LOGIN)?.into_bytes()));
        Ok(Address { base, login: login.map(|login| basic(&login)).transpose()? })
    }
}

/// The value of `Authorization` that says `USER:PASSWORD` (RFC 7617).
fn basic(login: &[u8]) -> Result<HeaderValue, Failure> {
    if !login.contains(&b':') {
        let reason = "what a proxy is told has the form USER:PASSWORD";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(login)))
        .map_err(Failure::failed)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A part of a URL without its percent-encoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| *first == b'%');
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &behind[2..];
            }
            None => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    decoded
}

/// The credential that a flag or a variable holds. It is never shown.
pub fn credential(flag: Option<String>, name: &str) -> Result<Option<String>, Failure> {
    let flag = flag.map(|text| text.trim().to_owned());
    let credential = flag.or_else(|| variable(name)).filter(|text| !text.is_empty());
    match credential {
        Some(text) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err(Failure::Usage(
            format!("the credential (see {name}) has characters that no header can carry"),
        )),
        credential => Ok(credential),
    }
}

/// What a variable holds, without white space at its ends, as everywhere in the configuration.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The URL without a slash at its end, with http for ws, and who it says asks.
fn base(url: &str) -> Result<(String, Option<String>), Failure> {
    let wrong = |what: &str| {
        Failure::Usage(format!("the broker's URL {what}; the form is http://HOST[:PORT]"))
    };
    let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    let scheme = match uri.scheme_str() {
        Some("http" | "ws") => "http",
        Some("https" | "wss") => "https",
        _ => return Err(wrong("has another scheme than http, https, ws or wss")),
    };
    let authority = uri.authority().filter(|_| uri.host().is_some_and(|host| !host.is_empty()));
    let authority = authority.ok_or_else(|| wrong("has no host"))?.as_str();
    let (user, authority) = match authority.rsplit_once('@') {
        Some((user, authority)) => (Some(user.to_owned()), authority),
        None => (None, authority),
    };
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    Ok((format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')), user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_perhaps_a_path() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("wss://push.example/live/", "https://push.example/live"),
            ("ws://[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(base(url).unwrap(), (expected.to_owned(), None));
        }
        for url in ["", "push.example", "/x", "ftp://a", "http://", "http://a/?b"] {
            assert!(matches!(base(url), Err(Failure::Usage(_))), "{url}");
        }
    }

    fn login(url: &str) -> Option<Vec<u8>> {
        let login = UrlArgs::of(url.to_owned()).address().unwrap().login?;
        let encoded = login.to_str().unwrap().strip_prefix("Basic ").unwrap();
        Some(BASE64_STANDARD.decode(encoded).unwrap())
    }

    #[test]
    fn who_a_url_says_asks_is_told_a_proxy_and_shows_nowhere() {
        assert_eq!(login("http://ada:pass@a:80/live").as_deref(), Some(&b"ada:pass"[..]));
        let odd = login("http://a%40b:p%3Aq%25%C3%A9%@a");
        assert_eq!(odd.as_deref(), Some("a@b:p:q%é%".as_bytes()));
        let address = UrlArgs::of("http://ada:hunter2@push.example/".to_owned()).address().unwrap();
        assert_eq!(address.base, "http://push.example");
        assert!(!format!("{address:?}").contains("hunter2"), "{address:?}");
        let Err(Failure::Usage(text)) = UrlArgs::of("http://hunter2@a".into()).address() else {
            panic!("a password is needed too");
        };
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_credential_that_no_header_can_carry_is_refused_unseen() {
        let Err(Failure::Usage(text)) = credential(Some("hunter 2".into()), "NAME") else {
            panic!("accepted");
        };
        assert!(!text.contains("hunter"));
        for good in ["good", " good\r\n"] {
            let read = credential(Some(good.into()), "NAME").unwrap();
            assert_eq!(read.as_deref(), Some("good"));
        }
    }
}
