//! Those who act on a run from outside: publishers, and an operator who revokes, ends, opens and
//! closes, and behind whose back the log loses events.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clients;
use crate::rights::{self, Credential, SETTLE, TOPICS};
use crate::seed::Dice;
use crate::world::World;

/// How many come while a token is revoked.
const CROWD: usize = 40;

/// Within how many milliseconds they do.
const HURRY: usize = 8;

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Revokes the token that many use.
    Revoke,
    /// Ends one session, or those of a user.
    End,
    /// Opens a topic to everyone, or closes it.
    Reload,
    /// It is the log's: it loses its newest events.
    Lose,
    /// Has what is kept of a topic forgotten.
    Forget,
}

/// Publishes until the run is over.
pub async fn publish(world: Rc<World>, mut dice: Dice) {
    while world.goes_on() {
        dice.pause(60).await;
        let mut lines = String::new();
        for _ in 0..1 + dice.below(4) {
            let (topic, number) = (dice.pick(&TOPICS), world.publishes());
            let pad = "x".repeat(dice.pick(&[0, 0, 100, 600]));
            let data = serde_json::json!({ "n": number, "pad": pad });
            let event = serde_json::json!({ "topic": topic, "data": data });
            world.trace.step("publisher", format_args!("{number} to {topic}"));
            lines.push_str(&format!("{event},"));
        }
        let body = format!("{{\"events\":[{}]}}", lines.trim_end_matches(','));
        let (status, answer) = world.call("POST", "/v1/events", &body).await;
        if !matches!(status, 201 | 503) {
            world.fails("publisher", format!("a publish is {status}: {answer}"));
        }
    }
}

/// Does these things until the run is over.
pub async fn operate(world: Rc<World>, acts: &'static [Act], mut dice: Dice) {
    let mut is_open = false;
    while world.goes_on() && !acts.is_empty() {
        sleep(Duration::from_millis(20 + dice.below(400) as u64)).await;
        match dice.pick(acts) {
            Act::Revoke => revoke(&world, &mut dice).await,
            Act::End => end(&world, &mut dice).await,
            Act::Reload => {
                is_open = !is_open;
                reload(&world, is_open).await;
            }
            Act::Lose => {
                let count = 1 + dice.below(6);
                world.trace.step("log", format_args!("loses {count}"));
                world.history.lose(count);
            }
            Act::Forget => {
                let topic = dice.pick(&TOPICS);
                world.trace.step("operator", format_args!("has {topic} forgotten"));
                world.call("DELETE", &format!("/v1/topics/{topic}/events"), "").await;
            }
        }
    }
}

/// Revokes the token that many use, while many come with it.
async fn revoke(world: &Rc<World>, dice: &mut Dice) {
    for _ in 0..CROWD {
        let (world, mut dice) = (world.clone(), dice.part());
        actix_rt::spawn(async move {
            dice.pause(HURRY).await;
            clients::common(&world, dice).await;
        });
    }
    let doomed = world.shared.borrow().clone();
    world.trace.step("operator", format_args!("revokes {}", doomed.id));
    let body = format!("{{\"token\":\"{}\"}}", doomed.id);
    let (status, answer) = world.call("POST", "/v1/revocations", &body).await;
    world.trace.step("operator", format_args!("revoked {}: {status}", doomed.id));
    let number = world.number();
    let next = Credential::new("many", &format!("many-{number}"), &["eu.>"], 1_000_000);
    match status {
        201 => {
            doomed.revoked.set(Some(Instant::now() + SETTLE));
            *world.shared.borrow_mut() = next;
            actix_rt::spawn(stays_revoked(world.clone(), doomed));
        }
        503 => {}
        _ => world.fails("operator", format!("a revocation is {status}: {answer}")),
    }
}

/// No session outlives the answer to its revocation by more than a moment.
async fn stays_revoked(world: Rc<World>, credential: Rc<Credential>) {
    sleep(SETTLE).await;
    let sessions = world.sessions().await;
    let on_it = sessions.iter().filter(|session| session["token"] == credential.id.as_str());
    let count = on_it.count();
    if count > 0 {
        let id = &credential.id;
        world.fails("operator", format!("A5: {count} sessions are on {id}, which is revoked"));
    }
}

async fn end(world: &Rc<World>, dice: &mut Dice) {
    let sessions = world.sessions().await;
    // By their tokens, for ids are others each time.
    let mut known: Vec<_> = sessions
        .iter()
        .filter_map(|one| Some((one["token"].as_str()?, one["session"].as_str()?)))
        .collect();
    known.sort_unstable();
    for _ in 0..1 + dice.below(3) {
        if known.is_empty() {
            return;
        }
        let (token, id) = known.swap_remove(dice.below(known.len()));
        world.trace.step("operator", format_args!("ends the session of {token}"));
        let (status, answer) = world.call("DELETE", &format!("/v1/sessions/{id}"), "").await;
        if !matches!(status, 204 | 404) {
            world.fails("operator", format!("the end of a session is {status}: {answer}"));
        }
        actix_rt::spawn(stays_ended(world.clone(), token.to_owned(), id.to_owned()));
    }
}

/// What an operator ended does not exist.
async fn stays_ended(world: Rc<World>, token: String, id: String) {
    sleep(SETTLE + Duration::from_secs(6)).await;
    let sessions = world.sessions().await;
    if sessions.iter().any(|session| session["session"] == id.as_str()) {
        world.fails("operator", format!("A4: the session of {token} was ended and is still there"));
    }
}

async fn reload(world: &Rc<World>, is_open: bool) {
    let config = rights::config(is_open, world.max_user_connections);
    world.trace.step("operator", if is_open { "opens the gate" } else { "closes the gate" });
    if is_open {
        world.gate.opens();
    }
    if let Err(error) = world.local.reload().apply(&config).await {
        world.fails("operator", format!("a reload is refused: {error}"));
    }
    if !is_open {
        world.gate.closed();
    }
}
