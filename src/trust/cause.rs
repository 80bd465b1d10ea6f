//! Why TLS came to nothing, where it would come to nothing again: in words that say what to set.
//!
//! A certificate that is not valid now is not valid in a minute, so who tries again for good only hides it.

use std::io;

use awc::error::{ConnectError, PayloadError, SendRequestError};
use rustls::{AlertDescription, CertificateError, Error};

use super::issuer::UnknownIssuer;

/// What to do about an authority that is not known.
const SET: &str = "set SSL_CERT_FILE to a file with the certificate of that authority, as PEM";

/// Why a request failed, in a sentence.
pub fn reason(error: &SendRequestError) -> String {
    lasting(error).unwrap_or_else(|| match error {
        SendRequestError::Timeout => {
            "the connection stands, and no answer came in time (a read time-out)".to_owned()
        }
        SendRequestError::Connect(ConnectError::Timeout) => {
            "no connection came about in time: nothing answers at that address and port".to_owned()
        }
        other => other.to_string(),
    })
}

/// Why an answer that had begun did not come to its end, in a sentence.
pub fn broke_off(error: &PayloadError) -> String {
    match error {
        PayloadError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            "the answer began, and the rest of it did not come in time (a read time-out)".to_owned()
        }
        other => format!("the answer broke off: {other}"),
    }
}

/// Why a request failed, where it would fail again for as long as nobody changes anything.
pub fn lasting(error: &SendRequestError) -> Option<String> {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) | SendRequestError::Send(error) => {
            lasting_io(error)
        }
        _ => None,
    }
}

/// The same of a connection.
pub fn lasting_io(error: &io::Error) -> Option<String> {
    of(error.get_ref()?.downcast_ref()?)
}

/// The same, out of the text of an error of which nothing else is left.
pub fn lasting_text(text: &str) -> Option<String> {
    let (_, cause) = text.split_once("invalid peer certificate: ")?;
    Some(match cause.contains("UnknownIssuer") {
        true => unknown(&UnknownIssuer(None)),
        false => format!("the certificate is not valid: {cause}"),
    })
}

fn of(error: &Error) -> Option<String> {
    use AlertDescription::{CloseNotify, InternalError, UserCanceled};
    match error {
        Error::InvalidCertificate(error) => Some(certificate(error)),
        Error::InvalidMessage(_) => Some(
            "what answers there does not speak TLS: is it http:// and not https://?".to_owned(),
        ),
        Error::AlertReceived(CloseNotify | InternalError | UserCanceled) => None,
        Error::AlertReceived(alert) => Some(format!("it refuses the TLS handshake: {alert:?}")),
        Error::PeerIncompatible(why) => {
            Some(format!("it speaks no TLS 1.2 or 1.3 that is spoken here: {why:?}"))
        }
        _ => None,
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => unknown(&UnknownIssuer(None)),
        CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(issuer) => unknown(issuer),
            None if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                "the certificate is that of an authority (CA:TRUE), which can't be a server's as well: have that \
                 authority issue one for the server, or make a self-signed one anew with CA:FALSE (openssl req -x509 \
                 … -addext basicConstraints=critical,CA:FALSE), and set SSL_CERT_FILE to it here"
                    .to_owned()
            }
            None => format!("the certificate is not valid: {other}"),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate has expired, by the clock of this machine{}: renew it",
            since(error).map_or(String::new(), |days| format!(" {days} days ago"))
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet, by the clock of this machine, which may be slow".into()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the certificate is for {}, and not for {}: use its name in the URL, or have it issued for \
             this one too",
            presented.join(", "),
            expected.to_str()
        ),
        other => format!("the certificate is not valid: {other}"),
    }
}

fn unknown(issuer: &UnknownIssuer) -> String {
    format!("the certificate is not trusted: {issuer}; {SET}")
}

fn since(error: &CertificateError) -> Option<u64> {
    let CertificateError::ExpiredContext { time, not_after } = error else { return None };
    Some(time.as_secs().saturating_sub(not_after.as_secs()) / 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(error: Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn a_certificate_that_is_not_valid_lasts_and_a_broken_connection_passes() {
        for (error, said) in [
            (CertificateError::UnknownIssuer, "SSL_CERT_FILE"),
            (CertificateError::Expired, "has expired"),
            (CertificateError::NotValidYet, "not valid yet"),
            (CertificateError::NotValidForName, "not valid"),
            (CertificateError::Revoked, "not valid"),
        ] {
            let error = SendRequestError::Connect(ConnectError::Io(io(error.into())));
            assert!(lasting(&error).unwrap().contains(said), "{error}");
            assert_eq!(reason(&error), lasting(&error).unwrap());
        }
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        for error in [
            SendRequestError::Connect(ConnectError::Io(refused)),
            SendRequestError::Connect(ConnectError::Timeout),
            SendRequestError::Timeout,
            SendRequestError::Send(io(Error::AlertReceived(AlertDescription::InternalError))),
        ] {
            assert_eq!(lasting(&error), None);
        }
    }

    #[test]
    fn a_time_out_is_called_one_wherever_it_comes() {
        for (said, kind) in [
            (reason(&SendRequestError::Timeout), "read time-out"),
            (reason(&SendRequestError::Connect(ConnectError::Timeout)), "no connection"),
            (broke_off(&PayloadError::Io(io::ErrorKind::TimedOut.into())), "read time-out"),
            (broke_off(&PayloadError::Incomplete(None)), "broke off"),
        ] {
            assert!(said.contains(kind), "{said}");
        }
    }

    #[test]
    fn a_text_is_read_where_nothing_else_is_left() {
        let text = "failed: invalid peer certificate: UnknownIssuer";
        assert!(lasting_text(text).unwrap().contains(SET));
        assert!(lasting_text("invalid peer certificate: Expired").unwrap().contains("Expired"));
        assert_eq!(lasting_text("Connection refused (os error 111)"), None);
    }
}
