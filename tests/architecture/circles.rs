//! Who uses whom within a module: as the modules of the crate stand in an order, so do those of each module.
//!
//! What counts are the arrows between siblings, from a file of the one, or of what is in it, to a file of the
//! other. A parent and its children are no siblings: what a module says, all that is in it may use. A name that
//! a module only passes on is its owner's.

use std::collections::{BTreeMap, BTreeSet};

/// The path of a module within the crate: `["broker", "fanout"]`.
pub type Module = Vec<String>;

/// Arrows between siblings, by their names, with the files and names that they come from.
pub type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// The modules of a crate, and what each says.
pub struct Crate(BTreeMap<Module, Code>);

/// What a file says, tests and comments left out.
struct Code {
    place: String,
    uses: Vec<Use>,
    /// The paths in all else, and single words.
    paths: BTreeSet<Module>,
}

/// One name of a `use`.
struct Use {
    path: Module,
    name: String,
    is_public: bool,
}

impl Crate {
    /// The modules of these files, by their places under `src`.
    pub fn of(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let read = |(place, text): (String, String)| {
            let stem = place.trim_end_matches(".rs");
            let own = |name: &&str| !["mod", "lib", "main"].contains(name);
            let module = stem.split('/').filter(own).map(str::to_owned).collect();
            (module, place, without_comments(&text))
        };
        let files: Vec<(Module, _, _)> = files.into_iter().map(read).collect();
        let of_tests = |(module, _, code): &(Module, String, String)| {
            let within = |name: String| [module.clone(), vec![name]].concat();
            test_modules(code).into_iter().map(within).collect::<Vec<_>>()
        };
        let tests: Vec<Module> = files.iter().flat_map(of_tests).collect();
        let is_test = |module: &Module| tests.iter().any(|tests| module.starts_with(tests));
        let files = files.into_iter().filter(|(module, _, _)| !is_test(module));
        Self(files.map(|(module, place, code)| (module, Code::of(place, &code))).collect())
    }

    /// The arrows between the modules of each module.
    pub fn arrows(&self) -> BTreeMap<String, Arrows> {
        let mut arrows: BTreeMap<String, Arrows> = BTreeMap::new();
        for (module, code) in &self.0 {
            for (target, name) in self.used(module, code) {
                let shared = module.iter().zip(&target).take_while(|(one, other)| one == other);
                let shared = shared.count();
                // Arrows between the modules of the crate itself are looked at elsewhere.
                if let (Some(from), Some(to), 1..) =
                    (module.get(shared), target.get(shared), shared)
                {
                    let within = arrows.entry(module[..shared].join("/")).or_default();
                    let why = format!("{}: {name}", code.place);
                    within.entry((from.clone(), to.clone())).or_default().insert(why);
                }
            }
        }
        arrows
    }

    /// The modules that own what a module uses, with the names by which it does.
    fn used(&self, module: &Module, code: &Code) -> Vec<(Module, String)> {
        let is_said = |name: &String| code.paths.iter().any(|path| path[0] == *name);
        let uses = code.uses.iter().filter(|one| !one.is_public || is_said(&one.name));
        let paths =
            uses.map(|one| &one.path).chain(code.paths.iter().filter(|path| path.len() > 1));
        let owner = |path: &Module| Some((self.owner(module, path, 0)?, path.join("::")));
        paths.filter_map(owner).collect()
    }

    /// The module that owns what this path names in this module, if that is one of the crate's.
    fn owner(&self, module: &[String], path: &[String], followed: usize) -> Option<Module> {
        let (first, _) = path.split_first()?;
        let supers = path.iter().take_while(|part| *part == "super").count();
        let (mut at, mut rest) = match first.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (module.to_vec(), &path[1..]),
            "super" => (module[..module.len().checked_sub(supers)?].to_vec(), &path[supers..]),
            child => {
                let child = [module, &[child.to_owned()]].concat();
                self.0.contains_key(&child).then(|| (module.to_vec(), path))?
            }
        };
        while let Some((next, further)) = rest.split_first() {
            let child = [&at[..], std::slice::from_ref(next)].concat();
            if !self.0.contains_key(&child) {
                break;
            }
            (at, rest) = (child, further);
        }
        let Some((name, further)) = rest.split_first() else { return Some(at) };
        // Two names that pass each other on are no names.
        let passed = self.0.get(&at)?.uses.iter().find(|one| one.name == *name && followed < 8);
        match passed {
            Some(passed) => self.owner(&at, &[&passed.path[..], further].concat(), followed + 1),
            None => Some(at),
        }
    }
}

