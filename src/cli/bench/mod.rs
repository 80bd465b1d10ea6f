//! `fanfare bench`: how fast a broker is, measured from outside.
//!
//! Subscribers live on threads of their own and count what arrives; this thread publishes, as fast
//! or as evenly as asked for; what the server used is read from the system. The way to speak to the
//! server is a [`Dialect`], so that other servers can be given the same work (see `bench/`).

mod audience;
mod clock;
mod connects;
mod demand;
mod dialect;
mod fleet;
mod frames;
mod herd;
mod load;
mod measure;
mod meter;
mod native;
mod options;
mod payload;
mod process;
mod publisher;
mod report;
mod response;
mod schedule;
mod search;
mod socket;
mod storm;
mod stream;
mod subscriber;
mod target;
mod work;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::task::LocalSet;

pub use self::demand::{Asking, Demand, HerdKind};
pub use self::dialect::{Answer, Dialect, Heard, Opening, Post, Transport, http_answer, upgrade};
pub use self::herd::{Herd, HerdReport};
pub use self::load::{Load, Pace, Protocol, Publish, Storm, StormKind};
pub use self::native::Native;
pub use self::process::{Cpu, Server};
pub use self::report::{
    DeliveryReport, Percentiles, PublishReport, Report, ServerReport, SlowReport, Step, StormReport,
};
pub use self::target::{Secured, Sessions, Target};
pub use self::work::{Bench, Watch};

use self::connects::Connects;
use self::measure::Running;
pub(super) use self::options::Args;
use super::remote;
use super::{Failure, note, open_files, print};

/// Runs a bench and prints its report. What was lost on the way makes it a failure.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let url = args.url.clone().base()?;
    let publish_url = args.publish_url.clone().map(|url| remote::UrlArgs::of(url).base());
    let publish_url = publish_url.transpose()?.unwrap_or_else(|| url.clone());
    let key = remote::credential(args.key.clone(), "FANFARE_API_KEY")?;
    let token = remote::credential(args.token.clone(), "FANFARE_TOKEN")?.or_else(|| key.clone());
    if let Some(of) = args.connects()? {
        return connects(of, &args, &url);
    }
    if let Some(of) = args.herd()? {
        return herd(of, &args, &url, [key, token]);
    }
    let load = args.load()?;
    load.check().map_err(Failure::Usage)?;
    let carried = args.carried()?;
    if let Some(warning) = open_files::make_room(load.connections() + load.publishers()) {
        note(warning);
    }
    let bar = progress();
    let shown = bar.clone();
    let report = measure(async {
        let target = Target::of(&url, args.sessions()).await?;
        let publish_to = Target::of(&publish_url, args.sessions()).await?;
        let (protocol, publish) = (load.protocol, load.publish);
        let native = Native { target, publish_to, token, key, protocol, publish, carried };
        let watch = Box::new(move |watch| show(&shown, watch));
        Bench { watch, ..bench(&args, load, native) }.run().await
    });
    bar.finish_and_clear();
    let report = printed(report, &args)?;
    let faults = report.faults();
    if faults.is_empty() { Ok(()) } else { Err(Failure::Failed(faults.join("\n"))) }
}

/// Has a herd come, and prints what became of it.
fn herd(
    herd: Herd,
    args: &Args,
    url: &str,
    [key, token]: [Option<String>; 2],
) -> Result<(), Failure> {
    let (carried, load) = (args.carried()?, args.load()?);
    let report = measure(async {
        let target = Target::of(url, args.sessions()).await?;
        let (protocol, publish) = (Protocol::Json, Publish::Batch);
        let publish_to = target.clone();
        let native = Native { target, publish_to, token, key, protocol, publish, carried };
        bench(args, load, native).come_back(herd).await
    });
    let report = printed(report, args)?;
    report.fault().map_or(Ok(()), |fault| Err(Failure::Failed(fault)))
}

/// Has clients connect, and prints what became of that.
fn connects(connects: Connects, args: &Args, url: &str) -> Result<(), Failure> {
    let report = measure(async {
        let target = Target::of(url, args.sessions()).await?;
        connects.run(&target, &Server::new(args.pids.clone())).await
    });
    let report = printed(report, args)?;
    report.fault().map_or(Ok(()), |fault| Err(Failure::Failed(fault)))
}

/// A bench of Fanfare, which nobody watches.
fn bench(args: &Args, load: Load, native: Native) -> Bench {
    Bench {
        load,
        publish_to: native.publish_to.clone(),
        target: native.target.clone(),
        dialect: Arc::new(native),
        server: Server::new(args.pids.clone()),
        store: Server::default(),
        prefix: prefix(),
        watch: Box::new(|_| {}),
    }
}

/// What a bench came to, once it is printed.
fn printed<R: Serialize + Display>(report: Result<R, String>, args: &Args) -> Result<R, Failure> {
    let report = report.map_err(Failure::Failed)?;
    match args.json {
        true => print(serde_json::to_string_pretty(&report).map_err(Failure::failed)?)?,
        false => print(&report)?,
    }
    Ok(report)
}

/// What the topics of one run begin with.
fn prefix() -> String {
    format!("bench.{:08x}", rand::random::<u32>())
}

impl Bench {
    /// Runs it. Must be called within a `LocalSet`.
    pub async fn run(&self) -> Result<Report, String> {
        self.load.check()?;
        if let Some(id) = self.server.missing() {
            return Err(format!("there is no process {id}"));
        }
        match self.load.pace {
            Pace::Search { p99 } => search::run(self, p99).await,
            pace => Running::start(self).await?.run(pace, self.load.duration).await,
        }
    }
}

/// Runs a bench on this thread.
pub fn measure<R>(bench: impl Future<Output = Result<R, String>>) -> Result<R, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("can't start a runtime: {error}"))?;
    LocalSet::new().block_on(&runtime, bench)
}

/// A line that is shown where someone is watching.
fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}");
    let bar = ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn show(bar: &ProgressBar, watch: Watch) {
    if bar.is_hidden() {
        return;
    }
    bar.set_message(match watch {
        Watch::Opening(live, of) => {
            format!("{} of {} connections", HumanCount(live as u64), HumanCount(of as u64))
        }
        Watch::Running(published, delivered) => {
            format!("{} published, {} delivered", HumanCount(published), HumanCount(delivered))
        }
    });
}
