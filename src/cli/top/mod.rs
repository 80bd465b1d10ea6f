//! `fanfare top`: how all nodes are, once a second, from what they say on `$sys.metrics`.

mod figures;
mod nodes;
mod screen;
mod wrong;

use std::time::Duration;

use actix_web::rt::System;
use tokio::time::{Instant, sleep, timeout_at};

use self::nodes::Nodes;
use self::screen::Screen;
use super::Failure;
use super::backoff::Backoff;
use super::print::{draw, is_terminal, may_colour, size, unread};
use super::remote::{self, Remote, UrlArgs};
use super::signals::Signals;
use super::subscribe::connection::{Connection, Incoming};
use super::subscribe::ending::{Bye, Ending};
use super::subscribe::message::Message;

/// How long until the next look, though nothing is heard: a node that is silent has to be seen as that.
const LOOK: Duration = Duration::from_secs(1);

/// What is asked for: what each node said within the last minute, for some troubles show by what has grown since; and then
/// what it says.
const QUERY: &str = "topic=%24sys.metrics&last=60";

/// To a screen of its own, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

const EXAMPLES: &str = "\
Examples:
  fanfare top
  fanfare top --url https://push.example
  fanfare top --once || echo 'something is wrong'

It needs an API key with full rights or with admin = true, where the broker has credentials:
FANFARE_TOKEN=... fanfare top (better than --token, which others on this machine can see in the list of
processes).

Colours are left out where NO_COLOR is set. Ends at Ctrl-C.";

/// What `top` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print it once and end; so it is where standard output is no terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    url: UrlArgs,
    /// The API key; better set FANFARE_TOKEN
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Shows how all nodes are, until a signal.
pub fn run(args: Args) -> Result<(), Failure> {
    let credential = remote::credential(args.token, "FANFARE_TOKEN")?;
    System::new().block_on(async move {
        let remote = Remote::new(args.url, credential)?;
        let mut signals = Signals::catch().map_err(Failure::failed)?;
        let once = args.once || !is_terminal();
        let mut top = Top { remote, nodes: Nodes::default(), once, said: None };
        if !once {
            draw(ENTER)?;
        }
        let result = tokio::select! {
            result = top.run() => result,
            () = unread() => Err(Failure::Unread),
            _ = signals.next() => Ok(()),
        };
        if !once {
            draw(LEAVE)?;
        }
        result
    })
}

/// What one run of the command holds.
struct Top {
    remote: Remote,
    nodes: Nodes,
    once: bool,
    /// What is wrong with the connection.
    said: Option<String>,
}

impl Top {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut backoff = Backoff::default();
        loop {
            let (reason, after) = match self.connection(&mut backoff).await? {
                Ending::Done => return self.verdict(),
                Ending::Stop(reason) => return Err(Failure::Failed(reason)),
                Ending::Reconnect { reason, .. } if self.once => {
                    return Err(Failure::Failed(reason));
                }
                Ending::Reconnect { reason, after } => (reason, after),
            };
            let back = Instant::now() + backoff.wait(after, rand::random());
            while Instant::now() < back {
                let seconds = (back - Instant::now()).as_secs_f32();
                self.said = Some(format!("{reason}; connecting again in {seconds:.0} s"));
                self.show()?;
                sleep(LOOK.min(back - Instant::now())).await;
            }
        }
    }

    /// Whether all nodes are ready, for who asked once.
    fn verdict(&self) -> Result<(), Failure> {
        match self.nodes.not_ready(Instant::now()) {
            0 => Ok(()),
            1 => Err(Failure::Failed("a node is not ready".to_owned())),
            some => Err(Failure::Failed(format!("{some} nodes are not ready"))),
        }
    }

    /// Lives one connection through.
    async fn connection(&mut self, backoff: &mut Backoff) -> Result<Ending, Failure> {
        let mut connection = match Connection::open(&self.remote, QUERY).await {
            Ok(connection) => connection,
            Err(ending) => return Ok(ending),
        };
        self.said = None;
        let (mut look, mut is_live) = (Instant::now() + LOOK, false);
        loop {
            let incoming = match timeout_at(look, connection.next()).await {
                Ok(Incoming::End(ending)) => return Ok(ending),
                Ok(Incoming::Text(text)) => Some(text),
                Err(_) => None,
            };
            if let Some(message) = incoming.as_deref().and_then(Message::parse) {
                match message.op() {
                    "event" => self.hear(&message),
                    "live" => {
                        backoff.reset();
                        is_live = true;
                    }
                    "bye" => connection.said_bye(Bye::new(&message)),
                    "error" => return Ok(Ending::error(&message)),
                    _ => {}
                }
            }
            // What each node said last is there by then; a broker that has just started says something in a second.
            if self.once && is_live && !self.nodes.is_empty() {
                self.show()?;
                return Ok(Ending::Done);
            }
            if Instant::now() >= look {
                self.show()?;
                look = Instant::now() + LOOK;
            }
        }
    }

    fn hear(&mut self, message: &Message<'_>) {
        let Some(data) = message.member("data") else { return };
        match message.flag("snapshot") {
            true => self.nodes.recall(data.get(), Instant::now()),
            false => self.nodes.hear(data.get(), Instant::now()),
        }
    }

    fn show(&self) -> Result<(), Failure> {
        let (columns, rows) = size().filter(|_| !self.once).unwrap_or((120, usize::MAX));
        let has_colours = !self.once && may_colour();
        let screen = Screen { columns, rows, has_colours };
        let text = screen.of(&self.nodes, self.said.as_deref(), Instant::now());
        match self.once {
            true => draw(&text),
            // Each line clears what stood behind it, so that nothing flickers.
            false => draw(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))),
        }
    }
}
