//! A password that the proxy asks for, and the broker does not.

use reqwest::header::{ORIGIN, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};

use crate::broker::{Broker, LISTED};
use crate::gateway::{Gateway, block, is_installed};
use crate::support::eventually;
use crate::{caddy, haproxy, nginx, suite};

/// `secret`, by bcrypt at its least cost.
const HASH: &str = "$2b$04$fanfarefanfarefanfareu2xWuj6fiCuWLLiK9o4x453wW8f2Itwi";

/// Who has the password comes in, and who has none is told that one is needed, but for preflights, which carry none.
async fn it_is_asked_for(proxy: &Gateway) {
    let http = suite::http();
    let topic = proxy.url("/v1/topics/open.a");
    let get = || http.get(&topic).header(ORIGIN, LISTED);
    eventually("the proxy finds the broker", async || {
        let answer = get().basic_auth("ada", Some("secret")).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    })
    .await;
    for accept in ["*/*", "text/event-stream"] {
        let refused = get().header("accept", accept).send().await.expect("an answer");
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let asked = refused.headers()[WWW_AUTHENTICATE].to_str().expect("text");
        assert!(asked.starts_with("Basic"), "{asked}");
    }
    let preflight = http.request(Method::OPTIONS, &topic).header(ORIGIN, LISTED);
    let preflight = preflight.header("access-control-request-method", "POST");
    assert!(preflight.send().await.expect("an answer").status().is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_asks_for_it() {
    if is_installed("nginx") {
        let broker = Broker::start();
        it_is_asked_for(&nginx::with_password(broker.port)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_asks_for_it() {
    if is_installed("haproxy") {
        let broker = Broker::start();
        it_is_asked_for(&haproxy::with_password(broker.port)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_asks_for_it() {
    if is_installed("caddy") {
        let broker = Broker::start();
        it_is_asked_for(&caddy::with_password(broker.port, HASH)).await;
    }
}

/// What the page adds for a proxy: to its whole configuration, and in one place of it.
pub fn extra(language: &str, own: &[(&str, String)]) -> (String, String) {
    let block = block(language, own);
    let (line, _) = block.split_once("# in ").expect("the place is named");
    let whole = line.trim_end_matches('\t').to_owned();
    let (_, place) = block.split_once(":\n").expect("and what to add there");
    (whole, place.to_owned())
}
