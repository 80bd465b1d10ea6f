//! What `fanfare bench` takes on the command line.

use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::super::Failure;
use super::super::remote::UrlArgs;
use super::connects::Connects;
use super::demand::{Demand, HerdKind};
use super::herd::Herd;
use super::load::{Load, Pace, Protocol, Publish, Storm, StormKind};
use super::target::Sessions;
use crate::config::{Size, Span};

const EXAMPLES: &str = "\
Examples:
  fanfare bench                                   1 topic, 1,000 subscribers, 50 events a second
  fanfare bench --pid $(pgrep -x fanfare)         also what that costs the broker
  fanfare bench --rate search --p99 50ms          the most events a second that arrive in time
  fanfare bench --burst 100                       100 events at once, again and again
  fanfare bench -t 1000 -s 1 --rate max           1,000 topics with a subscriber each, flat out
  fanfare bench -s 10000 --rate 0 --pid PID       what idle connections cost
  fanfare bench -s 0 --publish ndjson --rate max  publishing alone
  fanfare bench -t 100000 -s 0 --patterns 1000    wildcards
  fanfare bench --carry '{\"ttl_ms\":5000}'         values that end by themselves
  fanfare bench --storm connect --storm-rate 10000
  fanfare bench --herd resume -t 500 -s 300       300 clients at once that missed 1,000 events
  fanfare bench --connects --resumed -s 2000 --url https://localhost --pid PID

Measure a broker of your own: the events stay in its history, on topics beneath bench. With keys:
FANFARE_API_KEY=... publishes, FANFARE_TOKEN=... (or the same key) subscribes. Over https every
handshake is a full one without --resumed; SSL_CERT_FILE names a certificate that is to be trusted.";

