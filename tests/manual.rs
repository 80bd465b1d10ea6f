//! The manual and what shells complete with: whole, sound, and where a system looks for them.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::process::without_settings;
use tempfile::tempdir;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let output = without_settings(&mut command).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// Has bash run a script with the completion of `fanfare` at hand; what it prints.
fn bash(script: &str) -> String {
    let completion = text(run(&["completion", "bash"]).stdout);
    let output = Command::new("bash").args(["-c", &format!("{completion}\n{script}")]).output();
    let output = output.expect("bash runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    text(output.stdout)
}

/// What bash offers behind these words, of which the last is not whole.
fn offered(words: &[&str]) -> BTreeSet<String> {
    let (current, before) = (words[words.len() - 1], words[words.len() - 2]);
    let said = bash(&format!(
        "COMP_WORDS=({}) COMP_CWORD={}; _fanfare fanfare '{current}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("'{word}' ")).collect::<String>(),
        words.len() - 1,
    ));
    said.lines().map(str::to_owned).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn bash_completes_commands_and_flags() {
    assert_eq!(offered(&["fanfare", "com"]), set(&["completion"]));
    assert_eq!(offered(&["fanfare", "token", "ex"]), set(&["explain"]));
    assert_eq!(offered(&["fanfare", "subscribe", "--sn"]), set(&["--snapshot"]));
    assert_eq!(offered(&["fanfare", "subscribe", "--mode", ""]), set(&["all", "latest"]));
    assert!(offered(&["fanfare", "completion", ""]).is_superset(&set(&["bash", "fish", "zsh"])));
}

#[test]
fn every_shell_can_read_what_is_for_it() {
    for shell in ["bash", "zsh", "fish"] {
        let directory = tempdir().expect("a directory");
        let script = directory.path().join("fanfare");
        fs::write(&script, run(&["completion", shell]).stdout).expect("written");
        match Command::new(shell).arg("-n").arg(&script).output() {
            Ok(output) => {
                assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
            }
            Err(_) if shell != "bash" => eprintln!("{shell} is not installed: left out"),
            Err(error) => panic!("{shell}: {error}"),
        }
    }
}

/// The commands that the help lists beneath one.
fn commands(beneath: &[&str]) -> Vec<String> {
    let help = text(run(&[beneath, &["--help"]].concat()).stdout);
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let rows = list.take_while(|line| !line.is_empty());
    let names = rows.filter(|row| row.starts_with("  ") && !row.starts_with("   "));
    let names = names.filter_map(|row| row.split_whitespace().next().map(str::to_owned));
    names.filter(|name| name != "help").collect()
}

/// Every page that there is to be: of `fanfare`, of each command, and of those beneath them.
fn expected_pages() -> BTreeSet<String> {
    let mut pages = set(&["fanfare.1"]);
    for command in commands(&[]) {
        let beneath = commands(&[&command]);
        pages.extend(beneath.iter().map(|name| format!("fanfare-{command}-{name}.1")));
        pages.insert(format!("fanfare-{command}.1"));
    }
    pages
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.map(|name| name.into_string().expect("text")).collect()
}

#[test]
fn every_command_has_a_page_that_groff_finds_nothing_wrong_with() {
    let directory = tempdir().expect("a directory");
    let pages = directory.path().join("made/man1");
    run(&["man", pages.to_str().expect("text")]);
    assert_eq!(names(&pages), expected_pages());
    assert!(names(&pages).contains("fanfare-token-explain.1"));
    for page in names(&pages) {
        let groff = ["-man", "-Kutf8", "-Tutf8", "-ww", "-rLL=100n", "-P-cbou"];
        let shown = Command::new("groff").args(groff).arg(pages.join(&page)).output();
        let shown = shown.expect("groff runs");
        assert!(shown.status.success() && shown.stderr.is_empty(), "{page}: {shown:?}");
        let shown = text(shown.stdout);
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS"] {
            let count = shown.lines().filter(|line| *line == heading).count();
            assert_eq!(count, 1, "{page}: {heading}: {shown}");
        }
    }
}

#[test]
fn examples_keep_their_lines_and_the_first_page_is_printed() {
    let page = text(run(&["man"]).stdout);
    assert!(page.starts_with(".ie") || page.contains("\n.TH"), "{page}");
    let examples = page.split_once(".SH EXAMPLES\n.nf\n").expect("examples").1;
    let (examples, rest) = examples.split_once("\n.fi\n").expect("their end");
    assert!(
        examples.lines().all(|line| line.starts_with("  fanfare") || line.starts_with("  source")),
        "{examples}"
    );
    assert!(rest.contains(".SH NOTES") && rest.contains("FANFARE_<SECTION>_<KEY>"), "{rest}");
}

#[test]
fn a_directory_that_can_not_be_written_to_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let output = without_settings(&mut command).args(["man", "/dev/null/man1"]).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(output.stderr).contains("error: /dev/null/man1: "));
}

#[test]
fn a_package_has_everything_where_a_system_looks_for_it() {
    let package = tempdir().expect("a directory");
    let man = package.path().join("usr/share/man/man1");
    fs::create_dir_all(&man).expect("a directory");
    fs::write(man.join("fanfare-gone.1"), "of an earlier release").expect("written");
    let mut command = Command::new("scripts/install");
    without_settings(&mut command).env("DESTDIR", package.path()).env("PREFIX", "/usr");
    let output = command.arg(env!("CARGO_BIN_EXE_fanfare")).output().expect("it runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(names(&man), expected_pages());
    let share = package.path().join("usr/share");
    for (file, begin) in [
        ("bash-completion/completions/fanfare", "_fanfare()"),
        ("zsh/site-functions/_fanfare", "#compdef fanfare"),
        ("fish/vendor_completions.d/fanfare.fish", "#"),
    ] {
        let script = fs::read_to_string(share.join(file)).expect(file);
        assert!(script.starts_with(begin), "{file}: {script}");
    }
    let unit = package.path().join("usr/lib/systemd/system/fanfare.service");
    let unit = fs::read_to_string(unit).expect("a unit");
    assert!(unit.contains("\nExecStart=/usr/bin/fanfare serve\n"), "{unit}");
    assert!(package.path().join("usr/lib/sysusers.d/fanfare.conf").exists());
    let version = Command::new(package.path().join("usr/bin/fanfare")).arg("--version").output();
    assert!(version.expect("it runs").status.success());
}
