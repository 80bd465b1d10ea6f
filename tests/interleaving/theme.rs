//! What a run is about: which clients there are, what is done to them, and how it ends.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use crate::clients::{self, Kind};
use crate::history::Temper;
use crate::line::{Knock, Line};
use crate::operator::{self, Act};
use crate::rights::{self, Credential, LEEWAY, TOPICS, pattern, wall};
use crate::seed::Dice;
use crate::world::{Fate, World};

/// What a run is about.
pub struct Theme {
    /// What it is called.
    pub name: &'static str,
    /// How many there are of each kind of client.
    crowd: &'static [(Kind, usize)],
    publishers: usize,
    acts: &'static [Act],
    temper: Temper,
    /// Most sessions of one user.
    user_connections: usize,
    /// How long it lasts, in milliseconds.
    lasts: u64,
    end: End,
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everyone goes, and nothing is left of them.
    Quiet,
    /// The broker stops while clients come in.
    Drain,
    /// Tickets are used whose tokens have expired.
    Tickets,
}

const LATE: Temper = Temper { late: 30, errors: 0, kept: 30 };

/// What most themes are like.
const USUAL: Theme = Theme {
    name: "",
    crowd: &[],
    publishers: 1,
    acts: &[],
    temper: LATE,
    user_connections: 1_000,
    lasts: 3_000,
    end: End::Quiet,
};

/// All themes; a seed is of one of them.
pub static THEMES: [Theme; 11] = [
    Theme {
        name: "cuts",
        crowd: &[(Kind::Hasty, 25), (Kind::Idle, 25)],
        publishers: 3,
        user_connections: 3,
        lasts: 2_500,
        ..USUAL
    },
    Theme {
        name: "ends",
        crowd: &[(Kind::Hasty, 15), (Kind::Idle, 10), (Kind::Viewer, 5)],
        acts: &[Act::End],
        user_connections: 10,
        lasts: 2_500,
        ..USUAL
    },
    Theme {
        name: "rights",
        crowd: &[(Kind::Juggler, 15), (Kind::Viewer, 3)],
        publishers: 4,
        acts: &[Act::Reload],
        ..USUAL
    },
    Theme {
        name: "gates",
        crowd: &[(Kind::Waiter, 40)],
        acts: &[Act::Reload],
        lasts: 4_000,
        ..USUAL
    },
    Theme {
        name: "revocations",
        crowd: &[(Kind::Common, 5), (Kind::Idle, 3)],
        acts: &[Act::Revoke],
        temper: Temper { late: 5, ..LATE },
        lasts: 4_000,
        ..USUAL
    },
    Theme {
        name: "losses",
        crowd: &[(Kind::Viewer, 15), (Kind::Keeper, 10)],
        publishers: 3,
        acts: &[Act::Lose],
        temper: Temper { late: 200, errors: 1, kept: 8 },
        ..USUAL
    },
    Theme {
        name: "returns",
        crowd: &[(Kind::Keeper, 20)],
        publishers: 3,
        acts: &[Act::Forget],
        temper: Temper { late: 60, errors: 1, kept: 40 },
        user_connections: 1_000,
        lasts: 3_000,
        end: End::Quiet,
    },
    Theme {
        name: "stops",
        crowd: &[(Kind::Hasty, 5), (Kind::Viewer, 5)],
        lasts: 300,
        end: End::Drain,
        ..USUAL
    },
    Theme {
        name: "tickets",
        crowd: &[(Kind::Viewer, 3)],
        publishers: 2,
        lasts: 300,
        end: End::Tickets,
        ..USUAL
    },
    Theme {
        name: "presence",
        crowd: &[(Kind::Guest, 12), (Kind::Host, 10)],
        temper: Temper { errors: 2, ..LATE },
        ..USUAL
    },
    Theme {
        name: "values",
        crowd: &[(Kind::Holder, 20), (Kind::Idle, 5)],
        acts: &[Act::End],
        temper: Temper { errors: 5, ..LATE },
        lasts: 4_000,
        ..USUAL
    },
];

/// What became of a run.
pub struct Outcome {
    /// What is wrong, if anything.
    pub fault: Option<String>,
    /// How many steps it took.
    pub steps: usize,
    /// What these steps are known by.
    pub hash: u64,
    /// The last of them.
    pub tail: String,
}

impl Theme {
    /// Runs a seed.
    pub async fn run(&'static self, seed: u64, shows_all: bool) -> Outcome {
        let world = World::new(Dice::of(seed), self.temper, self.user_connections, shows_all);
        let world = world.await;
        let beside = world.clone();
        actix_rt::spawn(async move { beside.local.run().await });
        sleep(Duration::from_millis(10)).await;
        // Whoever is there holds this, and nobody is.
        let owners = world.local.holders();
        let mut lives = Vec::new();
        for (kind, count) in self.crowd {
            for _ in 0..*count {
                lives.push(actix_rt::spawn(clients::live(world.clone(), *kind, world.dice())));
            }
        }
        for _ in 0..self.publishers {
            lives.push(actix_rt::spawn(operator::publish(world.clone(), world.dice())));
        }
        lives.push(actix_rt::spawn(operator::operate(world.clone(), self.acts, world.dice())));
        for _ in 0..self.lasts / 10 {
            sleep(Duration::from_millis(10)).await;
            if world.fault().is_some() {
                break;
            }
        }
        match self.end {
            End::Drain => drain(&world).await,
            End::Tickets => tickets(&world).await,
            End::Quiet => {}
        }
        world.is_over.set(true);
        world.history.calm_down();
        if world.fault().is_none()
            && timeout(Duration::from_secs(120), join_all(lives)).await.is_err()
        {
            world.fails("run", "somebody waits for ever".to_owned());
        }
        if self.end == End::Quiet && world.fault().is_none() {
            quiet(&world, owners).await;
        }
        let ((steps, hash), tail) = (world.trace.digest(), world.trace.tail());
        Outcome { fault: world.fault(), steps, hash, tail }
    }
}

