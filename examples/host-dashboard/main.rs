//! A live dashboard of this machine: processor, memory, network and disk, once a second.
//!
//! Two halves that know each other only through the broker. One samples the machine and publishes
//! over REST; what the broker can't take right now waits, in order, under the same idempotency key.
//! The other is a static page, which subscribes to `host.>` over WebSocket and draws what comes.
//! See `README.md` beside this file.

mod outbox;
mod page;
mod publisher;
mod sampler;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_web::rt::spawn;
use clap::Parser;
use tokio::time::{self, MissedTickBehavior};

use outbox::Outbox;
use publisher::Publisher;
use sampler::Sampler;

/// How many samples wait while the broker is away: ten minutes of them.
const UNSENT_SAMPLES: usize = 600;

/// Publishes this machine's processor, memory, network and disk once a second, and serves a page
/// that draws them.
#[derive(Debug, Parser)]
#[command(name = "host-dashboard")]
struct Args {
    /// The broker.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_parser = broker_url)]
    url: String,

    /// An API key that may publish to `host.>`; also from FANFARE_API_KEY.
    #[arg(long)]
    key: Option<String>,

    /// A token that may subscribe to `host.>`, which the page hands to the broker. Whoever can open
    /// the page can read it.
    #[arg(long)]
    page_token: Option<String>,

    /// The address of the page; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,

    /// What to call this machine in its topics [default: its host name].
    #[arg(long)]
    name: Option<String>,
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let key =
        args.key.or_else(|| std::env::var("FANFARE_API_KEY").ok()).filter(|key| !key.is_empty());
    let name = topic_segment(&args.name.unwrap_or_else(sampler::host_name));

    let (page, addr) =
        page::serve(args.listen, page::Config::new(&args.url, &name, args.page_token))?;
    println!("host-dashboard: open http://{addr}");
    println!(
        "host-dashboard: publishing host.{name}.* to {}; if it has credentials, or is on another machine, its \
         server.allowed_origins must list http://{addr}",
        args.url
    );

    let outbox = Rc::new(Outbox::with_room_for(UNSENT_SAMPLES));
    spawn(sample_every_second(name, Rc::clone(&outbox)));
    spawn(Publisher::new(&args.url, key).run(outbox));
    page.await
}

/// Samples the machine for as long as the program runs.
async fn sample_every_second(name: String, outbox: Rc<Outbox>) {
    let mut sampler = Sampler::new();
    let mut ticks = time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await; // the first comes at once, and rates need a second to look back on
    loop {
        ticks.tick().await;
        outbox.push(sampler.sample().to_batch(&name));
    }
}

/// The broker's address without a slash at its end.
fn broker_url(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("it must begin with http:// or https://".to_owned())
    }
}

/// A host name as one segment of a topic: letters, digits, `-` and `_`, anything else a `-`.
fn topic_segment(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let segment: String = name.chars().map(legal).take(100).collect();
    if segment.is_empty() { "localhost".to_owned() } else { segment }
}
