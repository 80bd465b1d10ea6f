//! Colours: on a terminal, and nowhere with `NO_COLOR`.

mod support;

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use support::TestServer;
use support::process::without_settings;

/// A command on a terminal of its own, which `script` makes.
struct Terminal {
    child: Child,
    shown: Vec<u8>,
}

impl Terminal {
    fn run(arguments: &str, no_color: Option<&str>) -> Self {
        let mut command = Command::new("script");
        without_settings(&mut command).env_remove("NO_COLOR").env("TERM", "xterm-256color");
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let line = format!("exec {} {arguments}", env!("CARGO_BIN_EXE_fanfare"));
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir(std::env::temp_dir());
        Self { child: command.spawn().expect("script runs"), shown: Vec::new() }
    }

    /// Waits until it shows something.
    fn until(&mut self, text: &str) {
        let output = self.child.stdout.as_mut().expect("what it shows");
        let mut some = [0; 1_024];
        while !String::from_utf8_lossy(&self.shown).contains(text) {
            let count = output.read(&mut some).expect("more");
            assert!(count > 0, "{}", String::from_utf8_lossy(&self.shown));
            self.shown.extend_from_slice(&some[..count]);
        }
    }

    /// All that it shows, up to its end.
    fn end(mut self) -> String {
        let output = self.child.stdout.as_mut().expect("what it shows");
        output.read_to_end(&mut self.shown).expect("the rest");
        self.child.wait().expect("it ends");
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Types Ctrl-C, and waits for the end.
    fn interrupt(mut self) -> String {
        self.child.stdin.as_mut().expect("a keyboard").write_all(b"\x03").expect("typed");
        self.end()
    }
}

/// Whether something is drawn in a style (ECMA-48, SGR).
fn has_colours(shown: &str) -> bool {
    shown.split("\x1b[").skip(1).any(|rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
    })
}

/// Runs a command with colours, with an empty `NO_COLOR`, which says nothing, and with one that forbids them.
fn coloured_unless_forbidden(shows: impl Fn(Option<&str>) -> String) {
    for (no_color, expected) in [(None, true), (Some(""), true), (Some("1"), false)] {
        let shown = shows(no_color);
        assert_eq!(has_colours(&shown), expected, "NO_COLOR={no_color:?}: {shown:?}");
    }
}

#[test]
fn the_log_has_colours_unless_they_are_forbidden() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().display();
    let arguments = format!("serve --listen 127.0.0.1:0 --set history.path={path}");
    coloured_unless_forbidden(|no_color| {
        let mut broker = Terminal::run(&arguments, no_color);
        broker.until("API docs");
        let shown = broker.interrupt();
        assert!(shown.contains("SIGINT: stopping"), "{shown}");
        shown
    });
}

#[test]
fn help_and_errors_have_colours_unless_they_are_forbidden() {
    for arguments in ["--help", "token --help", "--no-such-flag"] {
        coloured_unless_forbidden(|no_color| Terminal::run(arguments, no_color).end());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_nodes_has_colours_unless_they_are_forbidden() {
    let server = TestServer::open();
    let arguments = format!("top --url {}", server.url(""));
    tokio::task::block_in_place(|| {
        coloured_unless_forbidden(|no_color| {
            let mut top = Terminal::run(&arguments, no_color);
            top.until("nodes 1");
            top.interrupt()
        });
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_have_no_colours_even_on_a_terminal() {
    let server = TestServer::open();
    let arguments = format!("publish a 1 --url {}", server.url(""));
    let shown = tokio::task::block_in_place(|| Terminal::run(&arguments, None).end());
    assert!(shown.contains("\"topic\"") && !has_colours(&shown), "{shown:?}");
}
