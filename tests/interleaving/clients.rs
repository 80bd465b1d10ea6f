//! The clients of a run: each kind lives again and again until the run is over, and what is left of
//! it then is held against what it should have.

use std::rc::Rc;
use std::time::Duration;

use fanfare::model::Pattern;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::history::SimulatedHistory;
use crate::line::{Knock, Line};
use crate::model::{Company, Story, Values};
use crate::rights::{Credential, pattern};
use crate::seed::Dice;
use crate::watch::Asked;
use crate::world::{Fate, World};

/// A place of another log, beyond all of ours.
const FOREIGN: &str = "zzzzzzzz-1-7";

/// What a client is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It comes in and wants nothing.
    Idle,
    /// It subscribes and is cut at any await.
    Hasty,
    /// It changes what it wants and who it is, many requests at a time.
    Juggler,
    /// It keeps every event, over reconnects.
    Keeper,
    /// It shows current values.
    Viewer,
    /// It waits for a right, and asks for other things meanwhile.
    Waiter,
    /// It comes with a token that many use and an operator revokes.
    Common,
    /// It comes into a room and goes again, and is seen.
    Guest,
    /// It looks who is in the rooms.
    Host,
    /// It publishes values that are to end with it.
    Holder,
}

/// One client after another of a kind, until the run is over.
pub async fn live(world: Rc<World>, kind: Kind, mut dice: Dice) {
    let mut story = Story::of(dice.below(2));
    while world.goes_on() {
        dice.pause(200).await;
        let dice = dice.part();
        match kind {
            Kind::Idle => idle(&world, dice).await,
            Kind::Hasty => hasty(&world, dice).await,
            Kind::Juggler => juggler(&world, dice).await,
            Kind::Keeper => keeper(&world, &mut story, dice).await,
            Kind::Viewer => viewer(&world, dice).await,
            Kind::Waiter => waiter(&world, dice).await,
            Kind::Common => common(&world, dice).await,
            Kind::Guest => guest(&world, dice).await,
            Kind::Host => host(&world, dice).await,
            Kind::Holder => holder(&world, dice).await,
        }
    }
}

/// A place to begin from: past, future, and of another log.
fn any_place(world: &World, dice: &mut Dice) -> String {
    let head = fanfare::history::History::head(&*world.history);
    match dice.below(4) {
        0 => "aaaaaaaa-1-7".to_owned(),
        1 => FOREIGN.to_owned(),
        2 => head.at(head.sequence + 1 + dice.below(50) as u64).to_string(),
        _ => {
            SimulatedHistory::start().at(dice.below(head.sequence as usize + 1) as u64).to_string()
        }
    }
}

fn own_token(world: &World, grants: &[&str]) -> Rc<Credential> {
    let number = world.number();
    Credential::new(&format!("user-{number}"), &format!("token-{number}"), grants, 1_000_000)
}

async fn idle(world: &Rc<World>, mut dice: Dice) {
    let credential = dice.percent(60).then(|| own_token(world, &["eu.>"]));
    let knock = Knock { credential, ..Knock::default() };
    let mut line = Line::knock(world, "idle", &knock, Fate::default(), dice.part());
    for _ in 0..dice.below(12) {
        line.listen(dice.wait(500)).await;
        if dice.percent(30) {
            line.ask("ping", json!({}), Asked::Other);
        }
    }
    if world.is_over.get() {
        line.settle().await;
    }
    line.leave();
}

async fn hasty(world: &Rc<World>, mut dice: Dice) {
    let topics = dice.pick(&["eu.>", ">", "eu.a", "open.>"]);
    let is_stream = dice.percent(50);
    let credential = match topics {
        "open.>" => None,
        ">" if dice.percent(30) => None,
        _ if dice.percent(50) => Some(own_token(world, &["eu.>"])),
        _ => {
            Some(Credential::new("crowd", &format!("crowd-{}", world.number()), &["eu.>"], 100_000))
        }
    };
    let (since, snapshot) = match dice.below(3) {
        0 => (None, true),
        1 => (Some(any_place(world, &mut dice)), dice.percent(30)),
        _ => (Some(any_place(world, &mut dice)), false),
    };
    let topics = vec![pattern(topics)];
    let asks_later = !is_stream && dice.percent(75);
    // The log is asked whether this is a place of it, which takes its time.
    let since = if asks_later && dice.percent(50) { Some(FOREIGN.to_owned()) } else { since };
    let is_parrot = (asks_later || !is_stream) && dice.percent(30);
    let knock = match asks_later {
        true => Knock { is_parrot, credential, ..Knock::default() },
        false => {
            let (topics, since) = (topics.clone(), since.clone());
            let is_stream = is_stream && !is_parrot;
            Knock { is_stream, is_parrot, credential, topics, since, snapshot, ..Knock::default() }
        }
    };
    let fate = Fate {
        polls: dice.percent(40).then(|| dice.below(30)),
        touches: dice.percent(40).then(|| dice.below(20)),
        capacity: dice.percent(30).then(|| dice.pick(&[64, 400, 2_000])),
    };
    let mut line = Line::knock(world, "hasty", &knock, fate, dice.part());
    if asks_later {
        let options = json!({ "snapshot": snapshot, "since": since });
        line.subscribe(&topics, without_null(options));
    }
    line.listen(dice.wait(60)).await;
    line.leave();
}

