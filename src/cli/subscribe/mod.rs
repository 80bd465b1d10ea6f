//! `fanfare subscribe`: events as they come, one a line, for as long as wanted.
//!
//! It comes back after every disconnect that can pass and goes on where it was, so that no event is
//! missed unless it says so.

pub(super) mod connection;
pub(super) mod ending;
pub(super) mod message;
mod output;
mod resume;

use std::time::Duration;

use actix_web::rt::System;
use tokio::time::sleep;

use self::connection::{Connection, Incoming};
use self::ending::{Bye, Ending};
use self::message::Message;
use self::output::{Output, Written};
use self::resume::Resume;
use super::backoff::Backoff;
use super::print::unread;
use super::remote::{self, Remote, UrlArgs};
use super::signals::Signals;
use super::{Failure, note};
use crate::model::Pattern;

const EXAMPLES: &str = "\
Examples:
  fanfare subscribe demo
  fanfare subscribe 'orders.>' 'stock.*' --snapshot
  fanfare subscribe 'chat.>' --tail 50
  fanfare subscribe 'sensors.*' --data --count 10
  fanfare subscribe 'sensors.>' --max-rate 2
  fanfare subscribe 'orders.>' --since k3v9x2mq-1-1841
  fanfare subscribe 'orders.>' --since -15m

With a token (or an API key): FANFARE_TOKEN=... fanfare subscribe ... (better than --token, which
others on this machine can see in the list of processes). The password of a proxy:
FANFARE_PROXY_LOGIN=USER:PASSWORD; the token then goes as the first message.

Events go to standard output, each as a JSON object on a line of its own; everything else that is to
be said goes to standard error: where events are missing, for instance (gap). It ends once nobody
reads them any more, also while none come.";

/// What `subscribe` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The topics; `*` stands for one segment, a final `>` for one or more
    #[arg(required = true, value_name = "PATTERN", value_parser = Pattern::parse)]
    patterns: Vec<Pattern>,
    /// Begin after this cursor, which is the `id` of an event; or at a time as RFC 3339 writes it, or so long ago
    #[arg(long, value_name = "CURSOR|TIME|-15m", allow_hyphen_values = true)]
    since: Option<String>,
    /// First print the newest event of each topic
    #[arg(long, conflicts_with_all = ["last", "tail"])]
    snapshot: bool,
    /// First print the newest N events of each topic
    #[arg(long, value_name = "N", conflicts_with = "tail", value_parser = clap::value_parser!(u64).range(1..))]
    last: Option<u64>,
    /// First print the newest N events of all that matches
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tail: Option<u64>,
    /// What to get while events come faster than they are taken: all of them, until the broker hangs
    /// up (and then on from there), or the latest of each topic
    #[arg(long, value_name = "MODE", value_parser = ["all", "latest"])]
    mode: Option<String>,
    /// Get at most N events a second of each topic, always with the last; implies --mode latest
    #[arg(long, value_name = "N")]
    max_rate: Option<f64>,
    /// Print the data of events alone
    #[arg(long)]
    data: bool,
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    url: UrlArgs,
    /// The token; better set FANFARE_TOKEN
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Prints events until it has enough of them, nobody reads them any more, or a signal.
pub fn run(args: Args) -> Result<(), Failure> {
    let credential = remote::credential(args.token, "FANFARE_TOKEN")?;
    System::new().block_on(async move {
        let remote = Remote::new(args.url, credential)?;
        let mut signals = Signals::catch().map_err(Failure::failed)?;
        let mut subscriber = Subscriber {
            remote,
            patterns: args.patterns,
            snapshot: args.snapshot,
            last: args.last,
            tail: args.tail,
            mode: args.mode,
            max_rate: args.max_rate,
            data: args.data,
            left: args.count,
            resume: Resume::new(args.since.clone()),
            backoff: Backoff::default(),
            output: Output::new(std::io::stdout()),
        };
        let gone = subscriber.output.gone();
        let (result, patience) = tokio::select! {
            () = gone => (Ok(()), Duration::MAX),
            result = subscriber.run() => (result, Duration::MAX),
            () = unread() => (Err(Failure::Unread), Duration::ZERO),
            _ = signals.next() => (Ok(()), Duration::from_secs(1)),
        };
        // A signal must end this even where nobody takes what is still to be written.
        let written = tokio::select! {
            written = subscriber.output.finish(patience) => written?,
            _ = signals.next() => Written::Some,
        };
        let begun = args.since.as_deref();
        if let Some(cursor) = subscriber.resume.since().filter(|cursor| Some(*cursor) != begun)
            && matches!((&result, written), (Ok(()) | Err(Failure::Failed(_)), Written::All))
        {
            note(format_args!("to go on from here: --since {cursor}"));
        }
        result
    })
}

