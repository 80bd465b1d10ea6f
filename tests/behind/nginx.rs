//! nginx, as the page has it and as people copy it.

use std::path::Path;

use serde_json::Value;

use crate::broker::Broker;
use crate::gateway::{Gateway, block, is_installed};
use crate::password::extra;
use crate::suite;
use crate::support::raw::knock;

/// What surrounds a site's own file.
const AROUND: &str = "daemon off;\nuser root;\npid nginx.pid;\nerror_log stderr warn;\n\
                      events { worker_connections 4096; }\nhttp {\naccess_log off;\n";

/// The lines of most guides.
const COPIED: &str = r#"
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
    proxy_set_header Host $host;
"#;

fn start(site: impl FnOnce(&Path, u16) -> String) -> Gateway {
    Gateway::start("nginx", |directory, port, nginx| {
        let mut folders = String::new();
        for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            folders += &format!("{name}_temp_path {name};\n");
        }
        let file = format!("{AROUND}{folders}{}\n}}\n", site(directory, port));
        std::fs::write(directory.join("nginx.conf"), file).expect("it is written");
        nginx.args(["-c", "nginx.conf", "-e", "stderr", "-p"]).arg(directory);
    })
}

/// nginx before the broker on a port, by the block of the page.
pub fn by_the_page(broker: u16) -> Gateway {
    start(|_, port| {
        let own = [
            ("listen 80;", format!("listen 127.0.0.1:{port};")),
            ("127.0.0.1:8080", format!("127.0.0.1:{broker}")),
        ];
        block("nginx", &own)
    })
}

/// The same, which asks for a password.
pub fn with_password(broker: u16) -> Gateway {
    start(|directory, port| {
        let passwords = directory.join("htpasswd");
        std::fs::write(&passwords, "ada:{PLAIN}secret\n").expect("it is written");
        let own = [("/etc/nginx/htpasswd", passwords.display().to_string())];
        let (whole, location) = extra("nginx-extra", &own);
        let own = [
            ("listen 80;", format!("listen 127.0.0.1:{port};")),
            ("127.0.0.1:8080", format!("127.0.0.1:{broker}")),
            ("location / {", format!("location / {{\n{location}")),
        ];
        whole + &block("nginx", &own)
    })
}

/// nginx before the broker on a port, with `proxy_pass` and these lines.
pub fn copied(broker: u16, lines: &str) -> Gateway {
    start(|_, port| {
        let pass = format!("proxy_pass http://127.0.0.1:{broker};");
        format!("server {{ listen 127.0.0.1:{port}; location / {{ {pass} {lines} }} }}")
    })
}

/// nginx by the lines of most guides.
pub fn as_copied(broker: u16) -> Gateway {
    copied(broker, COPIED)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_by_the_page_passes_everything_on() {
    if !is_installed("nginx") {
        return;
    }
    let broker = Broker::start();
    let nginx = by_the_page(broker.port);
    suite::everything(&nginx, broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_as_people_copy_it_passes_on_what_the_page_says() {
    if !is_installed("nginx") {
        return;
    }
    let broker = Broker::start();
    let nginx = as_copied(broker.port);
    suite::all_but_bodies_origins_and_restarts(&nginx).await;
    // `$host` has no port.
    let own = format!("http://{}", nginx.address);
    let topic = nginx.url("/v1/topics/open.a");
    let asked = suite::http().get(topic).header("origin", own).send().await;
    let answer: Value = asked.expect("an answer").json().await.expect("JSON");
    assert_eq!(answer["code"], "origin_not_allowed", "{answer}");
    assert!(answer["detail"].as_str().expect("a text").contains("server.allowed_origins"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_that_was_told_nothing_passes_streams_on_and_sockets_are_refused_in_words() {
    if !is_installed("nginx") {
        return;
    }
    let broker = Broker::start();
    let nginx = copied(broker.port, "");
    suite::publishing(&nginx).await;
    suite::streaming(&nginx).await;
    let address = nginx.address.parse().expect("an address");
    let upgrade = "Connection: Upgrade, close|Upgrade: websocket|Sec-WebSocket-Version: 13|\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let request = format!("GET /v1/ws?topic=open.a HTTP/1.1|Host: a|{upgrade}||");
    let (status, answer) = knock(address, &request).await;
    assert_eq!(status, 426, "{answer}");
    assert!(answer.contains("\"upgrade_required\"") && answer.contains("WebSocket"), "{answer}");
}
