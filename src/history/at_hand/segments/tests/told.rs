//! Pages at hand against a plain model of what was told.

use super::*;

/// A small choice after another, the same for one seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, count: u64) -> u64 {
        let product = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = product.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }

    fn topic(&mut self) -> &'static str {
        ["a.x", "a.y", "b", "c"][self.below(4) as usize]
    }
}

/// What a log told, as plainly as can be.
#[derive(Default)]
struct Told {
    /// Each event since all was lost, and whether it is there.
    events: Vec<(Cursor, &'static str, bool)>,
    places: Vec<Cursor>,
    /// Up to here any may be gone.
    floor: u64,
}

impl Told {
    /// What comes after one place and up to another; none where that is not certain.
    fn between(&self, text: &str, after: Cursor, upto: Cursor) -> Option<Vec<u64>> {
        let pattern = Pattern::parse(text).unwrap();
        let is_known = self.places.contains(&after) && self.places.contains(&upto);
        let of = |(place, name, is_there): &(Cursor, &'static str, bool)| {
            let is_wanted = *place > after && pattern.matches(&topic(name));
            is_wanted.then_some((*place, *is_there))
        };
        let later: Vec<_> = self.events.iter().filter_map(of).collect();
        let is_whole = self.floor <= after.sequence && later.iter().all(|(_, is_there)| *is_there);
        let found = later.iter().filter(|(place, _)| *place <= upto);
        (is_known && is_whole).then(|| found.map(|(place, _)| place.sequence).collect())
    }

    /// The newest up to a place behind the last one that is gone; none where that place is not certain.
    fn back(&self, text: &str, upto: Cursor) -> Vec<u64> {
        let pattern = Pattern::parse(text).unwrap();
        let wanted = self.events.iter().rev().filter(|(_, name, _)| pattern.matches(&topic(name)));
        let is_there = |it: &&(Cursor, &str, bool)| it.2 && it.0.sequence > self.floor;
        let found: Vec<_> = wanted.take_while(is_there).map(|(place, ..)| *place).collect();
        let found = found.into_iter().filter(|place| *place <= upto);
        match self.places.contains(&upto) {
            true => found.map(|place| place.sequence).collect(),
            false => Vec::new(),
        }
    }

    fn go(&mut self, segments: &mut Segments, end: &mut Cursor, choices: &mut Choices) {
        let (name, since) = (choices.topic(), *end);
        if choices.below(12) == 0 {
            let epoch = end.epoch + 1 + choices.below(3);
            *end = Cursor { epoch, ..end.at(end.sequence + 10 + choices.below(5)) };
        }
        let next = end.at(end.sequence + 1);
        match choices.below(20) {
            0 => {
                let upto = since.sequence.saturating_sub(choices.below(30));
                let is_of = |it: &&(Cursor, &str, bool)| it.1 == name && it.0.sequence <= upto;
                let last = self.events.iter().rev().find(is_of);
                let upto = last.map_or(0, |(place, ..)| place.sequence);
                segments.remove(&[removal(Some(name), upto)]);
                let is_gone =
                    |it: &&mut (Cursor, &str, bool)| it.1 == name && it.0.sequence <= upto;
                self.events.iter_mut().filter(is_gone).for_each(|it| it.2 = false);
                return *end = since;
            }
            1 if choices.below(4) == 0 => {
                let upto = since.sequence.saturating_sub(20 + choices.below(30));
                segments.remove(&[removal(None, upto)]);
                self.floor = self.floor.max(upto);
                return *end = since;
            }
            2 if choices.below(4) == 0 => {
                segments.lose(&Loss { since, position: next, topics: None });
                *self = Self::default();
            }
            3 | 4 => {
                let lost = LostTopic { topic: topic(name), is_superseded: true };
                let topics = Some(Arc::from([lost]));
                segments.lose(&Loss { since, position: next, topics });
                self.events.push((next, name, false));
            }
            5..8 => {
                segments.pass(&topic(name), next);
                self.before(since, next);
                self.events.push((next, name, false));
            }
            _ => {
                segments.add(&[event_at(name, next)]);
                self.before(since, next);
                self.events.push((next, name, true));
            }
        }
        self.places.push(next);
        *end = next;
    }

    /// The place before an event is one of the log.
    fn before(&mut self, since: Cursor, next: Cursor) {
        let before = next.at(next.sequence - 1);
        if before != since {
            self.places.push(before);
        }
    }
}

#[test]
fn whatever_is_told_each_page_is_whole_or_there_is_none_and_there_is_one_where_it_can_be() {
    for seed in 0..300 {
        let mut choices = Choices(seed);
        let mut segments = Segments::new(at(0), usize::MAX);
        let (mut told, mut end) = (Told { places: vec![at(0)], ..Told::default() }, at(0));
        for _ in 0..150 {
            told.go(&mut segments, &mut end, &mut choices);
            let text = [">", "a.*", "a.x", "b"][choices.below(4) as usize];
            let place = |choices: &mut Choices| {
                let place = told.places[choices.below(told.places.len() as u64) as usize];
                // Or beside one.
                place.at(place.sequence + choices.below(6) / 5)
            };
            let (mut after, upto) = (place(&mut choices), place(&mut choices));
            let most = 1 + choices.below(9) as usize;
            let wanted = patterns(&[text]);
            let wanted = Wanted::of(&wanted);
            let back = segments.stretch_back(&wanted, upto);
            let back = back.and_then(|stretch| stretch.page_back(&wanted, most, usize::MAX));
            let expected = told.back(text, upto);
            let expected = expected.get(..most).filter(|_| expected.len() > most);
            let found = back.map(|page| page.events).map(|events| {
                events.iter().map(|event| event.cursor.unwrap().sequence).collect::<Vec<_>>()
            });
            assert_eq!(found.as_deref(), expected, "seed {seed}: {text} back from {upto}");
            if after > upto {
                continue;
            }
            loop {
                let expected = told.between(text, after, upto);
                let Some(page) = page(&segments, &[text], after, upto, most) else {
                    assert_eq!(expected, None, "seed {seed}: {text} after {after} up to {upto}");
                    break;
                };
                let found = numbers(&page);
                let expected = expected.unwrap_or_else(|| panic!("seed {seed}: {text} {after}"));
                let expected: Vec<_> = expected.into_iter().take(found.len()).collect();
                assert_eq!(found, expected, "seed {seed}: {text} after {after} up to {upto}");
                assert!(page.done || page.next > after);
                after = page.next;
                if page.done {
                    let left = told.between(text, after, upto);
                    assert!(left.is_none_or(|left| left.is_empty()), "seed {seed}");
                    break;
                }
                // It goes on while somebody pages.
                let mut meanwhile = end;
                told.go(&mut segments, &mut meanwhile, &mut choices);
                end = meanwhile;
            }
        }
    }
}
