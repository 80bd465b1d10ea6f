//! haproxy, with the file that docker-compose.yml and scripts/cluster-demo run.

use crate::broker::Broker;
use crate::gateway::{Gateway, is_installed};
use crate::suite;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cluster/haproxy.cfg");

/// haproxy before the broker on a port.
pub fn start(broker: u16) -> Gateway {
    Gateway::start("haproxy", |_, port, haproxy| {
        haproxy.args(["-f", FILE]);
        haproxy.env("BIND", format!("127.0.0.1:{port}"));
        haproxy.env("NODE_1", format!("127.0.0.1:{broker}"));
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_as_shipped_passes_everything_on() {
    if !is_installed("haproxy") {
        return;
    }
    let broker = Broker::start();
    let haproxy = start(broker.port);
    suite::everything(&haproxy, broker).await;
}
