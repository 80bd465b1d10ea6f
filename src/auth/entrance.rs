//! By which way a request comes in: over TLS or not, through a reverse proxy or not.
//!
//! What a request says of its client (the address, and the scheme and host that were asked for) is
//! believed where a listed proxy says it, and is otherwise what the connection itself shows. Only one
//! family of headers is read, for a proxy passes on those that it does not set.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use actix_http::RequestHead;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::config::{self, ProxyHeaders};
use crate::http;
use crate::model::{Code, Problem};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How requests come in by one listener.
#[derive(Debug, Clone)]
pub struct Entrance {
    scheme: &'static str,
    proxies: Arc<[IpNet]>,
    headers: ProxyHeaders,
}

/// What is known of who sent a request, and of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its address.
    pub address: Option<IpAddr>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host it asked for, with the port where it is not the scheme's own.
    pub host: Option<&'a str>,
}

/// What one proxy says of the request that it passed on.
#[derive(Debug, Clone, Copy, Default)]
struct Hop<'a> {
    client: Option<&'a str>,
    scheme: Option<&'a str>,
    host: Option<&'a str>,
}

impl Entrance {
    /// The way in of a listener that speaks TLS, or does not.
    pub fn new(is_encrypted: bool, config: &config::Server) -> Self {
        let scheme = if is_encrypted { "https" } else { "http" };
        Self { scheme, proxies: config.trusted_proxies[..].into(), headers: config.proxy_headers }
    }

    /// Whether the connection itself is over TLS.
    pub fn is_encrypted(&self) -> bool {
        self.scheme == "https"
    }

    /// Who sent a request.
    pub fn client<'a>(&self, head: &'a RequestHead) -> Result<Client<'a>, Problem> {
        let address = head.peer_addr.map(|peer| peer.ip().to_canonical());
        let client = Client { address, scheme: self.scheme, host: authority(head)? };
        match address.filter(|address| self.trusts(address)) {
            Some(proxy) => Ok(self.behind(proxy, client, &head.headers)),
            None => Ok(client),
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
            client.scheme = match hop.scheme {
                Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
                Some(scheme) if scheme.eq_ignore_ascii_case("http") => "http",
                _ => client.scheme,
            };
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
fn authority(head: &RequestHead) -> Result<Option<&str>, Problem> {
    let host = http::header(&head.headers, &header::HOST)?;
    match (head.uri.authority(), host) {
        (None, host) => Ok(host),
        (Some(target), None) => Ok(Some(target.as_str())),
        (Some(target), Some(host)) if target.as_str().eq_ignore_ascii_case(host) => Ok(Some(host)),
        (Some(_), Some(_)) => {
            Err(Problem::new(Code::BadRequest, "the target and Host name different hosts"))
        }
    }
}

/// The values of a header that is a list, over all its lines, oldest first.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).map(|line| line.to_str().unwrap_or_default());
    lines.flat_map(|line| unquoted(line, ',')).map(str::trim)
}

/// The hops of `X-Forwarded-*`: of scheme and host only what the last proxy says is known.
fn x_forwarded(headers: &HeaderMap) -> Vec<Hop<'_>> {
    let hop = |client| Hop { client: Some(client), ..Hop::default() };
    let mut hops: Vec<_> = list(headers, &X_FORWARDED_FOR).map(hop).collect();
    if hops.is_empty() {
        hops.push(Hop::default());
    }
    if let Some(last) = hops.last_mut() {
        last.scheme = list(headers, &X_FORWARDED_PROTO).last();
        last.host = list(headers, &X_FORWARDED_HOST).last().filter(|host| !host.is_empty());
    }
    hops
}

/// The hops of `Forwarded` (RFC 7239, section 4).
fn forwarded(headers: &HeaderMap) -> Vec<Hop<'_>> {
    let hop = |element| {
        let mut hop = Hop::default();
        for pair in unquoted(element, ';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.client = Some(value),
                "proto" => hop.scheme = Some(value),
                "host" => hop.host = Some(value).filter(|host| !host.is_empty()),
                _ => {}
            }
        }
        hop
    };
    list(headers, &header::FORWARDED).map(hop).collect()
}

/// The parts of a text between separators that do not stand within quotes.
fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
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
        Entrance { scheme: "http", proxies: proxies[..].into(), headers }
    }

    fn head(peer: &str, headers: &[(&'static str, &'static str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.peer_addr = Some(SocketAddr::new(peer.parse().unwrap(), 5_000));
        head.headers.insert(header::HOST, HeaderValue::from_static("inner:80"));
        for (name, value) in headers {
            head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        head
    }

    /// The client as `ADDRESS SCHEME HOST`.
    fn client(kind: ProxyHeaders, peer: &str, headers: &[(&'static str, &'static str)]) -> String {
        let head = head(peer, headers);
        let Client { address, scheme, host } = entrance(kind).client(&head).unwrap();
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
            ("10.0.0.1", &[(proto, "gopher"), (host, "")], "10.0.0.1 http inner:80"),
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
            ("10.0.0.1", r#"for="203.0.113.9"#, "203.0.113.9 http inner:80"),
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
        assert_eq!(host("http://a/x", &["A"]), Ok(Some("A".to_owned())));
        assert_eq!(host("http://a/x", &["b"]), Err(Code::BadRequest));
        assert_eq!(host("/", &["a", "a"]), Err(Code::BadRequest));
    }
}
