//! `fanfare publish`: one event from the command line, or one a line from standard input.
//!
//! Lines are read in a thread of their own, as a terminal or pipe may stay silent for ever, and are
//! sent in batches: full ones while there is much to send, small ones soon after a line came.

mod batch;
mod event;
mod input;
mod sender;

use std::io::IsTerminal;
use std::time::Duration;

use actix_web::rt::System;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use self::batch::Batch;
use self::event::Form;
use self::input::{InputError, Line};
use self::sender::Sender;
use super::remote::{self, Remote, UrlArgs};
use super::{Failure, note, print};
use crate::config::Span;
use crate::model::{EventType, Topic};

const EXAMPLES: &str = "\
Examples:
  fanfare publish demo '{\"hello\":\"world\"}'
  fanfare publish stock.socks 17 --type stock.changed
  tail -f app.log | fanfare publish logs.app --text
  fanfare publish --ndjson < events.ndjson

With a key: FANFARE_API_KEY=... fanfare publish ... (better than --key, which others on this machine
can see in the list of processes).

Lines are sent in batches of up to 1,000 events or 1 MiB, at most 100 ms after they came. Each batch
is kept whole or not at all, and is never published twice, however often it is sent again.";

/// What `publish` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The topic to publish to
    #[arg(required_unless_present = "ndjson", conflicts_with = "ndjson", value_parser = Topic::parse)]
    topic: Option<Topic>,
    /// The data: JSON if it parses, otherwise text. Without it, or with `-`, each line of standard
    /// input is the data of one event; blank lines are skipped
    #[arg(allow_negative_numbers = true)]
    data: Option<String>,
    /// The type of the events
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "ndjson", value_parser = EventType::parse)]
    kind: Option<EventType>,
    /// Take the data as text, even if it parses as JSON
    #[arg(long, conflicts_with = "ndjson")]
    text: bool,
    /// Take each line of standard input as a whole event: {"topic":...,"type":...,"data":...}
    #[arg(long)]
    ndjson: bool,
    #[command(flatten)]
    url: UrlArgs,
    /// The API key; better set FANFARE_API_KEY
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// How long to try again when the broker is away or busy
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    retry_for: Span,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// Publishes what the arguments or standard input hold.
pub fn run(args: Args) -> Result<(), Failure> {
    let credential = remote::credential(args.key, "FANFARE_API_KEY")?;
    let form = match args.topic {
        Some(topic) => Form::Data { topic, kind: args.kind, text: args.text },
        None => Form::Whole,
    };
    let data = args.data.filter(|data| data != "-");
    System::new().block_on(async move {
        let remote = Remote::new(args.url, credential)?;
        let sender = Sender::new(&remote, args.retry_for.0, progress(args.quiet || data.is_some()));
        match data {
            Some(data) => one(&sender, &form, &data, args.quiet).await,
            None => stream(&sender, &form, args.quiet).await,
        }
    })
}

/// Publishes one event and prints its receipt.
async fn one(sender: &Sender<'_>, form: &Form, data: &str, quiet: bool) -> Result<(), Failure> {
    let event = form.event(data.as_bytes()).map_err(Failure::failed)?;
    let mut batch = Batch::default();
    batch.push(1, &event);
    let answer = sender.send(&mut batch).await.map_err(Failure::Failed)?;
    if quiet {
        return Ok(());
    }
    print(sender::receipt(&answer).unwrap_or(&answer)).map_err(|failure| match failure {
        Failure::Failed(reason) => Failure::Failed(format!("{reason}; the event was published")),
        other => other,
    })
}

/// Publishes standard input, a line an event.
async fn stream(sender: &Sender<'_>, form: &Form, quiet: bool) -> Result<(), Failure> {
    if std::io::stdin().is_terminal() && !quiet {
        note("reading events, one a line; Ctrl-D ends");
    }
    let mut lines = input::read(std::io::BufReader::new(std::io::stdin()));
    let mut published = 0;
    let result = send_lines(sender, form, &mut lines, &mut published).await;
    sender.progress().finish_and_clear();
    let said = format!("published {published} event{}", if published == 1 { "" } else { "s" });
    match result {
        Ok(()) if quiet => Ok(()),
        Ok(()) => {
            note(said);
            Ok(())
        }
        Err(reason) => Err(Failure::Failed(format!("{reason}\n{said} before that"))),
    }
}

/// How long a line waits for others to go with it.
const LINGER: Duration = Duration::from_millis(100);

async fn send_lines(
    sender: &Sender<'_>,
    form: &Form,
    lines: &mut mpsc::Receiver<Result<Line, InputError>>,
    published: &mut u64,
) -> Result<(), String> {
    let mut batch = Batch::default();
    let mut due = Instant::now();
    loop {
        let line = if batch.is_empty() {
            lines.recv().await
        } else {
            match timeout_at(due, lines.recv()).await {
                Ok(line) => line,
                Err(_) => {
                    flush(sender, &mut batch, published).await?;
                    continue;
                }
            }
        };
        let Some(line) = line else { return flush(sender, &mut batch, published).await };
        let event = match read(line, form) {
            Ok(event) => event,
            Err(reason) => {
                flush(sender, &mut batch, published).await?;
                return Err(reason);
            }
        };
        let Some((number, event)) = event else { continue };
        if !batch.has_room_for(&event) {
            flush(sender, &mut batch, published).await?;
        }
        if batch.is_empty() {
            due = Instant::now() + LINGER;
        }
        batch.push(number, &event);
        if batch.is_full() {
            flush(sender, &mut batch, published).await?;
        }
    }
}

/// The event of a line, with the line's number; `None` for a blank line.
fn read(line: Result<Line, InputError>, form: &Form) -> Result<Option<(u64, String)>, String> {
    let line = line.map_err(|error| error.to_string())?;
    if line.bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    match form.event(&line.bytes) {
        Ok(event) => Ok(Some((line.number, event))),
        Err(error) => Err(format!("line {}: {error}", line.number)),
    }
}

async fn flush(sender: &Sender<'_>, batch: &mut Batch, published: &mut u64) -> Result<(), String> {
    if batch.is_empty() {
        return Ok(());
    }
    let events = batch.events();
    let (first, last) = batch.lines();
    match sender.send(batch).await {
        Ok(_) => {
            *published += events;
            sender.progress().set_position(*published);
            Ok(())
        }
        Err(reason) if first == last => Err(format!("line {first}: {reason}")),
        Err(reason) => Err(format!("lines {first} to {last}: {reason}")),
    }
}

/// Events and their rate, where someone is watching.
fn progress(hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} events, {per_sec}");
    let bar = ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
