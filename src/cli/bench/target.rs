//! Where the measured server listens.

use std::io::Write;
use std::net::SocketAddr;

/// The address of a server, and how requests name it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What requests put into `Host`.
    pub authority: String,
    /// What the paths of requests begin with.
    pub path: String,
}

impl Target {
    /// Looks up a URL of the form `http://HOST[:PORT][/PATH]`.
    pub async fn of(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or("a bench speaks plain http alone, not TLS")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let named = match authority.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                authority.to_owned()
            }
            _ => format!("{authority}:80"),
        };
        let mut found = tokio::net::lookup_host(&named)
            .await
            .map_err(|error| format!("{authority} can't be looked up: {error}"))?;
        let address = found.next().ok_or_else(|| format!("{authority} has no address"))?;
        Ok(Self { address, authority: authority.to_owned(), path: path.to_owned() })
    }

    /// A server at an address of its own.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, authority: address.to_string(), path: String::new() }
    }

    /// Writes the first lines of a request.
    pub fn request(&self, out: &mut Vec<u8>, method: &str, path: &str) {
        // Writing to a vector can't fail.
        _ = write!(out, "{method} {}{path} HTTP/1.1\r\nHost: {}\r\n", self.path, self.authority);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_names_address_and_path() {
        let target = Target::of("http://127.0.0.1:81/live").await.unwrap();
        assert_eq!(target.address, SocketAddr::from(([127, 0, 0, 1], 81)));
        let mut head = Vec::new();
        target.request(&mut head, "GET", "/v1/ws");
        assert_eq!(head, b"GET /live/v1/ws HTTP/1.1\r\nHost: 127.0.0.1:81\r\n");
        assert_eq!(Target::of("http://127.0.0.1").await.unwrap().address.port(), 80);
        assert!(Target::of("https://127.0.0.1").await.is_err());
    }
}
