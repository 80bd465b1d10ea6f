//! The real broker behind the real proxies, each configured as `docs/behind-a-proxy.md` says.
//!
//! One suite of checks goes through each of them. `FANFARE_IDLE_SECONDS=600` leaves clients idle for ten
//! minutes, and does nothing else.

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod caddy;
mod gateway;
mod haproxy;
mod idle;
mod nginx;
mod password;
mod pool;
mod source;
mod suite;
mod traefik;
