//! One run: the broker, its history, and what is known of both.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fanfare::broker::Router;
use fanfare::config::Config;
use fanfare::history::Hand;
use fanfare::server::Local;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::history::{SimulatedHistory, Temper};
use crate::parrot::WITH_PARROT;
use crate::pipe::{self, ClientEnd};
use crate::rights::{self, API_KEY, Credential, Gate};
use crate::seed::{Dice, Shaken, Trace};
use crate::words::{Reader, Word};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a connection is treated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fate {
    /// How often what serves it is polled before that is dropped.
    pub polls: Option<usize>,
    /// How often the broker touches it before it is cut.
    pub touches: Option<usize>,
    /// How many bytes it holds for its client, if not very many.
    pub capacity: Option<usize>,
}

/// One run.
pub struct World {
    /// The broker.
    pub local: Local,
    /// Its log.
    pub history: Arc<SimulatedHistory>,
    /// What happened.
    pub trace: Trace,
    /// The rule that changes.
    pub gate: Gate,
    /// The token that many use and an operator revokes, and then another one.
    pub shared: RefCell<Rc<Credential>>,
    /// Who uses it for what is over at the end of the run.
    pub is_over: Cell<bool>,
    /// Most sessions of a user.
    pub max_user_connections: usize,
    dice: RefCell<Dice>,
    published: RefCell<BTreeMap<u64, Instant>>,
    names: Cell<usize>,
    fault: RefCell<Option<String>>,
    /// The kind of fault that is looked for; any, where none is named.
    only: Option<String>,
}

impl World {
    /// A broker at its start.
    pub async fn new(
        mut dice: Dice,
        temper: Temper,
        max_user_connections: usize,
        shows_all: bool,
    ) -> Rc<Self> {
        let mut config: Config = rights::config(false, max_user_connections);
        config.server.workers = 1 + dice.below(2);
        config.limits.catchup_bytes = dice.pick(&[1_000, 20_000, 1 << 20]);
        config.limits.outbox_bytes = dice.pick(&[8_000, 100_000, 1 << 20]);
        let inbox_events = config.limits.inbox_events;
        let router = Arc::new(Router::new(SimulatedHistory::start(), inbox_events));
        let hand = Hand::new(SimulatedHistory::start(), dice.pick(&[0, 8_000, 1 << 20]));
        let feed = hand.before(router.clone());
        let history = Arc::new(SimulatedHistory::new(feed, temper, dice.part()));
        let clock = rights::begin();
        let log = hand.over(history.clone());
        let local = Local::build(WITH_PARROT, config, log, router, clock).await;
        Rc::new(Self {
            local,
            history,
            trace: Trace::new(shows_all),
            gate: Gate::default(),
            shared: RefCell::new(Credential::new("many", "many-0", &["eu.>"], 1_000_000)),
            is_over: Cell::new(false),
            max_user_connections,
            dice: RefCell::new(dice),
            published: RefCell::default(),
            names: Cell::new(0),
            fault: RefCell::default(),
            only: std::env::var("FANFARE_MAZE_FAULT").ok(),
        })
    }

    /// Decisions for another part of the run.
    pub fn dice(&self) -> Dice {
        self.dice.borrow_mut().part()
    }

    /// A number that nothing else of the run has.
    pub fn number(&self) -> usize {
        self.names.set(self.names.get() + 1);
        self.names.get()
    }

    /// Whether clients, publishers and operators go on.
    pub fn goes_on(&self) -> bool {
        !self.is_over.get() && self.fault.borrow().is_none()
    }

    /// Something is wrong; the first such thing ends the run.
    pub fn fails(&self, who: &str, what: String) {
        self.trace.step(who, format_args!("WRONG: {what}"));
        if self.only.as_ref().is_some_and(|only| !what.contains(only)) {
            return;
        }
        self.fault.borrow_mut().get_or_insert(format!("{what} ({who})"));
    }

    /// What is wrong.
    pub fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }

    /// The number of an event that is about to be published.
    pub fn publishes(&self) -> u64 {
        let mut published = self.published.borrow_mut();
        let number = published.len() as u64 + 1;
        published.insert(number, Instant::now());
        number
    }

    /// When the publish of an event began.
    pub fn published(&self, number: u64) -> Option<Instant> {
        self.published.borrow().get(&number).copied()
    }

    /// Whether a message came by an event stream, where nothing has a `ref`.
    pub fn is_stream(&self, said: &Value) -> bool {
        said["stream"].as_bool().unwrap_or_default()
    }

    /// Opens a connection.
    pub fn connect(self: &Rc<Self>, fate: Fate, mut dice: Dice) -> ClientEnd {
        let capacity = fate.capacity.unwrap_or(1 << 24);
        let (server, client) = pipe::connection(capacity, fate.touches, dice.part());
        let world = self.clone();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1_024));
        let served = async move { world.local.serve(Box::new(server), Some(peer)).await };
        actix_rt::spawn(Shaken::new(served, dice, fate.polls));
        client
    }

    /// Asks over HTTP with every right, and returns the status and body of the answer.
    pub async fn call(self: &Rc<Self>, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.call_as(API_KEY, method, path, body).await
    }

    /// Asks over HTTP.
    pub async fn call_as(
        self: &Rc<Self>,
        credential: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, Value) {
        let client = self.connect(Fate::default(), self.dice());
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: maze\r\nconnection: close\r\n\
             authorization: Bearer {credential}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        client.send(request.as_bytes());
        let answer = timeout(PATIENCE, answer(&client)).await;
        if !matches!(answer, Ok(Some(_))) {
            self.fails("operator", format!("{method} {path} was not answered"));
        }
        answer.ok().flatten().unwrap_or_default()
    }

    /// All sessions, as an operator sees them.
    pub async fn sessions(self: &Rc<Self>) -> Vec<Value> {
        let (status, body) = self.call("GET", "/v1/sessions?limit=1000", "").await;
        match body["sessions"].as_array() {
            Some(sessions) => sessions.clone(),
            None => {
                self.fails("operator", format!("sessions are {status}: {body}"));
                Vec::new()
            }
        }
    }

    /// Waits until something holds, for a second and more than nothing could take.
    pub async fn eventually(&self, mut holds: impl FnMut() -> bool) -> bool {
        for _ in 0..20 {
            if holds() {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        holds()
    }
}

async fn answer(client: &ClientEnd) -> Option<(u16, Value)> {
    let (mut reader, mut status) = (Reader::default(), 0);
    loop {
        match reader.next() {
            Some(Word::Status(code)) => status = code,
            Some(Word::Body(body)) => return Some((status, body)),
            Some(_) => return Some((status, Value::Null)),
            None => {
                let bytes = client.read(usize::MAX).await;
                if bytes.is_empty() {
                    return None;
                }
                reader.take(&bytes);
            }
        }
    }
}
