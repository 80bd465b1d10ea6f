//! Caddy.

use crate::broker::Broker;
use crate::gateway::{Gateway, block, is_installed};
use crate::suite;

/// Caddy before the broker on a port.
pub fn start(broker: u16) -> Gateway {
    Gateway::start("caddy", |directory, port, caddy| {
        let own = [
            ("http://dashboard.example", format!("http://127.0.0.1:{port}")),
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
