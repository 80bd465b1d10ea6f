//! `fanfare history`: what is kept, newest first, or from a place on, one event a line.
//!
//! It reads page by page until it has as many as are wanted or there are no more, and says from where to read on.

use actix_web::http::StatusCode;
use actix_web::rt::System;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::print::unread;
use super::remote::{self, Remote, UrlArgs, Why};
use super::{Failure, note, print};
use crate::http::PageSize;
use crate::model::{Cursor, Pattern};

/// The largest page that is read: far above what a broker sends at a time.
const MAX_PAGE_BYTES: usize = 256 << 20;

const EXAMPLES: &str = "\
Examples:
  fanfare history 'chat.>'
  fanfare history 'orders.>' --limit 1000
  fanfare history 'chat.>' --before k3v9x2mq-1-1841
  fanfare history 'orders.>' --since -15m
  fanfare history 'orders.>' --since 2026-03-14T09:00:00Z --data

With a token (or an API key): FANFARE_TOKEN=... fanfare history ... (better than --token, which others on this
machine can see in the list of processes).

Events go to standard output, newest first (with --since oldest first), each as a JSON object on a line of its own.
Standard error says how to read on, and where events are missing. To begin with the newest and then go on as they come: fanfare subscribe --tail N.";

/// What `history` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The topics; `*` stands for one segment, a final `>` for one or more
    #[arg(value_name = "PATTERN", value_parser = Pattern::parse)]
    pattern: Pattern,
    /// Only events before this cursor, which is the `id` of an event [default: from the newest]
    #[arg(long, value_name = "CURSOR", value_parser = Cursor::parse)]
    before: Option<Cursor>,
    /// Only events after this cursor, or since a time as RFC 3339 writes it, or so long ago; the oldest come first
    #[arg(
        long,
        value_name = "CURSOR|TIME|-15m",
        allow_hyphen_values = true,
        conflicts_with = "before"
    )]
    since: Option<String>,
    /// End after this many events
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Print the data of events alone
    #[arg(long)]
    data: bool,
    #[command(flatten)]
    url: UrlArgs,
    /// The token; better set FANFARE_TOKEN
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// A page as a broker gives it.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    next: Option<String>,
    gap: bool,
}

#[derive(Deserialize)]
struct WithData<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Prints kept events until there are as many as are wanted, no more, or nobody reads them.
pub fn run(args: Args) -> Result<(), Failure> {
    let credential = remote::credential(args.token.clone(), "FANFARE_TOKEN")?;
    System::new().block_on(async move {
        let remote = Remote::new(args.url.clone(), credential)?;
        remote.require_room()?;
        tokio::select! {
            result = read(&remote, &args) => result,
            () = unread() => Err(Failure::Unread),
        }
    })
}

/// From where it is read, and so which way.
enum From {
    /// Back from here; from the newest event where it is empty.
    Before(String),
    /// On from here.
    Since(String),
}

impl From {
    fn new(args: &Args) -> Self {
        match &args.since {
            Some(since) => Self::Since(since.clone()),
            None => Self::Before(args.before.map_or(String::new(), |before| before.to_string())),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Before(_) => "before",
            Self::Since(_) => "since",
        }
    }

    fn place(&self) -> &str {
        let (Self::Before(place) | Self::Since(place)) = self;
        place
    }

    /// The same way, from where a page ends.
    fn next(self, place: String) -> Self {
        match self {
            Self::Before(_) => Self::Before(place),
            Self::Since(_) => Self::Since(place),
        }
    }
}

async fn read(remote: &Remote, args: &Args) -> Result<(), Failure> {
    let mut from = From::new(args);
    let mut left = args.limit;
    loop {
        let wanted = left.min(PageSize::MAX as u64);
        let body = page(remote, args, &from, wanted).await?;
        let Page { events, next, gap } = serde_json::from_slice(&body)
            .map_err(|_| Failure::Failed(format!("{}: it is no page of events", remote.url())))?;
        if gap && matches!(from, From::Since(_)) {
            note("gap: older events were removed");
        }
        for event in &events {
            print(shown(event, args.data))?;
        }
        if gap && matches!(from, From::Before(_)) {
            note(if next.is_some() {
                "gap: events are missing"
            } else {
                "gap: older events were removed"
            });
        }
        left = left.saturating_sub(events.len() as u64);
        // Read on there is always a next place, at the end as well.
        let is_end = matches!(from, From::Since(_)) && (events.len() as u64) < wanted;
        match next {
            Some(next) if left == 0 => {
                note(format_args!("to read on from here: --{} {next}", from.name()));
                return Ok(());
            }
            Some(next) if !is_end => from = from.next(next),
            Some(_) | None => return Ok(()),
        }
    }
}

/// An event as it is printed.
fn shown(event: &RawValue, data: bool) -> &str {
    let only = data.then(|| serde_json::from_str::<WithData<'_>>(event.get()));
    only.and_then(Result::ok).map_or(event.get(), |event| event.data.get())
}

async fn page(remote: &Remote, args: &Args, from: &From, limit: u64) -> Result<Bytes, Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("match", args.pattern.as_str()).append_pair(from.name(), from.place());
    query.append_pair("limit", &limit.to_string());
    let request = remote.get(&format!("/v1/events?{}", query.finish()));
    let failed = |why: Why| Failure::Failed(format!("{}: {why}", remote.url()));
    let head = remote.head(request.send()).await.map_err(failed)?;
    let answer = head.whole(MAX_PAGE_BYTES).await.map_err(failed)?;
    if answer.status == StatusCode::OK {
        return Ok(answer.body);
    }
    let mut reason = remote.refusal(&answer).await.to_string();
    if answer.status == StatusCode::UNAUTHORIZED && !remote.has_credential() {
        reason += "; set FANFARE_TOKEN to a token (or a key) that may subscribe there";
    }
    Err(Failure::Failed(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_shown_as_it_was_sent() {
        let event = r#"{"id":"abcdefgh-1-1","topic":"a","data":{"b" : 1.10}}"#;
        let raw: &RawValue = serde_json::from_str(event).unwrap();
        assert_eq!((shown(raw, false), shown(raw, true)), (event, r#"{"b" : 1.10}"#));
    }
}