fn without_null(mut options: Value) -> Value {
    if let Value::Object(members) = &mut options {
        members.retain(|_, value| !value.is_null());
    }
    options
}

async fn juggler(world: &Rc<World>, mut dice: Dice) {
    let number = world.number();
    let token = |id: usize, grants: &[&str]| {
        Credential::new(
            &format!("user-{number}"),
            &format!("token-{number}-{id}"),
            grants,
            1_000_000,
        )
    };
    let tokens =
        [token(0, &["eu.>"]), token(1, &["eu.a", "us.b"]), token(2, &["us.>"]), token(3, &["*.a"])];
    let patterns = ["eu.>", "eu.a", ">", "us.>", "open.>", "eu.*", "*.a", "gate.a"].map(pattern);
    let is_parrot = dice.percent(40);
    let knock = Knock { is_parrot, credential: Some(tokens[0].clone()), ..Knock::default() };
    let capacity = dice.percent(40).then(|| dice.pick(&[300, 4_000]));
    let fate = Fate { capacity, ..Fate::default() };
    let mut line = Line::knock(world, "juggler", &knock, fate, dice.part());
    for _ in 0..2 + dice.below(20) {
        if !world.goes_on() || line.is_over {
            break;
        }
        juggle(world, &mut line, &tokens, &patterns, &mut dice);
        line.listen(dice.wait(80)).await;
    }
    if world.is_over.get() {
        line.settle().await;
    }
    line.leave();
}

fn juggle(
    world: &World,
    line: &mut Line,
    tokens: &[Rc<Credential>],
    patterns: &[Pattern],
    dice: &mut Dice,
) {
    match dice.below(9) {
        0 => line.auth(&dice.pick(tokens)),
        8 if !line.is_parrot => line.prove(&dice.pick(tokens), &dice.pick(&patterns[1..2])),
        1 => {
            let mut options = json!({});
            match dice.below(7) {
                0 => options["since"] = any_place(world, dice).into(),
                1 => options["snapshot"] = true.into(),
                2 => options["mode"] = "latest".into(),
                3 => options["last"] = 3.into(),
                4 => options["tail"] = 5.into(),
                5 => options["since"] = dice.pick(&["-1h", "-5ms"]).into(),
                _ => {}
            }
            if dice.percent(20) {
                options["mode"] = "latest".into();
            }
            line.subscribe(&[dice.pick(patterns)], options);
        }
        2 => line.unsubscribe(&[dice.pick(patterns)]),
        3 => _ = line.ask("ping", json!({}), Asked::Other),
        4 => {
            let (topic, number) = (dice.pick(&["eu.a", "us.b"]), world.publishes());
            let event = json!({ "topic": topic, "data": { "n": number } });
            line.ask("publish", event, Asked::Other);
        }
        _ => {
            // Pairs, so that one is under way when the next is asked.
            let wanted = dice.pick(&patterns[..3]);
            for _ in 0..1 + dice.below(6) {
                line.unsubscribe(std::slice::from_ref(&wanted));
                line.subscribe(std::slice::from_ref(&wanted), json!({}));
            }
        }
    }
}

