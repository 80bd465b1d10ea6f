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
    run(&[&["check", "--url", url], more].concat(), &[]).await
}

/// Runs a command to its end: the exit code, and what it said.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    without_settings(&mut command).args(arguments).envs(variables.iter().copied());
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

/// What `nginx` asks a password for: `ada`, `hunter2`.
fn with_password(directory: &TempDir) -> String {
    let file = directory.path().join("passwords");
    std::fs::write(&file, "ada:{PLAIN}hunter2\n").expect("written");
    format!(
        "{UPGRADE} proxy_set_header Host $http_host; proxy_buffering off; auth_basic here; auth_basic_user_file {};",
        file.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_of_a_proxy_is_asked_for_given_and_never_shown() {
    let (server, directory) = (closed(), tempfile::tempdir().expect("a directory"));
    let nginx = Nginx::before(&server, &with_password(&directory)).await;
    let login = nginx.url().replace("http://", "http://ada:hunter2@");
    let wrong = login.replace("hunter2", "hunter3");
    let (publish, subscribe) = (
        ["publish", "demo", "1", "--url"],
        ["subscribe", "demo", "--snapshot", "--count", "1", "--url"],
    );
    for command in [&["check", "--url"][..], &publish, &subscribe] {
        let (code, said) = run(&[command, &[&nginx.url()]].concat(), &[]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("asks for a password") && said.contains("FANFARE_PROXY_LOGIN"),
            "{said}"
        );
        assert!(!said.contains("FANFARE_API_KEY") && !said.contains("FANFARE_TOKEN"), "{said}");
        let (code, said) = run(&[command, &[&wrong]].concat(), &[]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("refuses this user") && !said.contains("hunter"), "{said}");
    }
    // What is needed behind it is said, now that it lets in.
    let (code, said) = check(&login, &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(step(&said, "token").contains("FANFARE_TOKEN") && !said.contains("hunter"), "{said}");
    let variables = [("FANFARE_PROXY_LOGIN", "ada:hunter2"), ("FANFARE_TOKEN", API_KEY)];
    let (code, said) = run(&["check", "--url", &nginx.url()], &variables).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        step(&said, "token").starts_with("ok ") && step(&said, "WebSocket").starts_with("ok "),
        "{said}"
    );
    assert!(step(&said, "event stream").starts_with("unseen"), "{said}");
    // A subscriber has another place for its token; a publisher has none, and says so.
    let key = [("FANFARE_API_KEY", API_KEY)];
    let (code, said) = run(&[&publish[..], &[&login]].concat(), &key).await;
    assert!(
        code == Some(2) && said.contains("one Authorization") && !said.contains(API_KEY),
        "{said}"
    );
    let published = server.post("/v1/topics/demo/events").bearer_auth(API_KEY).body("17");
    assert_eq!(published.send().await.expect("an answer").status(), 201);
    let (code, said) = run(&[&subscribe[..], &[&login]].concat(), &variables[1..]).await;
    assert!(code == Some(0) && said.contains("\"data\":17"), "{said}");
    let (code, said) =
        run(&[&subscribe[..], &[&login, "--token", "no-such-key"]].concat(), &[]).await;
    assert!(code == Some(1) && said.contains("the token is not valid"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_gets_through_where_the_proxy_says_the_key() {
    let (server, directory) = (closed(), tempfile::tempdir().expect("a directory"));
    let lines = format!(
        "{} proxy_set_header Authorization \"Bearer {API_KEY}\";",
        with_password(&directory)
    );
    let nginx = Nginx::before(&server, &lines).await;
    let login = [("FANFARE_PROXY_LOGIN", "ada:hunter2")];
    let (code, said) = run(&["publish", "demo", "1", "--url", &nginx.url()], &login).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_or_token_that_is_missing_is_named_at_once() {
    let server = closed();
    let (code, said) = run(&["publish", "demo", "1", "--url", &server.url("")], &[]).await;
    assert!(code == Some(1) && said.contains("FANFARE_API_KEY"), "{said}");
    let (code, said) = run(&["subscribe", "demo", "--url", &server.url("")], &[]).await;
    assert!(code == Some(1) && said.contains("set FANFARE_TOKEN"), "{said}");
    // The broker itself hangs up on who does not say who it is, and that is not waited for.
    assert!(!said.contains("close code"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_where_tls_is_spoken_is_told_so() {
    let server = TestServer::encrypted(soon);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (near, far) = (listener.local_addr().expect("its address"), server.addr);
    // One that says so in TLS alone, as most do.
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0];
                if near.peek(&mut first).await.is_ok() && first == [0x16] {
                    let mut far = TcpStream::connect(far).await.expect("connected");
                    _ = copy_bidirectional(&mut near, &mut far).await;
                } else {
                    let unexpected_message = [0x15, 3, 3, 0, 2, 2, 10];
                    _ = near.write_all(&unexpected_message).await;
                }
            });
        }
    });
    for url in [format!("http://{far}"), format!("http://{near}")] {
        for command in [
            &["check", "--url"][..],
            &["publish", "demo", "1", "--url"],
            &["subscribe", "demo", "--url"],
        ] {
            let (code, said) = run(&[command, &[&url]].concat(), &[]).await;
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("TLS is spoken") && said.contains("https://"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_a_proxy_compresses_is_read_all_the_same() {
    let server = closed();
    let lines = format!(
        "{UPGRADE} proxy_set_header Host $http_host; proxy_buffering off; gzip on; gzip_proxied any;
         gzip_min_length 0; gzip_http_version 1.0; gzip_types application/problem+json application/json;"
    );
    let nginx = Nginx::before(&server, &lines).await;
    let (code, said) = check(&nginx.url(), &["--idle", "1"]).await;
    assert_eq!(code, Some(0), "{said}");
    for name in ["event stream", "idle stream"] {
        let line = step(&said, name);
        assert!(line.starts_with("unseen") && line.contains("FANFARE_TOKEN"), "{said}");
    }
}

/// One that takes connections, and says this and nothing more.
async fn silent_behind(said: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut near, _)) = listener.accept().await {
            _ = near.write_all(said.as_bytes()).await;
            held.push(near);
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_times_out_is_called_one() {
    for said in ["", "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"] {
        let url = silent_behind(said).await;
        let (code, said) = check(&url, &[]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(step(&said, "broker").contains("read time-out"), "{said}");
    }
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
