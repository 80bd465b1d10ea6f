//! The arrows between modules: who may use whom. And how large a file may become.

#[path = "architecture/circles.rs"]
mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use circles::{Crate, circles};

/// What each module may use of ours; `server` and `cli` may use everything.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("metrics", &["model"]),
    ("lines", &["metrics"]),
    ("panics", &["lines"]),
    ("clock", &[]),
    ("console", &["http"]),
    ("trust", &[]),
    ("config", &["model", "protocol"]),
    ("http", &["model", "protocol"]),
    ("protocol", &["clock", "model"]),
    ("auth", &["clock", "config", "http", "metrics", "model", "trust"]),
    ("body", &["auth", "clock", "config", "http", "model"]),
    ("history", &["clock", "config", "metrics", "model", "trust"]),
    ("traces", &["clock", "config", "metrics", "model", "trust"]),
    ("broker", &["clock", "history", "metrics", "model", "traces"]),
    ("cluster", &["broker", "config", "history", "model"]),
    (
        "session",
        &[
            "auth", "body", "broker", "clock", "config", "history", "http", "metrics", "model",
            "protocol",
        ],
    ),
    (
        "ingress",
        &["auth", "body", "broker", "config", "history", "http", "metrics", "model", "protocol"],
    ),
    ("supervisor", &[]),
    ("vitals", &["auth", "broker", "config", "history", "metrics", "model", "supervisor"]),
    ("notices", &["auth", "broker", "clock", "config", "history", "metrics", "model", "trust"]),
    (
        "admin",
        &["auth", "body", "broker", "config", "history", "http", "metrics", "model", "protocol"],
    ),
];

/// The most lines of a file: as many as one reads in one sitting.
const MAX_LINES: usize = 450;