async fn keeper(world: &Rc<World>, story: &mut Story, mut dice: Dice) {
    let patterns = [["eu.>", "us.a"], ["*.a", "eu.b"]][story.taste].map(pattern);
    let since = story.cursor.map(|cursor| cursor.to_string());
    let credential = Some(own_token(world, &["eu.>", "us.>", "*.a"]));
    let is_stream = dice.percent(40);
    let is_parrot = !is_stream && dice.percent(40);
    let topics = patterns.to_vec();
    let knock = Knock { is_stream, is_parrot, credential, topics, since, ..Knock::default() };
    let fate = Fate {
        touches: dice.percent(50).then(|| 20 + dice.below(100)),
        capacity: dice.percent(40).then(|| dice.pick(&[300, 4_000])),
        polls: None,
    };
    let mut line = Line::knock(world, "keeper", &knock, fate, dice.part());
    let (lives, mut is_live) = (dice.below(60), false);
    for _ in 0..lives {
        if !world.goes_on() || line.is_over {
            break;
        }
        is_live |= keep(&mut line, story, dice.wait(200)).await;
    }
    if world.is_over.get() {
        while !line.is_over {
            match line.hear(Duration::from_secs(8)).await {
                Some(said) => {
                    is_live |= said["op"] == "live";
                    note_fault(&line, story.hears(&said));
                }
                None => break,
            }
        }
        if !line.is_over && is_live {
            note_fault(&line, story.check(&patterns, &world.history));
            note_fault(&line, line.watch.settled());
        }
    }
    line.leave();
}

async fn keep(line: &mut Line, story: &mut Story, time: Duration) -> bool {
    let Some(said) = line.hear(time).await else { return false };
    note_fault(line, story.hears(&said));
    said["op"] == "live"
}

fn note_fault(line: &Line, outcome: Result<(), String>) {
    if let Err(wrong) = outcome {
        line.world.fails(&line.name, wrong);
    }
}

async fn viewer(world: &Rc<World>, mut dice: Dice) {
    let patterns = vec![pattern(dice.pick(&["eu.>", "*.a", "us.*"]))];
    let credential = Some(own_token(world, &["eu.>", "us.>", "*.a"]));
    let (is_stream, latest, topics) = (dice.percent(40), dice.percent(30), patterns.clone());
    let knock = Knock { is_stream, credential, topics, snapshot: true, latest, ..Knock::default() };
    let capacity = dice.percent(30).then(|| dice.pick(&[300, 4_000]));
    let fate = Fate { capacity, ..Fate::default() };
    let mut line = Line::knock(world, "viewer", &knock, fate, dice.part());
    let mut values = Values::default();
    let stays = dice.percent(60);
    let mut left = dice.below(80);
    loop {
        let settles = world.is_over.get();
        let patience = if settles { 8_000 } else { 300 };
        match line.hear(Duration::from_millis(patience)).await {
            Some(said) => values.hears(&said),
            None if line.is_over || settles => break,
            None => {}
        }
        left = left.saturating_sub(1);
        if left == 0 && !stays && !world.is_over.get() {
            break;
        }
        if world.fault().is_some() {
            break;
        }
    }
    if world.is_over.get() && !line.is_over && line.watch.bye.is_none() {
        note_fault(&line, values.check(&patterns, &world.history));
        note_fault(&line, line.watch.settled());
    }
    line.leave();
}

async fn waiter(world: &Rc<World>, mut dice: Dice) {
    let topics = vec![pattern("gate.a")];
    let since = dice.percent(40).then(|| any_place(world, &mut dice));
    let knock = Knock { topics, since, ..Knock::default() };
    let mut line = Line::knock(world, "waiter", &knock, Fate::default(), dice.part());
    for _ in 0..2 + dice.below(8) {
        if !world.goes_on() || line.is_over {
            break;
        }
        let options = match dice.below(4) {
            0 => json!({}),
            _ => json!({ "since": FOREIGN }),
        };
        line.subscribe(&[pattern(dice.pick(&["open.a", "open.>"]))], options);
        line.listen(dice.wait(60)).await;
    }
    line.listen(Duration::from_secs(2)).await;
    line.settle().await;
    line.leave();
}

/// One that comes with the token that many use.
pub async fn common(world: &Rc<World>, mut dice: Dice) {
    let credential = world.shared.borrow().clone();
    let by_auth = dice.percent(40);
    let is_stream = !by_auth && dice.percent(50);
    let topics = if is_stream { vec![pattern("eu.>")] } else { Vec::new() };
    let shown = (!by_auth).then(|| credential.clone());
    let is_parrot = !is_stream && dice.percent(30);
    let knock = Knock { is_stream, is_parrot, credential: shown, topics, ..Knock::default() };
    let mut line = Line::knock(world, "common", &knock, Fate::default(), dice.part());
    if by_auth && !is_parrot && dice.percent(50) {
        line.prove(&credential, &pattern("eu.a"));
    } else if by_auth {
        line.auth(&credential);
        line.subscribe(&[pattern("eu.>")], json!({}));
    }
    line.listen(Duration::from_millis(dice.below(1_500) as u64)).await;
    line.leave();
}

/// A room that a guest may come into.
fn room(dice: &mut Dice) -> Pattern {
    pattern(dice.pick(&["eu.a", "open.a"]))
}