/// Nothing is left of those who are gone.
async fn quiet(world: &Rc<World>, owners: usize) {
    sleep(Duration::from_secs(8)).await;
    let left = world.sessions().await;
    if !left.is_empty() {
        world.fails("quiet", format!("A4: {} sessions are left of nobody", left.len()));
    }
    for (topic, session) in world.history.bound() {
        world.fails("quiet", format!("B2: {topic} is bound to {session}, which is gone"));
    }
    for topic in TOPICS {
        let (_, members) = world.call("GET", &format!("/v1/topics/{topic}/presence"), "").await;
        match members["members"].as_array() {
            Some(members) if members.is_empty() => {}
            members => {
                let count = members.map_or(0, Vec::len);
                world.fails("quiet", format!("A4: {count} are present in {topic}"));
            }
        }
    }
    let open = world.local.open();
    if open > 0 {
        world.fails("quiet", format!("A4: {open} places are taken by nobody"));
    }
    let (_, metrics) = world.call("GET", "/metrics", "").await;
    for line in metrics.as_str().unwrap_or_default().lines() {
        let is_gauge = ["fanfare_sessions{", "fanfare_subscriptions "]
            .iter()
            .any(|name| line.starts_with(name));
        if is_gauge && !line.ends_with(" 0") {
            world.fails("quiet", format!("A4: {line}"));
        }
    }
    if world.history.waiting() > 0 {
        world.fails("quiet", "A3: somebody who is gone reads the log".to_owned());
    }
    if !world.eventually(|| world.local.holders() == owners).await {
        let more = world.local.holders();
        world.fails("quiet", format!("A3: {more} owners instead of {owners}: a replay is left"));
    }
    everyone_has_room(world).await;
}

/// A user whose sessions are all gone may have as many as ever.
async fn everyone_has_room(world: &Rc<World>) {
    let mut lines = Vec::new();
    for at in 0..world.max_user_connections.min(5) {
        let credential = Credential::new("crowd", &format!("last-{at}"), &["eu.>"], 100_000);
        let knock = Knock { credential: Some(credential), ..Knock::default() };
        let mut line = Line::knock(world, "last", &knock, Fate::default(), world.dice());
        _ = line.hear(Duration::from_secs(2)).await;
        if !line.watch.is_welcome {
            world.fails("quiet", "A4: a place of a user is taken by nobody".to_owned());
        }
        lines.push(line);
    }
}

/// Whoever is welcomed while the broker stops is told to go.
async fn drain(world: &Rc<World>) {
    let mut dice = world.dice();
    let (mut comers, hurry) = (Vec::new(), dice.pick(&[0, 0, 2, 8]));
    for _ in 0..150 {
        let (world, mut dice) = (world.clone(), dice.part());
        comers.push(actix_rt::spawn(async move {
            dice.pause(hurry).await;
            let topics = if dice.percent(50) { vec![pattern("open.>")] } else { Vec::new() };
            let is_stream = !topics.is_empty() && dice.percent(60);
            let snapshot = !topics.is_empty() && dice.percent(50);
            let knock = Knock { is_stream, topics, snapshot, ..Knock::default() };
            let mut line = Line::knock(&world, "comer", &knock, Fate::default(), dice);
            line.listen(Duration::from_secs(5)).await;
            if line.watch.is_welcome && line.watch.bye.is_none() {
                world.fails(&line.name, "A11: it was welcomed, and not told to go".to_owned());
            }
        }));
    }
    dice.pause(hurry).await;
    for _ in 0..dice.below(12) {
        tokio::task::yield_now().await;
    }
    world.trace.step("operator", "drains");
    world.local.drain().await;
    join_all(comers).await;
}

/// A token that has expired is worth nothing, and one that has not is worth what it says.
async fn tickets(world: &Rc<World>) {
    let mut dice = world.dice();
    let mut tickets = Vec::new();
    for at in 0..8 {
        let seconds = if at % 2 == 0 { -2 } else { 1 - LEEWAY.as_secs() as i64 };
        let credential = Credential::new("guest", &format!("guest-{at}"), &["eu.>"], seconds);
        let (status, answer) = world.call_as(&credential.token, "POST", "/v1/tickets", "").await;
        if let Some(ticket) = answer["ticket"].as_str() {
            tickets.push((credential, ticket.to_owned()));
        }
        world.trace.step("guest", format_args!("ticket {at}: {status}"));
    }
    rights::pass(Duration::from_millis(1_200)).await;
    for (credential, ticket) in tickets {
        let (is_stream, topics) = (dice.percent(50), vec![pattern("eu.>")]);
        let (ends, at_door) = (credential.expires + LEEWAY, wall());
        let knock = Knock {
            is_stream,
            credential: Some(credential),
            ticket: Some(ticket),
            topics,
            snapshot: true,
            ..Knock::default()
        };
        let mut line = Line::knock(world, "guest", &knock, Fate::default(), dice.part());
        line.listen(Duration::from_millis(500)).await;
        let margin = Duration::from_millis(100);
        if line.watch.is_welcome && at_door > ends + margin {
            world.fails(&line.name, "A7: its token has expired, and it came in".to_owned());
        }
        if line.watch.bye.is_some() && wall() + margin < ends {
            world.fails(&line.name, "A7: let in by the leeway, and ended without it".to_owned());
        }
    }
}