impl Code {
    fn of(place: String, code: &str) -> Self {
        let (mut uses, mut rest) = (Vec::new(), String::new());
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            let Some((is_public, first)) = use_of(line) else {
                rest.push_str(line);
                rest.push('\n');
                continue;
            };
            let mut all = first.to_owned();
            while !all.contains(';') {
                all.push_str(lines.next().expect("the end of a use"));
            }
            let tree = all.split(';').next().expect("a use");
            let named = |(path, name)| Use { path, name, is_public };
            uses.extend(names(&[], tree).into_iter().map(named));
        }
        Self { place, uses, paths: paths(&rest) }
    }
}

/// What follows `use` in a line that begins with it, and whether it is passed on.
fn use_of(line: &str) -> Option<(bool, &str)> {
    let line = line.trim_start();
    let Some(public) = line.strip_prefix("pub") else {
        return Some((false, line.strip_prefix("use ")?));
    };
    let public = match public.strip_prefix('(') {
        Some(within) => within.split_once(')')?.1,
        None => public,
    };
    Some((true, public.trim_start().strip_prefix("use ")?))
}

/// The paths of a tree of `use`, each with its name.
fn names(before: &[String], tree: &str) -> Vec<(Module, String)> {
    if let Some((path, group)) = tree.split_once('{') {
        let before = [before, &parts(path)].concat();
        let group = group.rsplit_once('}').expect("the end of a group").0;
        return split_outside_of_groups(group).iter().flat_map(|one| names(&before, one)).collect();
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut path = [before, &parts(path)].concat();
    path.pop_if(|last| last == "self");
    let last = path.last().cloned().unwrap_or_default();
    let name = if alias.is_empty() { last } else { alias.trim().to_owned() };
    if path.is_empty() { Vec::new() } else { vec![(path, name)] }
}

fn parts(path: &str) -> Module {
    path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn split_outside_of_groups(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = text.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    split.filter(|one| !one.trim().is_empty()).collect()
}

/// The paths in a text, words among them.
fn paths(code: &str) -> BTreeSet<Module> {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_of_path(c)).filter(|word| !word.starts_with(':'));
    words.map(parts).filter(|path| !path.is_empty()).collect()
}

fn without_comments(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The modules of their own files that are for tests alone.
fn test_modules(code: &str) -> Vec<String> {
    let after = code.split("#[cfg(test)]\n").skip(1).filter_map(|after| after.split(';').next());
    let name = |declared: &str| Some(declared.split_once("mod ")?.1.to_owned());
    after.filter_map(name).collect()
}

/// Those of these arrows that are part of a circle, or lead from one to another.
pub fn circles(arrows: &Arrows) -> Arrows {
    let mut left = arrows.clone();
    loop {
        let from: BTreeSet<_> = left.keys().map(|(from, _)| from.clone()).collect();
        let to: BTreeSet<_> = left.keys().map(|(_, to)| to.clone()).collect();
        let before = left.len();
        left.retain(|(one, other), _| to.contains(one) && from.contains(other));
        if left.len() == before {
            return left;
        }
    }
}

#[test]
fn what_a_module_uses_is_found_at_its_owner() {
    let files = [
        ("lib.rs", "pub mod a; pub mod other;"),
        ("other.rs", "use crate::a::One;"),
        (
            "a/mod.rs",
            "mod one;\nmod two;\npub use self::one::{One, inner::Deep as Deeper};\nstruct Own;",
        ),
        (
            "a/one.rs",
            "#[cfg(test)]\nmod fixtures;\nmod inner;\n// use super::two::Two;\nuse super::Own;",
        ),
        ("a/one/inner.rs", "use super::super::{\n    two::{self, Two},\n    Own,\n};"),
        ("a/one/fixtures.rs", "use crate::a::three::Three;"),
        (
            "a/two.rs",
            "fn two() -> super::Deeper { todo }\n#[cfg(test)]\nmod tests { use crate::a::three; }",
        ),
        ("a/three.rs", "pub(super) use super::two::Two;\nuse std::fmt::{self, Write};"),
        ("a/four.rs", "pub(super) use super::two::Two;\nfn four(two: Two) {}"),
    ];
    let files = files.map(|(place, text)| (place.to_owned(), text.to_owned()));
    let arrows = Crate::of(files).arrows();
    let found: Vec<_> = arrows["a"].keys().map(|(from, to)| format!("{from} {to}")).collect();
    assert_eq!(found, ["four two", "one two", "two one"]);
    assert_eq!(arrows.len(), 1, "{arrows:?}");
    let circle: Vec<_> = circles(&arrows["a"]).into_keys().map(|(from, _)| from).collect();
    assert_eq!(circle, ["one", "two"]);
    let mut without = arrows["a"].clone();
    without.retain(|(from, _), _| from != "two");
    assert!(circles(&without).is_empty());
}