/// What `bench` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub(super) url: UrlArgs,
    /// The node that is published at, where it is another one of the same cluster than is subscribed at
    #[arg(long, value_name = "URL", conflicts_with_all = ["herd", "connects"])]
    pub(super) publish_url: Option<String>,
    /// How many topics
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    topics: usize,
    /// How many connections subscribe to each topic
    #[arg(short, long, value_name = "N", default_value_t = 1_000)]
    subscribers_per_topic: usize,
    /// How many topics a connection subscribes to
    #[arg(long, value_name = "N", default_value_t = 1)]
    topics_per_connection: usize,
    /// How many connections subscribe to a wildcard, which share out the topics among themselves
    #[arg(long, value_name = "N", default_value_t = 0)]
    patterns: usize,
    /// How subscribers connect
    #[arg(long, value_enum, default_value_t = Protocol::Json)]
    protocol: Protocol,
    /// The share of the connections that read slowly, such as 0.1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    slow: f64,
    /// How much a second these read
    #[arg(long, value_name = "SIZE", default_value = "0")]
    slow_pace: Size,
    /// Events a second, `max`, or `search` for the highest rate that arrives within --p99
    #[arg(short, long, value_name = "RATE", default_value = "50")]
    rate: Rate,
    /// What a search lets the 99th percentile of latency be
    #[arg(long, value_name = "DURATION", default_value = "50ms")]
    p99: Span,
    /// Publish so many events at once instead, and again once they have arrived
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    burst: Option<usize>,
    /// The pause between bursts
    #[arg(long, value_name = "DURATION", default_value = "100ms")]
    pause: Span,
    /// How events are published
    #[arg(long, value_enum, default_value_t = Publish::Single)]
    publish: Publish,
    /// Events a publish, with `batch` and `ndjson`
    #[arg(long, value_name = "N", default_value_t = 100)]
    batch: usize,
    /// Publishes that wait for their answer at a time [default: 16, or a whole burst]
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,
    /// How many of these share a connection, one sent behind the other [default: 1, or a fourth of a
    /// burst]
    #[arg(long, value_name = "N")]
    pipeline: Option<usize>,
    /// Bytes of data an event
    #[arg(long, value_name = "SIZE", default_value = "128")]
    payload: Size,
    /// What each event carries beside its data, as a JSON object such as `{"ttl_ms":60000}`
    #[arg(long, value_name = "JSON")]
    carry: Option<String>,
    /// How long is measured; a search takes so long for each rate
    #[arg(short, long, value_name = "DURATION", default_value = "10s")]
    duration: Span,
    /// How long is not, before that
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    warmup: Span,
    /// What other connections do meanwhile
    #[arg(long, value_enum)]
    storm: Option<StormKind>,
    /// How often a second they do it
    #[arg(long, value_name = "RATE", default_value_t = 1_000.0, requires = "storm")]
    storm_rate: f64,
    /// Measure clients that come all at once instead, -s of them, over WebSocket: to one topic, or by
    /// a wildcard to -t of them, or to --by-name of these
    #[arg(long, value_enum, conflicts_with_all = ["storm", "patterns", "protocol", "rate", "burst"])]
    herd: Option<HerdKind>,
    /// How many events each client of a herd has missed, or of the newest of each topic asks for
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "herd")]
    behind: usize,
    /// How many of the topics each of them asks for by name; 0 for all, by a wildcard
    #[arg(long, value_name = "N", default_value_t = 0, requires = "herd")]
    by_name: usize,
    /// By how many different sets of patterns a herd asks for its topics
    #[arg(long, value_name = "N", default_value_t = 1, requires = "herd")]
    pattern_sets: usize,
    /// The token of a herd grants every other topic, bench.*.a.> alone
    #[arg(long, requires = "herd")]
    half_granted: bool,
    /// A herd asks for compressed messages
    #[arg(long, requires = "herd")]
    compressed: bool,
    /// A herd comes once this process has ended and the broker is ready: what it comes for is published before.
    /// End it as you like, such as by kill -9
    #[arg(long, value_name = "PID", requires = "herd")]
    after: Option<u32>,
    /// Measure clients instead that connect one behind the other, -s of them, ask one small thing and go
    #[arg(long, conflicts_with_all = ["herd", "storm", "patterns", "protocol", "rate", "burst"])]
    connects: bool,
    /// Have connections resume sessions of TLS, where they can
    #[arg(long)]
    resumed: bool,
    /// The broker's process, to measure what it uses, its descendants included; may be repeated
    #[arg(long = "pid", value_name = "PID")]
    pub(super) pids: Vec<u32>,
    /// Threads of the bench that subscribers live on
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Addresses 127.0.0.x that connections come from, where one runs out of ports
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8))]
    sources: u8,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// The API key; better set FANFARE_API_KEY
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// The token of subscribers; better set FANFARE_TOKEN
    #[arg(long, value_name = "TOKEN")]
    pub(super) token: Option<String>,
}

/// A rate as it is typed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rate {
    Events(f64),
    Max,
    Search,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "max" => Ok(Self::Max),
            "search" => Ok(Self::Search),
            number => match number.parse() {
                Ok(rate) if (0.0..=1e8).contains(&rate) => Ok(Self::Events(rate)),
                _ => Err("expected events a second, `max` or `search`"),
            },
        }
    }
}

impl Args {
    /// The load they describe.
    pub(super) fn load(&self) -> Result<Load, Failure> {
        let Self { topics, subscribers_per_topic, topics_per_connection, patterns, .. } = *self;
        let Self { protocol, slow, publish, batch, threads, .. } = *self;
        let storm = self.storm.map(|kind| Storm { kind, rate: self.storm_rate });
        if !(self.storm_rate > 0.0 && self.storm_rate <= 1e6) {
            return Err(Failure::Usage("the rate of a storm is above 0 and up to 1000000".into()));
        }
        if self.duration.0 < Duration::from_millis(100) {
            return Err(Failure::Usage("a bench takes at least 100ms".into()));
        }
        let (in_flight, pipeline) = Load::flight(self.burst);
        Ok(Load {
            topics,
            subscribers_per_topic,
            topics_per_connection,
            patterns,
            payload: self.payload.0,
            slow,
            slow_pace: self.slow_pace.0,
            protocol,
            pace: self.pace(),
            publish,
            batch,
            in_flight: self.in_flight.unwrap_or(in_flight),
            pipeline: self.pipeline.unwrap_or(pipeline),
            duration: self.duration.0,
            warmup: self.warmup.0,
            threads,
            sources: self.sources.into(),
            storm,
        })
    }

