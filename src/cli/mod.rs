//! The command line: what each command takes, and how it ends.
//!
//! `serve` is the broker itself; `check` looks at its configuration; `health` asks how it is; `backup` copies its history; `token` makes keys and tokens;
//! `publish`, `subscribe`, `history` and `top` are clients, for scripts and for trying things out; `bench` is many of
//! them; `completion` and `man` are for who packages it. Standard output is for results, standard error for everything
//! said about them. Exit codes: 0 done, or nobody reads the results any more; 1 failed; 2 wrong usage or configuration.

mod backoff;
mod backup;
pub mod bench;
mod check;
mod completion;
mod exit_codes;
mod health;
mod history;
mod man;
mod open_files;
mod print;
mod publish;
mod reload;
mod remote;
mod serve;
mod signals;
mod subscribe;
mod token;
mod top;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::exit_codes::{EXIT_CODES, ExitCodes};
use self::print::{note, print};
use crate::config::{ConfigError, Sources};
use crate::lines::STANDARD_ERROR;

const EXAMPLES: &str = "\
Examples:
  fanfare                                         serve this machine on port 8080
  fanfare --config fanfare.toml --listen 127.0.0.1:9000
  fanfare --set limits.connections=50000 --set log.format=json
  fanfare check --config fanfare.toml             look at a configuration
  fanfare check --url https://push.example        look at a running broker, from outside
  fanfare health --ready                          ask whether the broker can do its job
  fanfare backup --to copy.db                     copy the history, also while it serves
  fanfare token key                               make an API key
  fanfare publish demo '{\"hello\":\"world\"}'        publish an event
  fanfare subscribe 'demo.>'                      print events as they come
  fanfare history 'demo.>'                        print those that are kept, newest first
  fanfare top                                     show how all nodes are, once a second
  source <(fanfare completion bash)               complete commands and flags in this shell

Every key of the configuration can also be set in the environment, as
FANFARE_<SECTION>_<KEY>: FANFARE_SERVER_LISTEN=127.0.0.1:9000.

Colours are left out where NO_COLOR is set. Where whoever read the output has left, that is an end
like any other, with 0.";

