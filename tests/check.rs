//! `fanfare check --url` says which part of the road to a broker is wrong, and what to set for it.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use fanfare::config::Config;
use support::process::{free_port, without_settings};
use support::{API_KEY, PATIENCE, TestServer, close, eventually};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, sleep};

/// A look waits for a heartbeat.
fn soon(config: &mut Config) {
    config.server.heartbeat = Duration::from_secs(1);
}

fn open() -> TestServer {
    TestServer::with(soon)
}

fn closed() -> TestServer {
    TestServer::with(|config| {
        close(config);
        soon(config);
    })
}

/// Looks at a broker: the exit code, and a line a step.
async fn check(url: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    without_settings(&mut command).args(["check", "--url", url]).args(more);
    command.stdin(Stdio::null()).current_dir(std::env::temp_dir());
    let ended = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    let output = ended.await.expect("no panic");
    let said = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), format!("{}{said}", String::from_utf8_lossy(&output.stdout)))
}

/// The line of a step.
fn step<'a>(said: &'a str, step: &str) -> &'a str {
    let of = |line: &&str| line.get(8..).is_some_and(|line| line.starts_with(step));
    said.lines().find(of).unwrap_or_else(|| panic!("no {step} in {said}"))
}

fn all_are(said: &str, verdict: &str, steps: &[&str]) {
    for name in steps {
        assert!(step(said, name).starts_with(verdict), "{name}: {said}");
    }
}

