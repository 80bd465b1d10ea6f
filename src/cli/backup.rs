//! `fanfare backup`: a checked copy of the history, made while the broker runs or stands still.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{ConfigArgs, Failure, note, print};
use crate::config::load_with_origins;
use crate::history::sqlite::backup::{Progress, copy};

const EXAMPLES: &str = "\
Examples:
  fanfare backup --to /backups/2026-11-26.db
  fanfare backup --config fanfare.toml --to /mnt/copy     a directory: /mnt/copy/history.db

The broker may run meanwhile: it is never kept waiting. To restore a copy, stop the broker, move its
data directory away, make a new one (mode 0700), put the copy into it as history.db, and start. A new
epoch begins: whoever had seen newer events is told of a gap.";

/// How often it is said how far the copy is.
const TELLING: Duration = Duration::from_secs(2);

/// What `backup` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where to: a new file, or a directory, which gets a `history.db`. Nothing is overwritten
    #[arg(long, value_name = "FILE_OR_DIR")]
    to: PathBuf,
}

/// Makes a copy.
pub fn run(args: Args, before: ConfigArgs) -> Result<(), Failure> {
    let config = load_with_origins(&args.config.over(before).sources())?.config;
    if config.redis.is_some() {
        let reason = "with redis.url the history is kept in Redis: back that up instead";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let mut told = Instant::now();
    let tell = |Progress { events, of, checking }: Progress| {
        if told.elapsed() >= TELLING {
            told = Instant::now();
            let what = if checking { "checked" } else { "copied" };
            note(format_args!("{what} {events} of {of} events"));
        }
    };
    let made = copy(&config.history.path, &args.to, tell).map_err(Failure::failed)?;
    print(format_args!(
        "{}: {} events of {} topics, {} bytes, up to {}",
        made.path.display(),
        made.events,
        made.topics,
        made.bytes,
        made.newest
    ))
}
