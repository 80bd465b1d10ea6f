//! The bench counts right: everything that arrives, and everything that does not.

mod support;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use support::tls::Issuer;
use support::{API_KEY, TestServer, eventually, expect_status, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Runs the bench against a broker, for a moment.
fn command(server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", server.addr);
    command.args(["bench", "--json", "--url", &url, "--warmup", "100ms"]);
    if !arguments.contains(&"--duration") {
        command.args(["--duration", "400ms"]);
    }
    command.args(arguments);
    command
}

async fn bench(server: &TestServer, arguments: &[&str]) -> (Output, Value) {
    finished(command(server, arguments)).await
}

/// What a bench says at its end.
async fn finished(mut command: Command) -> (Output, Value) {
    let output = tokio::task::spawn_blocking(move || command.output().expect("the bench runs"));
    let output = output.await.expect("no panic");
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, report)
}

/// The same of one that trusts a certificate.
async fn finished_trusting(mut command: Command, issuer: &Issuer) -> (Output, Value) {
    command.env("SSL_CERT_FILE", issuer.chain());
    finished(command).await
}

/// Runs a bench that must lose nothing, and returns its report.
async fn sound(server: &TestServer, arguments: &[&str]) -> Value {
    let (output, report) = bench(server, arguments).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let delivery = &report["delivery"];
    assert_eq!(delivery["delivered"], delivery["expected"], "{arguments:?}");
    assert_eq!((&delivery["missing"], &delivery["extra"]), (&0.into(), &0.into()), "{arguments:?}");
    assert_eq!(report["publish"]["failed"], 0, "{arguments:?}");
    report
}