    /// The herd they describe, if they do.
    pub(super) fn herd(&self) -> Result<Option<Herd>, Failure> {
        let Self { topics, subscribers_per_topic: clients, behind, .. } = *self;
        let Self { by_name, pattern_sets: sets, half_granted: is_half_granted, .. } = *self;
        let Some(kind) = self.herd else { return Ok(None) };
        if topics == 0 || clients == 0 || self.payload.0 < Load::MIN_PAYLOAD {
            let least = Load::MIN_PAYLOAD;
            let wrong =
                format!("a herd takes a topic, a client and {least} bytes of data at least");
            return Err(Failure::Usage(wrong));
        }
        let is_compressed = self.compressed;
        let demand = Demand { kind, topics, by_name, sets, behind, is_half_granted, is_compressed };
        Ok(Some(Herd { demand, clients, after: self.after }))
    }

    /// The connects they describe, if they do.
    pub(super) fn connects(&self) -> Result<Option<Connects>, Failure> {
        let (count, sources) = (self.subscribers_per_topic, self.sources.into());
        match (self.connects, count) {
            (false, _) => Ok(None),
            (true, 0) => Err(Failure::Usage("connects need a client at least".into())),
            (true, _) => Ok(Some(Connects { count, sources, sessions: self.sessions() })),
        }
    }

    /// What becomes of sessions of TLS.
    pub(super) fn sessions(&self) -> Sessions {
        if self.resumed { Sessions::Resumed } else { Sessions::Forgotten }
    }

    /// What each event carries, as members of an object.
    pub(super) fn carried(&self) -> Result<String, Failure> {
        let Some(text) = &self.carry else { return Ok(String::new()) };
        let members: serde_json::Map<_, _> = serde_json::from_str(text).map_err(|error| {
            let wrong = format!("--carry is no JSON object such as {{\"ttl_ms\":60000}}: {error}");
            Failure::Usage(wrong)
        })?;
        let members =
            members.iter().map(|(name, value)| format!("{}:{value}", Value::from(&**name)));
        Ok(members.collect::<Vec<_>>().join(","))
    }

    fn pace(&self) -> Pace {
        match (self.burst, self.rate) {
            (Some(events), _) => Pace::Burst { events, pause: self.pause.0 },
            (None, Rate::Events(0.0)) => Pace::Idle,
            (None, Rate::Events(rate)) => Pace::Rate(rate),
            (None, Rate::Max) => Pace::Max,
            (None, Rate::Search) => Pace::Search { p99: self.p99.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn load(arguments: &str) -> Load {
        let words = std::iter::once("bench").chain(arguments.split_whitespace());
        Line::try_parse_from(words).unwrap().args.load().unwrap()
    }

    #[test]
    fn without_flags_the_load_is_the_default_one() {
        assert_eq!(format!("{:?}", load("")), format!("{:?}", Load::default()));
    }

    #[test]
    fn what_events_carry_is_an_object() {
        let carried = |text: &str| {
            let line = Line::try_parse_from(["bench", "--carry", text]).unwrap();
            line.args.carried().ok()
        };
        assert_eq!(carried(r#"{"keep": false}"#).as_deref(), Some(r#""keep":false"#));
        let both = carried(r#"{"ttl_ms":5,"except":"s"}"#).unwrap();
        assert!(both.contains(r#""ttl_ms":5"#) && both.contains(r#""except":"s""#), "{both}");
        assert_eq!(carried("5"), None);
    }

    #[test]
    fn the_pace_is_a_rate_a_search_or_a_burst() {
        assert_eq!(load("--rate 2.5").pace, Pace::Rate(2.5));
        assert_eq!(load("--rate 0").pace, Pace::Idle);
        assert_eq!(load("--rate max").pace, Pace::Max);
        let p99 = Duration::from_millis(20);
        assert_eq!(load("--rate search --p99 20ms").pace, Pace::Search { p99 });
        let pause = Duration::from_millis(100);
        assert_eq!(load("--burst 7").pace, Pace::Burst { events: 7, pause });
        for wrong in ["--rate -1", "--rate fast", "--burst 7 --rate 5"] {
            let words = std::iter::once("bench").chain(wrong.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{wrong}");
        }
    }
}
