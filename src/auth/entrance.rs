//! By which way a request comes in: over TLS or not, through a reverse proxy or not.
//!
//! What a request says of its client (the address, and the scheme and host that were asked for) is
//! believed where a listed proxy says it, and is otherwise what the connection itself shows. Only one
//! family of headers is read, for a proxy passes on those that it does not set.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use actix_http::RequestHead;
use actix_web::http::Version;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use ipnet::IpNet;

use super::origin::{Authority, Scheme};
use crate::config::{self, ProxyHeaders};
use crate::http::{self, grammar};
use crate::model::{Code, Problem, Trace};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How requests come in by one listener.
#[derive(Debug, Clone)]
pub struct Entrance {
    scheme: Scheme,
    proxies: Arc<[IpNet]>,
    headers: ProxyHeaders,
    is_traced: bool,
    is_outside: bool,
}

/// What is known of who sent a request, and of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its address.
    pub address: Option<IpAddr>,
    /// The scheme it asked by; nothing where a proxy named one that is none of ours.
    pub scheme: Option<Scheme>,
    /// The host it asked for, with a port or without.
    pub host: Option<&'a str>,
}

/// What one proxy says of the request that it passed on.
#[derive(Debug, Clone, Copy, Default)]
struct Hop<'a> {
    client: Option<&'a str>,
    scheme: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Hop<'a> {
    /// Reads an element of `Forwarded`. One with quotes that don't match says nothing: it may have swallowed
    /// what the next proxy said.
    fn forwarded(element: &'a str) -> Option<Self> {
        let mut hop = Hop::default();
        for part in grammar::members(element, ';') {
            let Some((name, value)) = part.split_once('=') else { continue };
            // No address, scheme or host has anything to escape.
            let Cow::Borrowed(value) = grammar::unquoted(value.trim())? else { return None };
            match name.trim().to_ascii_lowercase().as_str() {
                _ if value.is_empty() => {}
                "for" => hop.client = Some(value),
                "proto" => hop.scheme = Some(value),
                "host" => hop.host = Some(value),
                _ => {}
            }
        }
        Some(hop)
    }
}

impl Entrance {
    /// The way in of a listener that speaks TLS, or does not.
    pub fn new(is_encrypted: bool, config: &config::Server) -> Self {
        let scheme = if is_encrypted { Scheme::Https } else { Scheme::Http };
        Self {
            scheme,
            proxies: config.trusted_proxies[..].into(),
            headers: config.proxy_headers,
            is_traced: config.trace_context,
            is_outside: false,
        }
    }

    /// The same of a listener that does not serve what is for operators, for another one does.
    pub fn where_another_is_inside(self, is_outside: bool) -> Self {
        Self { is_outside, ..self }
    }

    /// Whether what is for operators is served elsewhere.
    pub fn is_outside(&self) -> bool {
        self.is_outside
    }

    /// Whether the connection itself is over TLS.
    pub fn is_encrypted(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Who sent a request.
    pub fn client<'a>(&self, head: &'a RequestHead) -> Result<Client<'a>, Problem> {
        let address = head.peer_addr.map(|peer| peer.ip().to_canonical());
        let host = authority(head, self.scheme)?;
        let client = Client { address, scheme: Some(self.scheme), host };
        match address.filter(|address| self.trusts(address)) {
            Some(proxy) => Ok(self.behind(proxy, client, &head.headers)),
            None => Ok(client),
        }
    }

    /// The trace that a request is part of, where that is told to readers. What is no legal `traceparent`, or two of them, is
    /// ignored.
    pub fn trace(&self, head: &RequestHead) -> Option<Trace> {
        if self.is_traced { Self::any_trace(head) } else { None }
    }

    /// The trace that a request is part of, whoever is told.
    pub fn any_trace(head: &RequestHead) -> Option<Trace> {
        let value = http::header(&head.headers, &http::TRACEPARENT);
        value.ok().flatten().and_then(Trace::parse)
    }

    /// Refuses a request that says twice, and differently, which host it asks, or over HTTP/2 not at all (RFC 9113,
    /// section 8.3.1).
    pub fn require_host(&self, head: &RequestHead) -> Result<(), Problem> {
        match authority(head, self.scheme)? {
            None if head.version == Version::HTTP_2 => {
                let detail = "a request names the host that it asks: send :authority or Host";
                Err(Problem::new(Code::BadRequest, detail))
            }
            _ => Ok(()),
        }
    }

    /// Whether a proxy has this address, so that it comes with the requests of many.
    pub fn trusts(&self, address: &IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// Who sent a request that came through `proxy`: the last one in the chain that is no proxy of ours.
    fn behind<'a>(&self, proxy: IpAddr, client: Client<'a>, headers: &'a HeaderMap) -> Client<'a> {
        let hops = match self.headers {
            ProxyHeaders::XForwarded => x_forwarded(headers),
            ProxyHeaders::Forwarded => forwarded(headers),
        };
        let mut client = Client { address: Some(proxy), ..client };
        for hop in hops.iter().rev() {
            client.host = hop.host.or(client.host);
            client.scheme = hop.scheme.map_or(client.scheme, Scheme::parse);
            // Who is unknown or hidden counts as the proxy that said so.
            let Some(address) = hop.client.and_then(node) else { break };
            client.address = Some(address);
            if !self.trusts(&address) {
                break;
            }
        }
        client
    }
}

