//! Fanfare, a live-updates broker for dashboards.
pub mod admin;
pub mod auth;
pub mod broker;
pub mod config;
pub mod console;
pub mod history;
pub mod http;
pub mod ingress;
pub mod metrics;
pub mod model;
pub mod protocol;
pub mod server;
pub mod session;