/// What each may use beside: a panic may come to pass anywhere.
const ANYWHERE: &[&str] = &["panics"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let (folders, files): (Vec<_>, Vec<_>) =
        entries.map(|entry| entry.path()).partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

/// The lines of code of every module, with where they stand; tests and comments do not count.
fn code_by_module() -> BTreeMap<String, Vec<(String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for path in sources(&root) {
        let place = path.strip_prefix(&root).expect("a source").to_owned();
        let first = place.components().next().expect("a name").as_os_str();
        let module = Path::new(first).file_stem().expect("a stem").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a readable source");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines =
            code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        modules.entry(module).or_default().extend(
            lines.map(|(at, line)| (format!("{}:{}", place.display(), at + 1), line.to_owned())),
        );
    }
    modules
}

/// The modules of ours that a line names.
fn used(line: &str) -> BTreeSet<String> {
    let names = line.split("crate::").skip(1);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let grouped = |rest: &str| -> Vec<String> {
        match rest.strip_prefix('{') {
            Some(group) => group
                .split(',')
                .map(|name| name.trim().chars().take_while(|c| is_name(*c)).collect())
                .collect(),
            None => vec![rest.chars().take_while(|c| is_name(*c)).collect()],
        }
    };
    names.flat_map(grouped).filter(|name| !name.is_empty()).collect()
}

#[test]
fn modules_use_only_what_their_arrows_allow() {
    let modules = code_by_module();
    let mut wrong = Vec::new();
    for (module, allowed) in ARROWS {
        let lines = modules.get(*module).unwrap_or_else(|| panic!("there is no module {module}"));
        for (place, line) in lines {
            for name in used(line) {
                let allowed = allowed.iter().chain(ANYWHERE);
                if name != *module && !allowed.copied().any(|allowed| name == allowed) {
                    wrong.push(format!("{place}: {module} may not use {name}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files of the crate, by their places under `src`.
fn texts() -> impl Iterator<Item = (String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root).into_iter().map(move |path| {
        let place = path.strip_prefix(&root).expect("a source").display().to_string();
        (place, fs::read_to_string(&path).expect("a readable source"))
    })
}

#[test]
fn the_modules_of_each_module_stand_in_an_order() {
    let arrows = Crate::of(texts()).arrows();
    let mut wrong = Vec::new();
    for (module, arrows) in &arrows {
        for ((from, to), why) in circles(arrows) {
            let why = why.into_iter().collect::<Vec<_>>().join(", ");
            wrong.push(format!("in a circle: {module}: {from} -> {to} ({why})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_one_reads_in_one_sitting() {
    let long = texts().filter(|(_, text)| text.lines().count() > MAX_LINES);
    let long: Vec<_> = long.map(|(place, _)| place).collect();
    assert!(long.is_empty(), "files of more than {MAX_LINES} lines: {long:?}");
}

#[test]
fn every_module_has_its_arrows() {
    let free = ["server", "cli", "lib", "main"];
    let known = ARROWS.iter().map(|(module, _)| *module).chain(free);
    let known: BTreeSet<_> = known.map(str::to_owned).collect();
    let found: BTreeSet<_> = code_by_module().into_keys().collect();
    assert_eq!(found, known);
}

#[test]
fn actors_live_in_broker_and_session_alone() {
    let wrong: Vec<_> = code_by_module()
        .into_iter()
        .filter(|(module, _)| module != "broker" && module != "session")
        .flat_map(|(_, lines)| lines)
        .filter(|(_, line)| line.contains("actix::"))
        .map(|(place, line)| format!("{place}: {}", line.trim()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_lines_and_commands_write_to_the_outside() {
    let writes =
        |line: &str| ["stdout()", "stderr()", "set_hook("].iter().any(|way| line.contains(way));
    let allowed = [
        "lines.rs",
        "panics.rs",
        "cli/print.rs",
        "cli/serve.rs",
        "cli/subscribe/mod.rs",
        "cli/mod.rs",
    ];
    let wrong: Vec<_> = code_by_module()
        .into_values()
        .flatten()
        .filter(|(place, line)| {
            writes(line) && !allowed.iter().any(|file| place.starts_with(&format!("{file}:")))
        })
        .map(|(place, line)| format!("{place}: {}", line.trim()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_lock_that_a_panic_has_left_half_done_is_nowhere_passed_over() {
    let wrong: Vec<_> = code_by_module()
        .into_values()
        .flatten()
        .filter(|(place, line)| {
            // The log itself must go on, and the bench has no broker to end.
            let allowed = ["lines.rs", "panics.rs", "cli/bench/"];
            line.contains("PoisonError") && !allowed.iter().any(|file| place.starts_with(file))
        })
        .map(|(place, line)| format!("{place}: {}", line.trim()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_word_of_the_glossary_is_a_type_or_a_module() {
    let docs = include_str!("../docs/architecture.md");
    let glossary = docs.lines().skip_while(|line| *line != "| word | meaning |").skip(2);
    let rows = glossary.take_while(|line| line.starts_with('|'));
    let words: Vec<_> = rows.filter_map(|row| row.split('|').nth(1)).map(str::trim).collect();
    let lines: Vec<_> = code_by_module().into_values().flatten().collect();
    let is_type = |word: &str| {
        // Those that the code spells otherwise.
        let spelled = [
            ("Barrier", "BarrierId"),
            ("Catch-up", "Catchup"),
            ("Subscription", "Subscribe"),
            ("Way back", "WayBack"),
        ];
        let word = spelled.iter().find(|(said, _)| *said == word).map_or(word, |(_, name)| name);
        lines.iter().any(|(_, line)| {
            ["struct", "enum", "trait"].iter().any(|kind| {
                let name = format!("{kind} {word}");
                let mut parts = line.split(&name);
                let rest = parts.next().and(parts.next());
                rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
            })
        })
    };
    let is_module = |word: &str| {
        let [one, many] = [".rs:", "s.rs:"].map(|end| format!("{}{end}", word.to_lowercase()));
        lines.iter().any(|(place, _)| {
            place
                .split('/')
                .next_back()
                .is_some_and(|at| at.starts_with(&one) || at.starts_with(&many))
        })
    };
    let unknown: Vec<_> = words.iter().filter(|word| !is_type(word) && !is_module(word)).collect();
    assert!(words.len() > 30 && unknown.is_empty(), "not in the code: {unknown:?} of {words:?}");
}

#[test]
fn the_reader_of_arrows_sees_them() {
    let names = |line| used(line).into_iter().collect::<Vec<_>>();
    assert_eq!(names("use crate::{admin, ingress};"), ["admin", "ingress"]);
    assert_eq!(names("use crate::history::memory::MemoryHistory;"), ["history"]);
    assert_eq!(names("let a: crate::a::B = crate::c();"), ["a", "c"]);
    assert_eq!(names("no arrow here"), [""; 0]);
}