/// Fanfare, a live-updates broker for dashboards.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT; this is what `fanfare` alone does
    Serve(ConfigArgs),
    /// Look at the configuration without serving, or (--url) at a running broker as its clients see it
    Check(Box<check::Args>),
    /// Ask whether the broker of this configuration is well: for health checks
    Health(health::Args),
    /// Copy the history, while the broker runs or stands still
    Backup(backup::Args),
    /// Make API keys and tokens, and explain tokens
    Token(token::Args),
    /// Publish an event, or one a line from standard input
    Publish(publish::Args),
    /// Print events as they come
    Subscribe(subscribe::Args),
    /// Print the events that are kept, newest first
    History(history::Args),
    /// Show how all nodes are, once a second
    Top(top::Args),
    /// Measure how fast a broker is
    Bench(Box<bench::Args>),
    /// Print what a shell needs to complete this command line
    Completion(completion::Args),
    /// Print the manual, or write it as pages for man
    Man(man::Args),
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, clap::Args)]
struct ConfigArgs {
    /// The configuration file [default: $FANFARE_CONFIG, or fanfare.toml if it is here]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, over the file and the environment; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Serve on this address: short for --set server.listen=ADDRESS
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl ConfigArgs {
    /// These, and beneath them those that stood before the command.
    fn over(self, before: Self) -> Self {
        Self {
            config: self.config.or(before.config),
            set: before.set.into_iter().chain(self.set).collect(),
            listen: self.listen.or(before.listen),
        }
    }

    /// Whether none of them was given.
    fn is_absent(&self) -> bool {
        self.config.is_none() && self.set.is_empty() && self.listen.is_none()
    }

    /// Refuses what would have no effect.
    fn absent(&self) -> Result<(), Failure> {
        if self.is_absent() {
            return Ok(());
        }
        let reason = "--config, --set and --listen are for `serve`, `check`, `health`, `backup` and `token` alone";
        Err(Failure::Usage(reason.to_owned()))
    }

    fn sources(self) -> Sources {
        let listen = self.listen.map(|address| format!("server.listen={address}"));
        Sources::of_process(self.config, self.set.into_iter().chain(listen).collect())
    }
}

/// Why a command did not do what it was to do.
#[derive(Debug)]
enum Failure {
    /// It was asked for something that can't be, or is configured wrongly.
    Usage(String),
    /// It was tried, in vain.
    Failed(String),
    /// Whoever read the results has left.
    Unread,
}

impl Failure {
    fn failed(reason: impl Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    run_with(std::env::args_os())
}

/// Runs a command line, whose first word is the name of the program. What was said last is written when this
/// returns, if anyone takes it.
pub fn run_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _last_words = LastWords;
    let parsed = command().try_get_matches_from(arguments);
    let Cli { config, command } = match parsed.and_then(|given| Cli::from_arg_matches(&given)) {
        Ok(cli) => cli,
        Err(answer) => return answered(&answer),
    };
    exit(match command {
        None => serve::run(config.sources()),
        Some(Command::Serve(args)) => serve::run(args.over(config).sources()),
        Some(Command::Check(args)) => check::run(*args, config),
        Some(Command::Health(args)) => health::run(args, config),
        Some(Command::Backup(args)) => backup::run(args, config),
        Some(Command::Token(args)) => token::run(args, config),
        Some(Command::Publish(args)) => config.absent().and_then(|()| publish::run(args)),
        Some(Command::Subscribe(args)) => config.absent().and_then(|()| subscribe::run(args)),
        Some(Command::History(args)) => config.absent().and_then(|()| history::run(args)),
        Some(Command::Top(args)) => config.absent().and_then(|()| top::run(args)),
        Some(Command::Bench(args)) => config.absent().and_then(|()| bench::run(*args)),
        Some(Command::Completion(args)) => config.absent().and_then(|()| completion::run(args)),
        Some(Command::Man(args)) => config.absent().and_then(|()| man::run(args)),
    })
}

/// The command line, where the help of each command says what its exit codes mean.
fn command() -> clap::Command {
    let told = |cli: clap::Command, codes: &ExitCodes| {
        cli.mut_subcommand(codes.command, |command| codes.told_by(command))
    };
    let cli = EXIT_CODES.iter().fold(Cli::command(), told);
    match ExitCodes::of_command("serve") {
        Some(codes) => codes.told_by(cli),
        None => cli,
    }
}

/// Has what was said last written, wherever a command ends.
struct LastWords;

impl Drop for LastWords {
    fn drop(&mut self) {
        STANDARD_ERROR.settle();
    }
}

/// What clap answers by itself: help and the version are results, all else is wrong usage.
fn answered(answer: &clap::Error) -> ExitCode {
    let printed = answer.print().and_then(|()| io::stdout().flush());
    match printed.map_err(print::failure) {
        Err(failure) if !answer.use_stderr() => exit(Err(failure)),
        _ => ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2)),
    }
}

fn exit(result: Result<(), Failure>) -> ExitCode {
    let (code, reason) = match result {
        Ok(()) | Err(Failure::Unread) => return ExitCode::SUCCESS,
        Err(Failure::Failed(reason)) => (1, reason),
        Err(Failure::Usage(reason)) => (2, reason),
    };
    for line in reason.lines() {
        note(format_args!("error: {line}"));
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn configuration_is_taken_before_and_after_the_command() {
        let args = ["fanfare", "-c", "a", "--set", "x.y=1", "serve", "--set", "x.y=2", "-c", "b"];
        let cli = Cli::parse_from(args);
        let Some(Command::Serve(args)) = cli.command else { panic!("{:?}", cli.command) };
        let sources = args.over(cli.config).sources();
        assert_eq!(sources.file, Some("b".into()));
        assert_eq!(sources.sets, ["x.y=1", "x.y=2"]);
    }

    #[test]
    fn listen_is_short_for_its_key_and_goes_over_it() {
        let cli = Cli::parse_from(["fanfare", "--listen", "a", "--set", "server.listen=b"]);
        assert_eq!(cli.config.sources().sets, ["server.listen=b", "server.listen=a"]);
    }
}