const ALL: [&str; 7] =
    ["broker", "clock", "origin", "token", "event stream", "WebSocket", "compression"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_wrong_with_the_road_to_a_broker_itself() {
    let server = open();
    let (code, said) = check(&server.url(""), &["--idle", "1"]).await;
    assert_eq!(code, Some(0), "{said}");
    all_are(&said, "ok ", &ALL);
    all_are(&said, "ok ", &["idle stream", "idle socket"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_token_shows_is_unseen_without_one() {
    let server = closed();
    let (code, said) = check(&server.url(""), &[]).await;
    assert_eq!(code, Some(0), "{said}");
    all_are(&said, "unseen", &["token", "event stream", "idle"]);
    let (code, said) = check(&server.url(""), &["--token", API_KEY]).await;
    assert_eq!(code, Some(0), "{said}");
    all_are(&said, "ok ", &ALL);
    let (code, said) = check(&server.url(""), &["--token", "no-such-key"]).await;
    assert_eq!(code, Some(1), "{said}");
    all_are(&said, "wrong", &["token"]);
    assert!(!said.contains("no-such-key"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_an_origin_that_is_not_listed_is_named_with_its_setting() {
    let server = closed();
    let more = ["--token", API_KEY, "--origin", "https://dashboard.example"];
    let (code, said) = check(&server.url(""), &more).await;
    assert_eq!(code, Some(1), "{said}");
    let origin = step(&said, "origin");
    assert!(origin.starts_with("wrong") && origin.contains("server.allowed_origins"), "{said}");
    assert!(said.contains("1 of 7 are wrong: origin"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_where_no_broker_is_ends_the_look() {
    let (code, said) = check(&format!("http://127.0.0.1:{}", free_port()), &[]).await;
    assert_eq!(code, Some(1), "{said}");
    all_are(&said, "wrong", &["broker"]);
    assert!(!said.contains("WebSocket"), "{said}");
}

/// A proxy of nginx's before a broker, with these lines for what it passes on.
struct Nginx {
    port: u16,
    child: Child,
    _directory: TempDir,
}

impl Nginx {
    async fn before(server: &TestServer, lines: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (port, path) = (free_port(), directory.path());
        let text = configuration(path, port, &server.url(""), lines);
        std::fs::write(path.join("nginx.conf"), text).expect("written");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(path).args(["-e", "error.log", "-c", "nginx.conf"]);
        let child = command.stderr(Stdio::null()).spawn().expect("nginx is installed");
        let nginx = Self { port, child, _directory: directory };
        eventually("nginx listens", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok())
            .await;
        nginx
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn configuration(path: &Path, port: u16, broker: &str, lines: &str) -> String {
    let path = path.display();
    format!(
        "daemon off; master_process off; pid {path}/nginx.pid; error_log {path}/error.log;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
            fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
            server {{
                listen 127.0.0.1:{port};
                location / {{ proxy_pass {broker}; {lines} }}
            }}
        }}"
    )
}

const UPGRADE: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
                       proxy_set_header Connection $http_connection;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_wrong_behind_a_proxy_that_passes_everything_on() {
    let server = closed();
    let lines = format!("{UPGRADE} proxy_set_header Host $http_host; proxy_buffering off;");
    let nginx = Nginx::before(&server, &lines).await;
    let (code, said) = check(&nginx.url(), &["--token", API_KEY]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(step(&said, "broker").contains("through nginx"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_keeps_things_back_and_passes_nothing_on_is_named_for_each() {
    let server = closed();
    let nginx = Nginx::before(&server, "proxy_ignore_headers X-Accel-Buffering;").await;
    let (code, said) = check(&nginx.url(), &["--token", API_KEY]).await;
    assert_eq!(code, Some(1), "{said}");
    all_are(&said, "ok ", &["broker", "clock"]);
    for (name, setting) in
        [("origin", "proxy_set_header Host"), ("WebSocket", "proxy_set_header Upgrade")]
    {
        let line = step(&said, name);
        assert!(line.starts_with("wrong") && line.contains(setting), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_compresses_event_streams_is_named() {
    let server = open();
    let lines = format!(
        "{UPGRADE} proxy_set_header Host $http_host; gzip on; gzip_proxied any; gzip_min_length 0;
         gzip_http_version 1.0; gzip_types text/event-stream;"
    );
    let nginx = Nginx::before(&server, &lines).await;
    let (code, said) = check(&nginx.url(), &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(step(&said, "event stream").starts_with("wrong"), "{said}");
}

/// A proxy that passes on an event stream up to a text, and gathers the rest.
async fn gathering(server: &TestServer, upto: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (near, far) = (listener.local_addr().expect("its address"), server.addr);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move { gather(near, far, upto).await });
        }
    });
    format!("http://{near}")
}

async fn gather(mut near: TcpStream, far: SocketAddr, upto: &str) -> std::io::Result<()> {
    let mut far = TcpStream::connect(far).await?;
    let (mut from_near, mut to_near) = near.split();
    let (mut from_far, mut to_far) = far.split();
    let is_stream = AtomicBool::new(false);
    let asked = async {
        let mut request = Vec::new();
        while from_near.read_buf(&mut request).await? > 0 {
            is_stream.fetch_or(request.starts_with(b"GET /v1/sse?"), Ordering::SeqCst);
            to_far.write_all(&request).await?;
            request.clear();
        }
        std::io::Result::Ok(())
    };
    let answered = async {
        let (mut answer, mut passed) = (Vec::new(), Vec::new());
        while from_far.read_buf(&mut answer).await? > 0 {
            if !is_stream.load(Ordering::SeqCst) {
                to_near.write_all(&answer).await?;
            } else if !String::from_utf8_lossy(&passed).contains(upto) {
                passed.extend_from_slice(&answer);
                to_near.write_all(&answer).await?;
            }
            answer.clear();
        }
        std::io::Result::Ok(())
    };
    tokio::try_join!(asked, answered).map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gathers_an_event_stream_is_named_whether_it_passes_its_beginning_on_or_not() {
    let server = open();
    // From its beginning; and behind what every stream begins with.
    for upto in ["", "fanfare.live"] {
        let url = gathering(&server, upto).await;
        let (code, said) = check(&url, &[]).await;
        assert_eq!(code, Some(1), "{said}");
        let stream = step(&said, "event stream");
        assert!(stream.starts_with("wrong") && stream.contains("proxy_buffering off"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_reaches_no_broker_is_told_apart_from_none() {
    let server = open();
    let nginx = Nginx::before(&server, UPGRADE).await;
    server.stop();
    let (code, said) = check(&nginx.url(), &[]).await;
    assert_eq!(code, Some(1), "{said}");
    let broker = step(&said, "broker");
    assert!(broker.starts_with("wrong") && broker.contains("reaches no broker"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_before_the_broker_is_told_apart_from_no_broker() {
    let server = open();
    let locked = "auth_basic Restricted;\nauth_basic_user_file none;";
    let nginx = Nginx::before(&server, locked).await;
    let (code, said) = check(&nginx.url(), &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(step(&said, "broker").contains("asks for a password"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cuts_idle_connections_is_named_with_the_time_it_took() {
    let server = open();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (near, far) = (listener.local_addr().expect("its address"), server.addr);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = TcpStream::connect(far).await.expect("connected");
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    () = sleep(Duration::from_secs(1)) => {}
                }
            });
        }
    });
    let idle = PATIENCE.as_secs().to_string();
    let (code, said) = check(&format!("http://{near}"), &["--idle", &idle]).await;
    assert_eq!(code, Some(1), "{said}");
    for name in ["idle stream", "idle socket"] {
        let line = step(&said, name);
        assert!(line.starts_with("wrong") && line.contains("proxy_read_timeout"), "{said}");
    }
}