fn number(report: &Value, section: &str, name: &str) -> u64 {
    report[section][name].as_u64().unwrap_or_else(|| panic!("no {section}.{name}: {report}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_is_live_once_each_client_has_what_it_came_for() {
    let server = TestServer::with(|config| config.rules.default.max_events = 1_000);
    for (herd, events) in [
        (&["--herd", "resume", "-t", "1", "--behind", "700"][..], 700),
        (&["--herd", "resume", "-t", "30", "--behind", "700"], 700),
        (&["--herd", "resume", "-t", "30", "--by-name", "3", "--behind", "700"], 70),
        (&["--herd", "snapshot", "-t", "600"], 600),
        (&["--herd", "snapshot", "-t", "600", "--pattern-sets", "8", "--compressed"], 600),
        (&["--herd", "latest", "-t", "100", "--behind", "7"], 7),
        (&["--herd", "last", "-t", "1", "--behind", "300"], 300),
        (&["--herd", "last", "-t", "20", "--behind", "5"], 100),
    ] {
        let (output, report) = bench(&server, &[herd, &["-s", "20"]].concat()).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let all = 20 * events;
        // What is named is shared out among the clients, and comes to as much.
        let due = report["events"].as_u64().expect("a number");
        assert!(due.abs_diff(all) < 20, "{report}");
        assert_eq!((&report["clients"], &report["wrong"]), (&20.into(), &0.into()), "{report}");
    }
    let closed = TestServer::closed();
    let half = token("ada", &["bench.*.a.>"], &[], 600);
    let herd = ["--herd", "snapshot", "-t", "600", "-s", "5", "--half-granted"];
    let credentials = ["--key", API_KEY, "--token", &half];
    let (output, report) = bench(&closed, &[&herd[..], &credentials].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&report["events"], &report["wrong"]), (&1_500.into(), &0.into()), "{report}");
    // More than is kept of one topic.
    let lossy = ["--herd", "resume", "-s", "2", "--behind", "1500"];
    let (output, report) = bench(&server, &lossy).await;
    assert_eq!(output.status.code(), Some(1), "{report}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not kept any more"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_events_carry_is_delivered_with_them_by_every_way_to_publish() {
    let server = TestServer::open();
    for carried in [r#"{"ttl_ms":60000}"#, r#"{"keep":false}"#, r#"{"removed":true}"#] {
        for publish in ["single", "batch", "ndjson", "ws"] {
            let load = ["-s", "2", "--batch", "5", "--rate", "100", "--publish", publish];
            sound(&server, &[&load[..], &["--carry", carried]].concat()).await;
        }
    }
    let page = server.get("/v1/events?match=bench.%3E").send().await.expect("an answer");
    let page: Value = expect_status(page, reqwest::StatusCode::OK).await;
    let events = page["events"].as_array().expect("events");
    assert!(events.iter().all(|event| event.get("expires").or(event.get("removed")).is_some()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transport_and_every_way_to_publish_delivers_all() {
    let server = TestServer::open();
    for protocol in ["ws", "ws+cbor", "sse"] {
        for publish in ["single", "batch", "ndjson", "ws"] {
            let arguments = ["--protocol", protocol, "--publish", publish];
            let load = ["-t", "3", "-s", "4", "--batch", "5", "--rate", "100"];
            let report = sound(&server, &[&arguments[..], &load].concat()).await;
            assert_eq!(report["connections"], 12);
            // Half a second at this rate, to each of four subscribers.
            assert_eq!(number(&report, "delivery", "delivered"), 4 * 50, "{arguments:?}");
            assert!(report["delivery"]["latency"]["count"].as_u64() > Some(0));
            assert!(report["publish"]["latency"]["p99"].as_f64() > Some(0.0));
        }
    }
}

/// Stands before a broker, and hangs up behind each answer.
async fn hanging_up(server: &TestServer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, to) = (listener.local_addr().expect("one"), server.addr);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut broker = TcpStream::connect(to).await?;
                let mut bytes = vec![0; 64 << 10];
                // Both are in one piece each: they are small, and on this machine.
                let length = client.read(&mut bytes).await?;
                broker.write_all(&bytes[..length]).await?;
                let length = broker.read(&mut bytes).await?;
                let answer = String::from_utf8_lossy(&bytes[..length]);
                let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                client.write_all(answer.as_bytes()).await
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_up_behind_each_answer_loses_nothing() {
    let server = TestServer::open();
    let url = format!("http://{}", hanging_up(&server).await);
    let report = sound(&server, &["-s", "2", "--publish-url", &url, "--in-flight", "2"]).await;
    assert!(number(&report, "publish", "events") > 2, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_all_is_measured_as_without() {
    let issuer = Issuer::new();
    let server = TestServer::with(|config| config.server.certificate = Some(issuer.certificate()));
    for arguments in [
        &["--protocol", "ws", "--publish", "ws"][..],
        &["--protocol", "sse", "--storm", "connect", "--storm-rate", "50"],
        &["--protocol", "ws", "--slow", "0.5", "--slow-pace", "100", "--resumed"],
        &["--herd", "snapshot", "-t", "30"],
    ] {
        let command = command(&server, &[&["-s", "4"], arguments].concat());
        let (output, report) = finished_trusting(command, &issuer).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        let is_herd = report["delivery"].is_null();
        assert!(is_herd || number(&report, "delivery", "delivered") > 0, "{report}");
    }
    let (output, _) = bench(&server, &["-s", "2"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("certificate"), "who is not known is not trusted: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_are_told_by_whether_they_resumed_a_session() {
    let issuer = Issuer::new();
    let server = TestServer::with(|config| config.server.certificate = Some(issuer.certificate()));
    for (is_resumed, arguments) in [(true, &["--resumed"][..]), (false, &[])] {
        let arguments = [&["--connects", "-s", "30"], arguments].concat();
        let (output, report) = finished_trusting(command(&server, &arguments), &issuer).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!((&report["connects"], &report["connecting"]["count"]), (&30.into(), &30.into()));
        assert_eq!(report["resumed"], if is_resumed { 30 } else { 0 });
    }
    let plain = TestServer::open();
    let (output, _) = bench(&plain, &["--connects", "-s", "3"]).await;
    assert!(output.status.success());
    let (output, _) = bench(&plain, &["--connects", "-s", "3", "--resumed"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("resumed no session"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wide_loads_deliver_all() {
    let server = TestServer::open();
    let many = ["-t", "600", "-s", "2", "--topics-per-connection", "600", "--rate", "2000"];
    assert_eq!(sound(&server, &many).await["connections"], 2);
    let cbor = [&many[..], &["--protocol", "ws+cbor"]].concat();
    assert_eq!(sound(&server, &cbor).await["connections"], 2);
    let patterns = ["-t", "100", "-s", "1", "--patterns", "7", "--rate", "1000", "--threads", "2"];
    let report = sound(&server, &patterns).await;
    assert_eq!(report["connections"], 107);
    assert_eq!(number(&report, "delivery", "delivered"), 2 * 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_saturation_and_silence_are_counted_too() {
    let server = TestServer::open();
    let report = sound(&server, &["-s", "10", "--burst", "20", "--pause", "50ms"]).await;
    assert_eq!(number(&report, "delivery", "delivered") % 200, 0);
    assert!(number(&report, "delivery", "delivered") > 0);
    let report =
        sound(&server, &["-s", "2", "--rate", "max", "--pipeline", "4", "--duration", "2s"]).await;
    assert!(number(&report, "publish", "events") > 0);
    let report = sound(&server, &["-s", "2", "--rate", "0"]).await;
    assert_eq!(number(&report, "delivery", "expected"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_says_which_rates_it_tried_and_which_held() {
    let server = TestServer::open();
    let arguments = ["-s", "500", "--rate", "search", "--p99", "1s", "--duration", "300ms"];
    let (output, report) = bench(&server, &arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let steps = report["search"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["held"] == true), "{report}");
    assert!(steps.iter().all(|step| step["rate"].as_f64() > Some(0.0)), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storms_and_slow_readers_do_not_count_as_subscribers() {
    let server = TestServer::open();
    for kind in ["subscribe", "connect"] {
        let arguments = ["-s", "10", "--slow", "0.2", "--storm", kind, "--storm-rate", "200"];
        let report = sound(&server, &arguments).await;
        assert_eq!(report["slow"]["connections"], 2);
        assert!(number(&report, "storm", "done") > 0, "{report}");
        assert_eq!(report["storm"]["failed"], 0);
        assert_eq!(number(&report, "delivery", "delivered"), 8 * 25);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_is_ended_is_missed() {
    let server = TestServer::open();
    let mut command = command(&server, &["-s", "3", "--rate", "100", "--duration", "3s"]);
    let running = tokio::task::spawn_blocking(move || command.output().expect("the bench runs"));
    let sessions = async || {
        let listed = expect_status(
            server.get("/v1/sessions").send().await.expect("an answer"),
            reqwest::StatusCode::OK,
        )
        .await;
        listed["sessions"].as_array().expect("sessions").clone()
    };
    eventually("all subscribers are there", async || sessions().await.len() == 3).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let id = sessions().await[0]["session"].as_str().expect("an id").to_owned();
    let ended = server.delete(&format!("/v1/sessions/{id}")).send().await.expect("an answer");
    assert!(ended.status().is_success());

    let output = running.await.expect("no panic");
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report all the same");
    let missing = number(&report, "delivery", "missing");
    assert!(missing > 0);
    let (expected, delivered) = (&report["delivery"]["expected"], &report["delivery"]["delivered"]);
    assert_eq!(expected.as_u64(), delivered.as_u64().map(|delivered| delivered + missing));
    assert!(String::from_utf8_lossy(&output.stderr).contains("deliveries are missing"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_used_and_refusals_explained() {
    let server = TestServer::with(|config| {
        support::close(config);
        config.limits.auth_timeout = Duration::from_millis(300);
    });
    let (output, _) = bench(&server, &["-s", "2"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("unauthorized") || said.contains("401"), "{said}");
    sound(&server, &["-s", "2", "--key", API_KEY]).await;
}

#[tokio::test]
async fn what_can_not_be_measured_is_wrong_usage() {
    let server = TestServer::open();
    for wrong in [&["-t", "0"][..], &["--payload", "3"], &["--patterns", "2"], &["--slow", "2"]] {
        let (output, _) = bench(&server, wrong).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_uses_is_reported_where_its_process_is_known() {
    let server = TestServer::open();
    let pid = std::process::id().to_string();
    let report = sound(&server, &["-s", "5", "--pid", &pid]).await;
    assert!(report["server"]["cpu_us_per_delivery"].as_f64() > Some(0.0), "{report}");
    assert!(number(&report, "server", "memory_connected") > 0);
    let (output, _) = bench(&server, &["--pid", "4194304"]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no process 4194304"));
}