/// What one run of the command holds.
struct Subscriber {
    remote: Remote,
    patterns: Vec<Pattern>,
    snapshot: bool,
    last: Option<u64>,
    tail: Option<u64>,
    mode: Option<String>,
    max_rate: Option<f64>,
    data: bool,
    left: Option<u64>,
    resume: Resume,
    backoff: Backoff,
    output: Output,
}

impl Subscriber {
    async fn run(&mut self) -> Result<(), Failure> {
        loop {
            let (reason, after) = match self.connection().await {
                Ending::Done => return Ok(()),
                Ending::Stop(reason) => return Err(Failure::Failed(reason)),
                Ending::Again { reason, after } => (reason, after),
            };
            let wait = self.backoff.wait(after, rand::random());
            note(format_args!("{reason}; connecting again in {:.1} s", wait.as_secs_f32()));
            sleep(wait).await;
        }
    }

    /// Lives one connection through.
    async fn connection(&mut self) -> Ending {
        let mut connection = match Connection::open(&self.remote, &self.query()).await {
            Ok(connection) => connection,
            Err(ending) => return ending,
        };
        note(format_args!("connected to {}", self.remote.url()));
        loop {
            let text = match connection.next().await {
                Incoming::Text(text) => text,
                Incoming::End(ending) => return ending,
            };
            let Some(message) = Message::parse(&text) else {
                return Ending::lost("the broker sent what is no message");
            };
            if message.op() == "bye" {
                connection.said_bye(Bye::new(&message));
            }
            if let Some(ending) = self.message(&message).await {
                return ending;
            }
        }
    }

    async fn message(&mut self, message: &Message<'_>) -> Option<Ending> {
        match message.op() {
            "event" => {
                let line = match message.member("data") {
                    Some(data) if self.data => data.get().to_owned(),
                    _ => message.without_op(),
                };
                if self.output.line(line).await.is_err() {
                    return Some(Ending::Done);
                }
                self.left = self.left.map(|left| left - 1);
            }
            "gap" => {
                let since = message.text("since").unwrap_or_default();
                let of = match message.texts("topics") {
                    topics if topics.is_empty() => String::new(),
                    topics => format!("of {} ", topics.join(", ")),
                };
                note(format_args!("gap: events {of}after {since} are missing"));
            }
            "live" => {
                self.backoff.reset();
                note("live");
            }
            "trouble" => note(message.text("message").unwrap_or_default()),
            "goaway" => note("the broker is about to stop"),
            "error" => return Some(Ending::error(message)),
            _ => {}
        }
        self.resume.saw(message);
        (self.left == Some(0)).then_some(Ending::Done)
    }

    /// What to ask for with the next connect.
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for pattern in &self.patterns {
            query.append_pair("topic", pattern.as_str());
        }
        if self.snapshot {
            query.append_pair("snapshot", "true");
        }
        for (name, count) in [("last", self.last), ("tail", self.tail)] {
            if let Some(count) = count {
                query.append_pair(name, &count.to_string());
            }
        }
        if let Some(mode) = &self.mode {
            query.append_pair("mode", mode);
        }
        if let Some(rate) = self.max_rate {
            query.append_pair("max_rate", &rate.to_string());
        }
        if let Some(since) = self.resume.since() {
            query.append_pair("since", since);
        }
        query.finish()
    }
}
