//! TLS, with a certificate that may change while the broker serves.
//!
//! Each handshake asks for the certificate in force; those that are done go on with the one they
//! saw. TLS 1.2 and 1.3, without anything older; HTTP/2 is offered before HTTP/1.1. Who comes back resumes its session
//! of TLS 1.3 ([`Resumption`]), with keys that are agreed upon anew each time.

mod encrypted;

use std::io;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};

use self::encrypted::EncryptedTcp;
use super::gate::Gate;
use super::opening::Opening;
use super::resumption::Resumption;
use crate::clock::{Clock, Deadline, within};
use crate::config::{Certificate, ResumptionSecret};
use crate::panics::{read, write};

/// How HTTP/2 is called in a handshake (RFC 9113, section 3.2).
const HTTP2: &[u8] = b"h2";

/// How HTTP/1.1 is called there (RFC 7301, section 6).
const HTTP1: &[u8] = b"http/1.1";

/// The TLS of one listener, shared by all its threads.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    in_force: Arc<InForce>,
    resumption: Arc<Resumption>,
    handshake_timeout: Duration,
}

/// The certificate that is shown.
#[derive(Debug)]
struct InForce(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for InForce {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(read(&self.0).clone())
    }
}

impl Tls {
    /// TLS with a certificate, whose handshakes may take so long.
    pub(super) fn new(
        certificate: &Certificate,
        secret: Option<&ResumptionSecret>,
        handshake_timeout: Duration,
        clock: Clock,
    ) -> Result<Self, Error> {
        let in_force = Arc::new(InForce(RwLock::new(certificate.key.clone())));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(in_force.clone());
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        let resumption = Resumption::new(certificate, secret, clock);
        let resumption = Arc::new(resumption.map_err(|_| Error::FailedToGetRandomBytes)?);
        config.ticketer = resumption.clone();
        Ok(Self { config: Arc::new(config), in_force, resumption, handshake_timeout })
    }

    /// Shows another certificate from the next handshake on.
    pub(super) fn replace(&self, certificate: &Certificate, secret: Option<&ResumptionSecret>) {
        self.resumption.replace(certificate, secret);
        let mut in_force = write(&self.in_force.0);
        *in_force = certificate.key.clone();
    }

    /// Shakes hands with a client, once it is let in and in time; one that begins to speak in the clear is given back.
    pub(super) async fn accept(
        &self,
        io: TcpStream,
        gate: &Gate,
    ) -> io::Result<Result<EncryptedTcp, TcpStream>> {
        let mut deadline = Deadline::after(self.handshake_timeout);
        let opening = within(self.handshake_timeout, Opening::look(&io)).await?;
        let left = deadline.left();
        // However long that takes, it is not the client who is late.
        gate.pass().await;
        match opening {
            Opening::Tls => {
                within(left, EncryptedTcp::accept(io, self.config.clone())).await?.map(Ok)
            }
            Opening::Http1 | Opening::Http2 => Ok(Err(io)),
        }
    }
}

/// Whether HTTP/2 was agreed upon.
pub(super) fn is_http2(stream: &EncryptedTcp) -> bool {
    stream.protocol() == Some(HTTP2)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::super::resumption::tests::certificate;
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    fn tls() -> Tls {
        Tls::new(&certificate("none"), None, PATIENCE, Clock::default()).unwrap()
    }

    /// Both ends of a connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    #[actix_web::test]
    async fn who_waits_at_the_gate_is_not_late_for_that_but_for_what_he_has_not_sent() {
        let (io, mut client) = connection().await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let (tls, gate) = (tls(), Gate::shut());
        let mut accepting = Box::pin(tls.accept(io, &gate));
        assert!(timeout(3 * PATIENCE, &mut accepting).await.is_err(), "the gate is shut");
        gate.open();
        assert!(accepting.await.unwrap().is_err(), "it is not late, and speaks no TLS");
        let (silent, _client) = connection().await;
        assert!(tls.accept(silent, &gate).await.is_err(), "nothing came in time");
        let (slow, mut client) = connection().await;
        client.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
        assert!(tls.accept(slow, &gate).await.is_err(), "nor did all of it");
    }
}