async fn guest(world: &Rc<World>, mut dice: Dice) {
    let user = format!("guest-{}", dice.below(3));
    let credential = Credential::new(&user, &format!("g-{}", world.number()), &["eu.>"], 100_000);
    let (is_stream, by_auth) = (dice.percent(30), dice.percent(30));
    let topics =
        if by_auth && !is_stream { vec![pattern("open.a")] } else { vec![room(&mut dice)] };
    let shown = (!by_auth || is_stream).then(|| credential.clone());
    let knock = Knock { is_stream, credential: shown, topics, ..Knock::default() };
    let fate = Fate { touches: dice.percent(30).then(|| dice.below(40)), ..Fate::default() };
    let mut line = Line::knock(world, "guest", &knock, fate, dice.part());
    for _ in 0..dice.below(6) {
        line.listen(dice.wait(120)).await;
        if is_stream || line.is_over || !world.goes_on() {
            continue;
        }
        match dice.below(3) {
            0 if by_auth => line.auth(&credential),
            1 => line.unsubscribe(&[room(&mut dice)]),
            _ => line.subscribe(&[room(&mut dice)], json!({})),
        }
    }
    line.leave();
}

async fn host(world: &Rc<World>, mut dice: Dice) {
    let topics = match dice.below(4) {
        0 => vec!["$presence.>"],
        1 => vec!["$presence.eu.a", "$presence.open.*"],
        2 => vec!["$presence.open.a", "$presence.open.a"],
        _ => vec!["$presence.eu.a"],
    };
    let topics: Vec<_> = topics.into_iter().map(pattern).collect();
    let credential = Some(own_token(world, &["$presence.>"]));
    let (is_stream, asks_later) = (dice.percent(40), dice.percent(40));
    let at_once = if asks_later && !is_stream { Vec::new() } else { topics.clone() };
    let snapshot = !at_once.is_empty();
    let knock = Knock { is_stream, credential, topics: at_once, snapshot, ..Knock::default() };
    let capacity = dice.percent(30).then(|| dice.pick(&[300, 4_000]));
    let fate = Fate { capacity, ..Fate::default() };
    let mut line = Line::knock(world, "host", &knock, fate, dice.part());
    if !snapshot {
        line.subscribe(&topics, json!({ "snapshot": true }));
    }
    let (mut company, mut left) = (Company::default(), dice.below(60));
    loop {
        let settles = world.is_over.get();
        let patience = if settles { 8_000 } else { 300 };
        match line.hear(Duration::from_millis(patience)).await {
            Some(said) => note_fault(&line, company.hears(&said)),
            None if line.is_over || settles => break,
            None => {}
        }
        left = left.saturating_sub(1);
        if (left == 0 && !world.is_over.get()) || world.fault().is_some() {
            break;
        }
    }
    if world.is_over.get() && !line.is_over && line.watch.bye.is_none() {
        note_fault(&line, company.is_alone());
        note_fault(&line, line.watch.settled());
    }
    line.leave();
}

async fn holder(world: &Rc<World>, mut dice: Dice) {
    let tokens = [own_token(world, &["held.>"]), own_token(world, &["held.>"])];
    let knock = Knock { credential: Some(tokens[0].clone()), ..Knock::default() };
    let fate = Fate { touches: dice.percent(60).then(|| dice.below(60)), ..Fate::default() };
    let mut line = Line::knock(world, "holder", &knock, fate, dice.part());
    let (mut session, stays) = (None, dice.percent(20));
    for _ in 0..2 + dice.below(20) {
        if !world.goes_on() || line.is_over {
            break;
        }
        if dice.percent(10) {
            line.auth(&tokens[1]);
        }
        let (topic, number) = (dice.pick(&["held.a", "held.b", "held.c"]), world.publishes());
        let data = json!({ "n": number });
        let event = json!({ "topic": topic, "data": data, "bound": dice.percent(80) });
        line.ask("publish", event, Asked::Other);
        let until = Instant::now() + dice.wait(80);
        while let Some(said) = line.hear(until - Instant::now()).await {
            session = session.or_else(|| said["session"].as_str().map(str::to_owned));
        }
    }
    if stays {
        // Longer than the values of anybody who is gone.
        line.listen(Duration::from_secs(7)).await;
    }
    let has_ended = session.is_some_and(|session| world.history.has_ended(&session));
    // It may be about to hear that it is over.
    line.listen(Duration::from_millis(200)).await;
    if has_ended && !line.is_over && line.watch.bye.is_none() {
        world.fails(&line.name, "B1: its values have ended, and it is there".to_owned());
    }
    line.leave();
}
