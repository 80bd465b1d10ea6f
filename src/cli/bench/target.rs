//! Where the measured server listens, and how connections to it begin.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::socket::Sources;
use super::stream::Stream;
use crate::trust;

/// The address of a server, and how requests name it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its other nodes listen, if it has any: connections take turns.
    pub others: Vec<SocketAddr>,
    /// What requests put into `Host`.
    pub authority: String,
    /// What the paths of requests begin with.
    pub path: String,
    /// Whom TLS is spoken with, and how; nobody where it is not.
    pub tls: Option<Secured>,
}

/// Whom TLS is spoken with, and how.
#[derive(Debug, Clone)]
pub struct Secured {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// What becomes of the sessions of TLS that a server offers to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// They are forgotten: every handshake is a full one.
    Forgotten,
    /// They are resumed by the connections that follow.
    Resumed,
}

impl Target {
    /// Looks up a URL of the form `http[s]://HOST[:PORT][/PATH]`.
    pub async fn of(url: &str, sessions: Sessions) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err("a bench speaks http and https alone".into()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, named) = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, authority.to_owned())
            }
            _ => (authority, format!("{authority}:{port}")),
        };
        let mut found = tokio::net::lookup_host(&named)
            .await
            .map_err(|error| format!("{authority} can't be looked up: {error}"))?;
        let address = found.next().ok_or_else(|| format!("{authority} has no address"))?;
        let tls = (scheme == "https").then(|| Secured::of(host, sessions)).transpose()?;
        Ok(Self {
            authority: authority.to_owned(),
            path: path.to_owned(),
            tls,
            ..Self::at(address)
        })
    }

    /// A server at an address of its own.
    pub fn at(address: SocketAddr) -> Self {
        let (authority, path) = (address.to_string(), String::new());
        Self { address, others: Vec::new(), authority, path, tls: None }
    }

    /// Writes the first lines of a request.
    pub fn request(&self, out: &mut Vec<u8>, method: &str, path: &str) {
        // Writing to a vector can't fail.
        _ = write!(out, "{method} {}{path} HTTP/1.1\r\nHost: {}\r\n", self.path, self.authority);
    }

    /// Where the node listens that the connection of this number is for.
    fn node(&self, number: usize) -> SocketAddr {
        let turn = number % (self.others.len() + 1);
        turn.checked_sub(1).map_or(self.address, |other| self.others[other])
    }

    /// Connects from one of these sources, as the connection of this number, and shakes hands where TLS is spoken.
    pub async fn connect(&self, sources: Sources, number: usize) -> Result<Stream, String> {
        let address = self.node(number);
        let connecting = async {
            let stream = sources.connect(address, number).await?;
            match &self.tls {
                None => Ok(Stream::Plain(stream)),
                Some(tls) => {
                    let connector = TlsConnector::from(tls.config.clone());
                    let stream = connector.connect(tls.name.clone(), stream).await?;
                    io::Result::Ok(Stream::Tls(Box::new(stream)))
                }
            }
        };
        connecting.await.map_err(|error| format!("can't connect to {address}: {error}"))
    }
}

impl Secured {
    fn of(host: &str, sessions: Sessions) -> Result<Self, String> {
        let config = trust::client_config().map_err(|error| error.to_string())?;
        Self::with(config, host.trim_matches(['[', ']']), sessions)
    }

    /// TLS as a configuration has it, with a server of this name.
    pub fn with(mut config: ClientConfig, host: &str, sessions: Sessions) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| format!("{host}: {error}"))?;
        if sessions == Sessions::Forgotten {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { config: Arc::new(config), name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns_with_the_nodes() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let alone = Target::at(at(1));
        assert_eq!([alone.node(0), alone.node(5)], [at(1); 2]);
        let three = Target { others: vec![at(2), at(3)], ..alone };
        assert_eq!([0, 1, 2, 3].map(|number| three.node(number)), [1, 2, 3, 1].map(at));
    }

    #[tokio::test]
    async fn a_url_names_address_and_path_and_whether_tls_is_spoken() {
        let of = |url| Target::of(url, Sessions::Forgotten);
        let target = of("http://127.0.0.1:81/live").await.unwrap();
        assert_eq!(target.address, SocketAddr::from(([127, 0, 0, 1], 81)));
        assert!(target.tls.is_none());
        let mut head = Vec::new();
        target.request(&mut head, "GET", "/v1/ws");
        assert_eq!(head, b"GET /live/v1/ws HTTP/1.1\r\nHost: 127.0.0.1:81\r\n");
        assert_eq!(of("http://127.0.0.1").await.unwrap().address.port(), 80);
        let target = of("https://[::1]/live").await.unwrap();
        assert_eq!((target.address.port(), &*target.path), (443, "/live"));
        let name = ServerName::try_from("::1").unwrap();
        assert_eq!(target.tls.unwrap().name, name);
        assert!(of("ftp://127.0.0.1").await.is_err() && of("127.0.0.1").await.is_err());
    }
}
