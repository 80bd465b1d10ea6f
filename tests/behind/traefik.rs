//! Traefik, which `scripts/test` has from `requirements.txt`.

use crate::broker::Broker;
use crate::gateway::{Gateway, block, is_installed};
use crate::suite;

/// Traefik before the broker on a port.
pub fn start(broker: u16) -> Gateway {
    Gateway::start("traefik", |directory, port, traefik| {
        let own = [("127.0.0.1:8080", format!("127.0.0.1:{broker}"))];
        let file = directory.join("dynamic.yml");
        std::fs::write(&file, block("yaml", &own)).expect("it is written");
        traefik.arg(format!("--entrypoints.web.address=127.0.0.1:{port}"));
        traefik.arg(format!("--providers.file.filename={}", file.display()));
        traefik.args(["--global.checknewversion=false", "--global.sendanonymoususage=false"]);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_by_the_page_passes_everything_on_and_lets_wait_who_comes_while_the_broker_is_away()
{
    if !is_installed("traefik") {
        return;
    }
    let broker = Broker::start();
    let traefik = start(broker.port);
    suite::ready(&traefik).await;
    suite::all_but_restarts(&traefik).await;
    suite::restart(&traefik, broker, suite::waiting).await;
}