/// What counts as one address: of IPv6 the network that one customer gets (RFC 6177).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// The host that was asked for (RFC 9112, section 3.2 and RFC 9113, section 8.3.1).
fn authority(head: &RequestHead, scheme: Scheme) -> Result<Option<&str>, Problem> {
    let host = http::header(&head.headers, &header::HOST)?;
    let Some(target) = head.uri.authority() else { return Ok(host) };
    let scheme = head.uri.scheme_str().and_then(Scheme::parse).unwrap_or(scheme);
    let read = |text| Authority::parse(text, scheme);
    let target = target.as_str();
    match host.is_none_or(|host| read(host).is_some_and(|host| read(target) == Some(host))) {
        true => Ok(Some(target)),
        false => Err(Problem::new(Code::BadRequest, "the target and Host name different hosts")),
    }
}

/// The hops of `X-Forwarded-*`: of scheme and host only what the last proxy says is known.
fn x_forwarded(headers: &HeaderMap) -> Vec<Hop<'_>> {
    let hop = |client| Hop { client: Some(client), ..Hop::default() };
    let mut hops: Vec<_> = grammar::list(headers, &X_FORWARDED_FOR).map(hop).collect();
    if hops.is_empty() {
        hops.push(Hop::default());
    }
    if let Some(last) = hops.last_mut() {
        last.scheme = grammar::list(headers, &X_FORWARDED_PROTO).last();
        last.host = grammar::list(headers, &X_FORWARDED_HOST).last();
    }
    hops
}

/// The hops of `Forwarded` (RFC 7239, section 4).
fn forwarded(headers: &HeaderMap) -> Vec<Hop<'_>> {
    let hop = |element| Hop::forwarded(element).unwrap_or_default();
    grammar::list(headers, &header::FORWARDED).map(hop).collect()
}

