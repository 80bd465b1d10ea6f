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
use self::event::{Carried, Form};
use self::input::{InputError, Line};
use self::sender::Sender;
use super::remote::{self, Remote, UrlArgs};
use super::{Failure, note, print};
use crate::config::Span;
use crate::model::{EventType, PublishKey, Topic};

const EXAMPLES: &str = "\
Examples:
  fanfare publish demo '{\"hello\":\"world\"}'
  fanfare publish stock.socks 17 --type stock.changed
  tail -f app.log | fanfare publish logs.app --text
  fanfare publish seats.7 ann --ttl 30s --if-latest absent
  fanfare publish orders.42 --removed
  fanfare publish orders.42 '{\"state\":\"paid\"}' --idempotency-key order-42-paid
  fanfare publish --ndjson < events.ndjson

With a key: FANFARE_API_KEY=... fanfare publish ... (better than --key, which others on this machine
can see in the list of processes). The password of a proxy: FANFARE_PROXY_LOGIN=USER:PASSWORD, in place of a
key, which the proxy has to say then.

Lines are sent in batches of up to 1,000 events or 1 MiB, at most 100 ms after they came. None is
published twice, however often its batch is sent again. A line that can't be published ends it: those before it are
published, and it is named by its number; --skip-bad-lines goes on past it, and the exit code is 1.";

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
    /// Leave out lines that can't be published, naming each, instead of ending at the first; the exit
    /// code is 1 if there were any
    #[arg(long, conflicts_with = "data")]
    skip_bad_lines: bool,
    #[command(flatten)]
    carried: Carried,
    #[command(flatten)]
    url: UrlArgs,
    /// The API key; better set FANFARE_API_KEY
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Publish the event once, however often this is run with this key: for as long as the broker remembers it
    /// (`history.idempotency_window`)
    #[arg(long, value_name = "KEY", conflicts_with = "ndjson", value_parser = PublishKey::parse)]
    idempotency_key: Option<PublishKey>,
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
        Some(topic) => {
            Form::Data { topic, kind: args.kind, text: args.text, carried: args.carried.clone() }
        }
        None => Form::Whole,
    };
    // A tombstone has no data to wait for.
    let none = args.carried.removed.then(|| "null".to_owned());
    let data = none.or(args.data.filter(|data| data != "-"));
    if data.is_none() && args.idempotency_key.is_some() {
        return Err(Failure::Usage(
            "--idempotency-key is for one event: give its data, or --removed".to_owned(),
        ));
    }
    System::new().block_on(async move {
        let remote = Remote::new(args.url, credential)?;
        remote.require_room()?;
        let sender = Sender::new(&remote, args.retry_for.0, progress(args.quiet || data.is_some()));
        match data {
            Some(data) => {
                let key = args.idempotency_key.as_ref();
                one(&sender, &form, &data, key, args.quiet).await
            }
            None => Stream::new(&sender, &form, args.skip_bad_lines).run(args.quiet).await,
        }
    })
}

/// Publishes one event and prints its receipt.
async fn one(
    sender: &Sender<'_>,
    form: &Form,
    data: &str,
    key: Option<&PublishKey>,
    quiet: bool,
) -> Result<(), Failure> {
    let event = form.event(data.as_bytes()).map_err(Failure::failed)?;
    let mut batch = Batch::default();
    batch.push(1, &event);
    let part = batch.take();
    let answer = match key {
        Some(key) => sender.send_under(key.as_str(), &part).await,
        None => sender.send(&part).await,
    };
    let answer = answer.map_err(|missed| Failure::Failed(missed.reason))?;
    if quiet {
        return Ok(());
    }
    print(sender::receipt(&answer).unwrap_or(&answer)).map_err(|failure| match failure {
        Failure::Failed(reason) => Failure::Failed(format!("{reason}; the event was published")),
        other => other,
    })
}

/// How long a line waits for others to go with it.
const LINGER: Duration = Duration::from_millis(100);

/// Standard input on its way, a line an event.
struct Stream<'a> {
    sender: &'a Sender<'a>,
    form: &'a Form,
    /// Whether it goes on past lines that can't be published.
    skips: bool,
    batch: Batch,
    published: u64,
    /// Of those taken, how many a newer version that is kept stands before.
    superseded: u64,
    skipped: u64,
}

