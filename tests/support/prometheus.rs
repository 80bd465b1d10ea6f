//! A real Prometheus of a test's own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::free_port;
use super::{API_KEY, eventually};

/// Where our alerts are.
pub fn rules_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// A Prometheus that scrapes brokers each second and goes by the rules as they are.
pub struct Prometheus {
    process: Child,
    port: u16,
    http: Client,
    _directory: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl Prometheus {
    /// Watches these, and has scraped each of them once when it returns.
    pub async fn of(targets: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let all: Vec<_> = targets.iter().map(|target| format!("'{target}'")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{}/fanfare.rules.yml]\n\
             scrape_configs: [{{job_name: fanfare, authorization: {{credentials: '{API_KEY}'}}, \
             static_configs: [{{targets: [{}]}}]}}]\n",
            rules_folder().display(),
            all.join(", ")
        );
        fs::write(directory.path().join("prometheus.yml"), config).expect("written");
        let port = free_port();
        let process = Command::new("prometheus")
            .current_dir(directory.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs");
        let prometheus = Self { process, port, http: Client::new(), _directory: directory };
        eventually("all are scraped", async || {
            let up = prometheus.ask("query?query=fanfare_connects_total").await;
            let samples = up["data"]["result"].as_array().map_or(0, Vec::len);
            samples == 2 * targets.len()
        })
        .await;
        prometheus
    }

    pub async fn ask(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port);
        match self.http.get(url).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// Waits until all of these fire.
    pub async fn fires(&self, expected: &[&str]) {
        eventually(&format!("{expected:?}"), async || {
            let alerts = self.ask("alerts").await;
            let firing: Vec<_> = alerts["data"]["alerts"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|alert| alert["state"] == "firing")
                .filter_map(|alert| alert["labels"]["alertname"].as_str())
                .collect();
            expected.iter().all(|name| firing.contains(name))
        })
        .await;
    }

    /// Nothing fires.
    pub async fn is_still(&self) {
        let alerts = self.ask("alerts").await;
        assert_eq!(alerts["data"]["alerts"], json!([]));
    }
}
