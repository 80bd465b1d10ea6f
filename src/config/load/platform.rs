//! Variables that a platform sets under our prefix, beside a service or container that is called
//! `fanfare` or `fanfare-…`.
//!
//! Nobody typed them, so they must not keep the broker from starting. Each is told by its name and its
//! value together, so that a typo in one of our own names stays an error.

use std::net::IpAddr;

/// The protocols of a port, as platforms write them.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Whether Kubernetes (service links) or Docker (container links) set this variable.
///
/// Kubernetes: `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_SERVICE_PORT_NAME`; both: `…_PORT=tcp://…`,
/// `…_PORT_8080_TCP` and, behind it, `_PROTO`, `_PORT`, `_ADDR`; Docker: `…_NAME=/web/fanfare`,
/// `…_ENV_…`.
pub(super) fn sets(name: &str, value: &str) -> bool {
    let is_number = value.parse::<u16>().is_ok();
    let is_address = value.parse::<IpAddr>().is_ok();
    let is_url = value.split_once("://").is_some_and(|(scheme, _)| PROTOCOLS.contains(&scheme));
    if name.ends_with("_SERVICE_HOST") {
        return is_address;
    }
    if name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return is_number;
    }
    match of_port(name) {
        Some("") => is_url,
        Some("_PROTO") => PROTOCOLS.contains(&value),
        Some("_PORT" | "_PORT_START" | "_PORT_END") => is_number,
        Some("_ADDR") => is_address,
        _ if name.ends_with("_PORT") => is_url,
        _ if name.ends_with("_NAME") => value.starts_with('/'),
        _ => name.starts_with("FANFARE_ENV_"),
    }
}

/// What stands behind `…_PORT_8080_TCP`.
fn of_port(name: &str) -> Option<&str> {
    name.match_indices("_PORT_").find_map(|(at, word)| {
        let (number, rest) = name[at + word.len()..].split_once('_')?;
        number.parse::<u16>().ok()?;
        let is_protocol = |known: &&str| {
            rest.get(..known.len()).is_some_and(|word| word == known.to_ascii_uppercase())
        };
        PROTOCOLS.iter().find(|known| is_protocol(known)).map(|known| &rest[known.len()..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_and_docker_set_is_told_by_its_name_and_value() {
        for (name, value) in [
            ("FANFARE_SERVICE_HOST", "10.96.0.7"),
            ("FANFARE_SERVICE_HOST", "fd00::7"),
            ("FANFARE_SERVICE_PORT", "8080"),
            ("FANFARE_SERVICE_PORT_HTTP", "8080"),
            ("FANFARE_PORT", "tcp://10.96.0.7:8080"),
            ("FANFARE_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
            ("FANFARE_PORT_8080_TCP_PROTO", "tcp"),
            ("FANFARE_PORT_8080_TCP_PORT", "8080"),
            ("FANFARE_PORT_8080_TCP_ADDR", "10.96.0.7"),
            ("FANFARE_PORT_53_UDP", "udp://[fd00::7]:53"),
            // Of services and containers beside it: `fanfare-redis-master`, `fanfare-internal`, `fanfare_1`.
            ("FANFARE_REDIS_MASTER_SERVICE_HOST", "10.96.0.8"),
            ("FANFARE_REDIS_PORT", "tcp://10.96.0.8:6379"),
            ("FANFARE_INTERNAL_PORT_9090_TCP_ADDR", "10.96.0.9"),
            ("FANFARE_INTERNAL_SERVICE_PORT_METRICS", "9090"),
            ("FANFARE_1_PORT_8080_TCP_PORT_START", "8080"),
            ("FANFARE_NAME", "/web/fanfare"),
            ("FANFARE_1_NAME", "/web/fanfare_1"),
            ("FANFARE_ENV_PATH", "/usr/bin"),
        ] {
            assert!(sets(name, value), "{name}={value}");
        }
    }

    #[test]
    fn a_typo_is_none_of_theirs() {
        for (name, value) in [
            ("FANFARE_PORT", "8080"),
            ("FANFARE_SERVICE_LISTEN", "0.0.0.0:8080"),
            ("FANFARE_SERVICE_HOST", "push.example"),
            ("FANFARE_SERVICE_PORT", "http"),
            ("FANFARE_SERVER_PORT", "8080"),
            ("FANFARE_SERVER_HOST", "10.96.0.7"),
            ("FANFARE_PORT_8080", "8080"),
            ("FANFARE_PORT_8080_TCP", "8080"),
            ("FANFARE_PORT_8080_TCP_LISTEN", "8080"),
            ("FANFARE_PORT_X_TCP", "tcp://10.96.0.7:8080"),
            ("FANFARE_NAME", "fanfare"),
            ("FANFARE_REDIS_HOST", "10.96.0.8"),
        ] {
            assert!(!sets(name, value), "{name}={value}");
        }
    }
}