/// An address with or without a port, IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse().ok().or_else(with_port).or_else(bare);
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn entrance(headers: ProxyHeaders) -> Entrance {
        let proxies = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let (scheme, proxies) = (Scheme::Http, proxies[..].into());
        Entrance { scheme, proxies, headers, is_traced: false, is_outside: false }
    }

    fn head(peer: &str, headers: &[(&'static str, &'static str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.peer_addr = Some(SocketAddr::new(peer.parse().unwrap(), 5_000));
        head.headers.insert(header::HOST, HeaderValue::from_static("inner:80"));
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            head.headers.append(HeaderName::from_static(name), value);
        }
        head
    }

    /// The client as `ADDRESS SCHEME HOST`.
    fn client(kind: ProxyHeaders, peer: &str, headers: &[(&'static str, &'static str)]) -> String {
        let head = head(peer, headers);
        let Client { address, scheme, host } = entrance(kind).client(&head).unwrap();
        let scheme = match scheme {
            Some(Scheme::Http) => "http",
            Some(Scheme::Https) => "https",
            None => "none",
        };
        format!("{} {scheme} {}", address.unwrap(), host.unwrap_or("none"))
    }

    #[test]
    fn x_forwarded_is_believed_from_listed_proxies_alone() {
        let (xff, proto, host) = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host");
        for (peer, headers, expected) in [
            ("10.0.0.1", &[][..], "10.0.0.1 http inner:80"),
            ("192.0.2.1", &[(xff, "203.0.113.9")], "192.0.2.1 http inner:80"),
            ("192.0.2.1", &[(proto, "https"), (host, "evil")], "192.0.2.1 http inner:80"),
            ("10.0.0.1", &[(xff, "203.0.113.9")], "203.0.113.9 http inner:80"),
            ("::ffff:10.0.0.1", &[(xff, "203.0.113.9")], "203.0.113.9 http inner:80"),
            ("fd00::1", &[(xff, "2001:db8::9")], "2001:db8::9 http inner:80"),
            // What the client wrote itself stands before what the proxies added.
            ("10.0.0.1", &[(xff, "1.1.1.1, 203.0.113.9")], "203.0.113.9 http inner:80"),
            ("10.0.0.1", &[(xff, "1.1.1.1"), (xff, "203.0.113.9")], "203.0.113.9 http inner:80"),
            ("10.0.0.1", &[(xff, "203.0.113.9, 10.0.0.2")], "203.0.113.9 http inner:80"),
            ("10.0.0.1", &[(xff, "10.0.0.3,10.0.0.2")], "10.0.0.3 http inner:80"),
            ("10.0.0.1", &[(xff, "203.0.113.9:4711")], "203.0.113.9 http inner:80"),
            ("10.0.0.1", &[(xff, "[2001:db8::9]:4711")], "2001:db8::9 http inner:80"),
            ("10.0.0.1", &[(xff, "203.0.113.9, unknown")], "10.0.0.1 http inner:80"),
            ("10.0.0.1", &[(xff, "203.0.113.9, 10.0.0.2, nonsense")], "10.0.0.1 http inner:80"),
            ("10.0.0.1", &[(xff, "")], "10.0.0.1 http inner:80"),
            ("10.0.0.1", &[(proto, "https"), (host, "a.example")], "10.0.0.1 https a.example"),
            (
                "10.0.0.1",
                &[(xff, "1.1.1.1, 203.0.113.9"), (proto, "http, HTTPS"), (host, "x, a.example")],
                "203.0.113.9 https a.example",
            ),
            ("10.0.0.1", &[(proto, ""), (host, "")], "10.0.0.1 http inner:80"),
            ("10.0.0.1", &[(proto, "gopher")], "10.0.0.1 none inner:80"),
            ("10.0.0.1", &[(proto, "https, \u{fc}")], "10.0.0.1 none inner:80"),
            ("10.0.0.1", &[(proto, "WSS,"), (host, "a, b,")], "10.0.0.1 https b"),
            ("10.0.0.1", &[(xff, "1.1.1.1, 203.0.113.9, ,")], "203.0.113.9 http inner:80"),
            ("10.0.0.1", &[(xff, "1.1.1.1"), (xff, "\u{fc}")], "10.0.0.1 http inner:80"),
            ("10.0.0.1", &[("forwarded", "for=203.0.113.9")], "10.0.0.1 http inner:80"),
        ] {
            assert_eq!(client(ProxyHeaders::XForwarded, peer, headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn forwarded_is_believed_from_listed_proxies_alone() {
        for (peer, value, expected) in [
            ("192.0.2.1", "for=203.0.113.9;proto=https", "192.0.2.1 http inner:80"),
            ("10.0.0.1", "for=203.0.113.9", "203.0.113.9 http inner:80"),
            (
                "10.0.0.1",
                r#"For="[2001:db8::9]:4711";Proto=https;by=10.0.0.1;host="a.example:8443""#,
                "2001:db8::9 https a.example:8443",
            ),
            (
                "10.0.0.1",
                "for=1.1.1.1;host=evil, for=203.0.113.9;host=a.example;proto=https, for=10.0.0.2",
                "203.0.113.9 https a.example",
            ),
            ("10.0.0.1", r#"for="a,b;c", for=203.0.113.9"#, "203.0.113.9 http inner:80"),
            ("10.0.0.1", "for=203.0.113.9, for=_hidden", "10.0.0.1 http inner:80"),
            ("10.0.0.1", "for=unknown;proto=https", "10.0.0.1 https inner:80"),
            ("10.0.0.1", "nonsense", "10.0.0.1 http inner:80"),
            ("10.0.0.1", "for=203.0.113.9;proto=wss;host=, ,", "203.0.113.9 https inner:80"),
            ("10.0.0.1", "for=203.0.113.9;proto=gopher", "203.0.113.9 none inner:80"),
            // What does not end may have swallowed what the next proxy said.
            ("10.0.0.1", r#"for="203.0.113.9"#, "10.0.0.1 http inner:80"),
            ("10.0.0.1", r#"host=evil;for=", for=203.0.113.9;host=a"#, "10.0.0.1 http inner:80"),
            ("10.0.0.1", r#"host="e\vil";for=1.1.1.1"#, "10.0.0.1 http inner:80"),
        ] {
            let value: &'static str = value;
            let headers = &[("forwarded", value), ("x-forwarded-for", "7.7.7.7")];
            assert_eq!(client(ProxyHeaders::Forwarded, peer, headers), expected, "{value}");
        }
    }

    #[test]
    fn a_request_asks_for_one_host() {
        let entrance = entrance(ProxyHeaders::XForwarded);
        let host = |target: &'static str, hosts: &[&'static str]| {
            let mut head = RequestHead::default();
            head.uri = target.parse().unwrap();
            for host in hosts {
                head.headers.append(header::HOST, HeaderValue::from_static(host));
            }
            let client = entrance.client(&head);
            client.map(|client| client.host.map(str::to_owned)).map_err(|problem| problem.code)
        };
        assert_eq!(host("/", &["a"]), Ok(Some("a".to_owned())));
        assert_eq!(host("/", &[]), Ok(None));
        assert_eq!(host("https://a:1/x", &[]), Ok(Some("a:1".to_owned())));
        assert_eq!(host("http://a/x", &["A"]), Ok(Some("a".to_owned())));
        assert_eq!(host("http://a/x", &["a:80"]), Ok(Some("a".to_owned())));
        assert_eq!(host("https://a:443/x", &["a"]), Ok(Some("a:443".to_owned())));
        for (target, other) in [
            ("http://a/x", "b"),
            ("http://a/x", "a:443"),
            ("http://a/x", ""),
            ("https://a/x", "a:80"),
            ("http://u@a/x", "u@a"),
        ] {
            assert_eq!(host(target, &[other]), Err(Code::BadRequest), "{target} {other}");
        }
        assert_eq!(host("/", &["a", "a"]), Err(Code::BadRequest));
    }
}
