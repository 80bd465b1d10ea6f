//! haproxy, with the file that docker-compose.yml and scripts/cluster-demo run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::broker::Broker;
use crate::gateway::{Gateway, is_installed};
use crate::password::extra;
use crate::suite;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cluster/haproxy.cfg");

/// haproxy before the broker on a port.
pub fn start(broker: u16) -> Gateway {
    with(broker, |_| FILE.into())
}

/// The same, which asks for a password.
pub fn with_password(broker: u16) -> Gateway {
    with(broker, |directory| {
        let (whole, frontend) = extra("haproxy-extra", &[]);
        let shipped = fs::read_to_string(FILE).expect("it is shipped");
        let here = "frontend fanfare\n";
        assert!(shipped.contains(here));
        let file = directory.join("haproxy.cfg");
        fs::write(&file, shipped.replace(here, &format!("{whole}{here}{frontend}\n")))
            .expect("it is written");
        file
    })
}

fn with(broker: u16, file: impl FnOnce(&Path) -> PathBuf) -> Gateway {
    Gateway::start("haproxy", |directory, port, haproxy| {
        haproxy.arg("-f").arg(file(directory));
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
