//! Whom the broker's own clients believe: a private authority, and certificates that are not valid.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use fanfare::config::Certificate;
use support::TestServer;
use support::process::without_settings;
use support::tls::Authority;

const AUTHORITY: &str = "Somebody's Private CA";

/// A broker that shows this certificate.
fn showing(certificate: Certificate) -> TestServer {
    TestServer::with(|config| config.server.certificate = Some(certificate))
}

fn url(server: &TestServer, host: &str) -> String {
    format!("https://{host}:{}", server.addr.port())
}

/// Runs a command to its end, which trusts what is in a file where one is given.
async fn run(root: Option<&Path>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    without_settings(&mut command).args(arguments).stdin(Stdio::null());
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    if let Some(root) = root {
        command.env("SSL_CERT_FILE", root);
    }
    command.current_dir(std::env::temp_dir());
    let ended = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    ended.await.expect("no panic")
}

/// What a command says that fails, and must not try again for long: its patience is an hour.
async fn refused(root: Option<&Path>, arguments: &[&str]) -> String {
    let output = run(root, arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(!said.contains("again in"), "{arguments:?}: {said}");
    said
}

async fn refused_by_both(root: Option<&Path>, url: &str) -> [String; 2] {
    let publish = ["publish", "--url", url, "--retry-for", "1h", "demo", "1"];
    [refused(root, &publish).await, refused(root, &["subscribe", "--url", url, "demo"]).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_authority_ends_a_command_by_its_name_and_a_known_one_is_believed() {
    let authority = Authority::new(AUTHORITY);
    let server = showing(authority.issue("DNS:localhost,IP:127.0.0.1", 2));
    let url = url(&server, "127.0.0.1");
    for said in refused_by_both(None, &url).await {
        assert!(said.contains(&format!("issued by {AUTHORITY:?}")), "{said}");
        assert!(said.contains("set SSL_CERT_FILE"), "{said}");
    }
    let root = authority.root();
    let published = run(Some(&root), &["publish", "--url", &url, "demo", "1"]).await;
    assert!(published.status.success(), "{published:?}");
    let arguments = ["subscribe", "--url", &url, "demo", "--snapshot", "--count", "1"];
    let subscribed = run(Some(&root), &arguments).await;
    assert!(subscribed.status.success(), "{subscribed:?}");
    assert!(String::from_utf8_lossy(&subscribed.stdout).contains("\"demo\""), "{subscribed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_name_or_of_another_time_ends_a_command() {
    let authority = Authority::new(AUTHORITY);
    let other = showing(authority.issue("DNS:push.example", 2));
    for said in refused_by_both(Some(&authority.root()), &url(&other, "127.0.0.1")).await {
        assert!(said.contains("push.example") && said.contains("not for 127.0.0.1"), "{said}");
    }
    let expired = showing(authority.issue("IP:127.0.0.1", -1));
    for said in refused_by_both(Some(&authority.root()), &url(&expired, "127.0.0.1")).await {
        assert!(said.contains("has expired"), "{said}");
    }
    let plain = TestServer::open();
    for said in refused_by_both(Some(&authority.root()), &url(&plain, "127.0.0.1")).await {
        assert!(said.contains("does not speak TLS"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_keys_are_fetched_by_the_same_rule() {
    let authority = Authority::new(AUTHORITY);
    let server = showing(authority.issue("IP:127.0.0.1", 2));
    let at = format!("auth.jwks_url={}/openapi.json", url(&server, "127.0.0.1"));
    let check = ["check", "--set", at.as_str()];
    let said = |output: Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let unknown = said(run(None, &check).await);
    assert!(unknown.contains(AUTHORITY) && unknown.contains("SSL_CERT_FILE"), "{unknown}");
    let known = said(run(Some(&authority.root()), &check).await);
    assert!(known.contains("is not a JSON Web Key Set"), "{known}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_an_authoritys_is_refused_with_a_way_out() {
    let authority = Authority::new(AUTHORITY);
    let server = showing(authority.itself());
    let root = authority.root();
    for said in refused_by_both(Some(&root), &url(&server, "127.0.0.1")).await {
        assert!(
            said.contains("CA:TRUE") && said.contains("basicConstraints=critical,CA:FALSE"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_file_without_a_certificate_is_wrong_usage_and_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("roots.pem");
    let block = |what| format!("-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n");
    for text in ["", "no certificate\n", &block("PRIVATE KEY"), &block("CERTIFICATE")] {
        std::fs::write(&file, text).expect("written");
        let command = ["publish", "--url", "https://127.0.0.1:1", "demo", "1"];
        let output = run(Some(&file), &command).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(&format!("SSL_CERT_FILE={}", file.display())), "{text}: {said}");
    }
}

#[tokio::test]
async fn authorities_that_can_not_be_read_are_wrong_usage() {
    let missing = Path::new("/nowhere/ca.pem");
    let output =
        run(Some(missing), &["publish", "--url", "https://127.0.0.1:1", "demo", "1"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("SSL_CERT_FILE=/nowhere/ca.pem"), "{said}");
}
