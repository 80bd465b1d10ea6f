//! Caddy.

use crate::broker::Broker;
use crate::gateway::{Gateway, block, is_installed};
use crate::password::extra;
use crate::suite;

/// Caddy before the broker on a port.
pub fn start(broker: u16) -> Gateway {
    with(broker, "")
}

/// The same, which asks for a password that has this hash.
pub fn with_password(broker: u16, hash: &str) -> Gateway {
    // As it is called in every version.
    let own = [("basic_auth", "basicauth".to_owned()), ("HASH", hash.to_owned())];
    let (_, site) = extra("caddyfile-extra", &own);
    with(broker, &site)
}

fn with(broker: u16, site: &str) -> Gateway {
    Gateway::start("caddy", |directory, port, caddy| {
        let own = [
            ("http://dashboard.example {", format!("http://127.0.0.1:{port} {{\n{site}")),
            ("127.0.0.1:8080", format!("127.0.0.1:{broker}")),
        ];
        let file = format!("{{\n\tadmin off\n}}\n{}\n", block("caddyfile", &own));
        std::fs::write(directory.join("Caddyfile"), file).expect("it is written");
        caddy.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
        caddy.env("HOME", directory).env("XDG_DATA_HOME", directory);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_by_the_page_passes_everything_on() {
    if !is_installed("caddy") {
        return;
    }
    let broker = Broker::start();
    let caddy = start(broker.port);
    suite::everything(&caddy, broker).await;
}