impl<'a> Stream<'a> {
    fn new(sender: &'a Sender<'a>, form: &'a Form, skips: bool) -> Self {
        Self {
            sender,
            form,
            skips,
            batch: Batch::default(),
            published: 0,
            superseded: 0,
            skipped: 0,
        }
    }

    async fn run(mut self, quiet: bool) -> Result<(), Failure> {
        if std::io::stdin().is_terminal() && !quiet {
            note("reading events, one a line; Ctrl-D ends");
        }
        let mut lines = input::read(std::io::BufReader::new(std::io::stdin()));
        let result = self.send(&mut lines).await;
        self.sender.progress().finish_and_clear();
        let mut said = format!("published {}", counted(self.published, "event"));
        if self.superseded > 0 {
            said += &format!(", and {} superseded by a newer version", self.superseded);
        }
        match (result, self.skipped) {
            (Err(reason), _) => Err(Failure::Failed(format!("{reason}\n{said} before that"))),
            (Ok(()), 0) => {
                if !quiet {
                    note(said);
                }
                Ok(())
            }
            (Ok(()), skipped) => {
                let skipped = counted(skipped, "bad line");
                Err(Failure::Failed(format!("{said}, and left out {skipped}")))
            }
        }
    }

    async fn send(
        &mut self,
        lines: &mut mpsc::Receiver<Result<Line, InputError>>,
    ) -> Result<(), String> {
        let mut due = Instant::now();
        loop {
            let line = if self.batch.is_empty() {
                lines.recv().await
            } else {
                match timeout_at(due, lines.recv()).await {
                    Ok(line) => line,
                    Err(_) => {
                        self.flush().await?;
                        continue;
                    }
                }
            };
            let Some(line) = line else { return self.flush().await };
            let (number, event) = match read(line, self.form) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(bad) => {
                    self.flush().await?;
                    self.pass(bad)?;
                    continue;
                }
            };
            if !self.batch.has_room_for(&event) {
                self.flush().await?;
            }
            if self.batch.is_empty() {
                due = Instant::now() + LINGER;
            }
            self.batch.push(number, &event);
            if self.batch.is_full() {
                self.flush().await?;
            }
        }
    }

    /// Publishes what waits. What is refused for the sake of one event goes again in halves, the first
    /// before the second, until that event is alone.
    async fn flush(&mut self) -> Result<(), String> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut parts = vec![self.batch.take()];
        while let Some(part) = parts.pop() {
            let (events, place) = (part.events(), part.place());
            let missed = match self.sender.send(&part).await {
                Ok(answer) => {
                    let superseded = sender::superseded(&answer);
                    self.published += events.saturating_sub(superseded);
                    self.superseded += superseded;
                    self.sender.progress().set_position(self.published + self.superseded);
                    continue;
                }
                Err(missed) => missed,
            };
            let reason = format!("{place}: {}", missed.reason);
            // Where all go to one topic, none has a right that another lacks.
            let of_topic = missed.of_right && matches!(self.form, Form::Whole);
            if !missed.of_event && !of_topic {
                return Err(reason);
            }
            match part.halves() {
                Ok((first, second)) => parts.extend([second, first]),
                Err(_) => self.pass(Bad { reason, is_end: false })?,
            }
        }
        Ok(())
    }

    /// Goes past a line that can't be published, where that is asked for.
    fn pass(&mut self, Bad { reason, is_end }: Bad) -> Result<(), String> {
        if is_end || !self.skips {
            return Err(reason);
        }
        self.skipped += 1;
        self.sender.progress().suspend(|| note(format!("{reason}; left out")));
        Ok(())
    }
}

/// `1 event`, `2 events`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A line that can't be published.
struct Bad {
    reason: String,
    /// Whether no line comes behind it.
    is_end: bool,
}

/// The event of a line, with the line's number; `None` for a blank line.
fn read(line: Result<Line, InputError>, form: &Form) -> Result<Option<(u64, String)>, Bad> {
    let line = line.map_err(|error| Bad {
        reason: error.to_string(),
        is_end: matches!(error, InputError::Io(_)),
    })?;
    if line.bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    match form.event(&line.bytes) {
        Ok(event) => Ok(Some((line.number, event))),
        Err(error) => {
            let reason = format!("line {}: {error}", line.number);
            Err(Bad { reason, is_end: false })
        }
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
