//! The picture: what is wrong first, then the nodes, the slowest sessions and the last errors.
//!
//! Pure: the same nodes give the same text, cut to the columns and rows there are.

use std::time::Duration;

use tokio::time::Instant;

use super::figures::{bytes, count_of, share, span};
use super::nodes::{Nodes, Said, Slow, State};
use super::wrong::{NEAR, Next, wrong};

const RED: &str = "31";
const YELLOW: &str = "33";
const BOLD: &str = "1";
const DIM: &str = "2";

/// Before what belongs to the line above.
const INDENT: &str = "    ";

/// What there is to show it on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) has_colours: bool,
}

impl Screen {
    /// The picture of nodes, under what is wrong with the connection.
    pub(super) fn of(self, nodes: &Nodes, said: Option<&str>, now: Instant) -> String {
        let mut lines = vec![self.line(BOLD, &summary(nodes, now))];
        lines.extend(said.into_iter().flat_map(|said| self.whole(RED, "", said)));
        for wrong in wrong(nodes, now) {
            lines.extend(self.whole(if wrong.is_bad { RED } else { YELLOW }, "", &wrong.what));
            let next = wrong.next.map(|Next { step, alert }| format!("{step} ({alert})"));
            lines.extend(next.into_iter().flat_map(|next| self.whole("", INDENT, &next)));
        }
        lines.push(String::new());
        lines.push(self.line(DIM, HEAD));
        for (heard, state) in nodes.all(now) {
            let style = match state {
                State::Stopped => DIM,
                State::Away(_) => RED,
                State::There if !heard.said.ready => RED,
                State::There if is_near(&heard.said) => YELLOW,
                State::There => "",
            };
            lines.push(self.line(style, &row(&heard.said, state)));
        }
        let mut slow: Vec<_> = nodes.there(now).flat_map(|node| &node.slowest).collect();
        slow.sort_by_key(|slow| std::cmp::Reverse(slow.queued_bytes));
        if !slow.is_empty() {
            lines.extend([String::new(), self.line(DIM, SLOW_HEAD)]);
            lines.extend(slow.into_iter().take(8).map(|slow| self.line("", &slow_row(slow))));
        }
        let mut errors: Vec<_> = nodes.there(now).flat_map(|node| &node.errors).collect();
        errors.sort_by(|a, b| b.time.cmp(&a.time));
        if !errors.is_empty() {
            lines.extend([String::new(), self.line(DIM, "LAST ERRORS")]);
            for error in errors.into_iter().take(8) {
                let style = if error.level == "error" { RED } else { "" };
                let text = format!("{}  {:<5}  {}", error.time, error.level, error.message);
                lines.push(self.line(style, &text));
            }
        }
        lines.truncate(self.rows.saturating_sub(1).max(1));
        lines.join("\n") + "\n"
    }

    /// All of a text, in as many lines as it takes: what is wrong, and what to do, often stands at the end. What goes on is indented.
    fn whole(self, style: &str, indent: &str, text: &str) -> Vec<String> {
        let mut lines = vec![indent.to_owned()];
        for word in text.split(' ') {
            let room = self.columns.saturating_sub(word.chars().count() + 1);
            match lines.last_mut() {
                Some(line) if line.trim().is_empty() => line.push_str(word),
                Some(line) if line.chars().count() <= room => line.extend([" ", word]),
                _ => lines.push(format!("{INDENT}{word}")),
            }
        }
        lines.iter().map(|line| self.line(style, line)).collect()
    }

    /// A line, cut to the columns and without what a terminal would take for a command, in a style.
    fn line(self, style: &str, text: &str) -> String {
        let tame = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = text.chars().take(self.columns).map(tame).collect();
        match self.has_colours && !style.is_empty() {
            true => format!("\x1b[{style}m{text}\x1b[0m"),
            false => text,
        }
    }
}

const HEAD: &str = "NODE       RELEASE   UP      READY  SESSIONS       IN/s     OUT/s     P50ms     P99ms     QUEUE  DISK  MEMORY  CPU";

fn row(node: &Said, state: State) -> String {
    let ready = match state {
        State::Stopped => "ended",
        State::Away(_) => "AWAY",
        State::There if node.ready => "yes",
        State::There => "NO",
    };
    let seconds = Duration::from_millis(node.period_ms).as_secs_f64().max(0.001);
    let rate = |count: u64| count_of((count as f64 / seconds).round() as u64);
    let latency = node.latency_ms.delivery.as_ref();
    let time = |of: fn(&super::nodes::Latency) -> f64| {
        latency.map_or("-".to_owned(), |latency| format!("{:.1}", of(latency)))
    };
    let disk = node.disk.as_ref().map_or("-".to_owned(), |disk| {
        share(disk.used_bytes, disk.limit_bytes.min(disk.used_bytes + disk.free_bytes))
    });
    format!(
        "{:<10} {:<9} {:<7} {:<6} {:>8} {:>10} {:>9} {:>9} {:>9} {:>9} {:>5} {:>7} {:>4}",
        node.node,
        node.version,
        span(node.uptime_ms),
        ready,
        count_of(node.sessions.open()),
        rate(node.second.published),
        rate(node.second.delivered),
        time(|latency| latency.p50),
        time(|latency| latency.p99),
        bytes(node.queue.bytes),
        disk,
        share(node.memory.rss_bytes, node.memory.limit_bytes),
        format!("{:.0}%", node.process.cpu_ms as f64 / seconds / 10.0),
    )
}

const SLOW_HEAD: &str =
    "SLOWEST SESSION                   USER                     QUEUED       LAG   SKIPPED";

fn slow_row(slow: &Slow) -> String {
    format!(
        "{:<33} {:<20} {:>10} {:>9} {:>9}",
        slow.session,
        slow.user.chars().take(20).collect::<String>(),
        bytes(slow.queued_bytes),
        span(slow.lag_ms),
        count_of(slow.skipped),
    )
}

/// All nodes together.
fn summary(nodes: &Nodes, now: Instant) -> String {
    let sum = |of: fn(&Said) -> u64| count_of(nodes.there(now).map(of).sum());
    let p99 = nodes.there(now).filter_map(|node| Some(node.latency_ms.delivery.as_ref()?.p99));
    let p99 = p99.fold(None, |most: Option<f64>, one| Some(most.map_or(one, |most| most.max(one))));
    format!(
        "nodes {}  sessions {}  in {}/s  out {}/s  p99 {}  conflated {}/s  gaps {}/s  refused {}/s  new {}/s",
        nodes.there(now).count(),
        sum(|node| node.sessions.open()),
        sum(|node| node.second.published),
        sum(|node| node.second.delivered),
        p99.map_or("-".to_owned(), |p99| format!("{p99:.1} ms")),
        sum(|node| node.second.conflated),
        sum(|node| node.second.gaps),
        sum(|node| node.second.refused),
        sum(|node| node.second.connected),
    )
}

/// Whether something is near its limit.
fn is_near(node: &Said) -> bool {
    let sessions = node.sessions.open();
    let disk = node.disk.as_ref().is_some_and(|disk| {
        let limit = disk.limit_bytes.min(disk.used_bytes + disk.free_bytes);
        is_over(disk.used_bytes, limit, NEAR)
    });
    disk || is_over(sessions, node.sessions.limit, NEAR)
        || is_over(node.memory.rss_bytes, node.memory.limit_bytes, NEAR)
}

fn is_over(value: u64, limit: u64, part: f64) -> bool {
    limit > 0 && value as f64 > limit as f64 * part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(said: &[&str], screen: Screen) -> String {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        said.iter().for_each(|said| nodes.hear(said, now));
        screen.of(&nodes, None, now)
    }

    const PLAIN: Screen = Screen { columns: 200, rows: usize::MAX, has_colours: false };

    #[tokio::test]
    async fn what_is_wrong_comes_first() {
        let docs = include_str!("../../../docs/metrics.md");
        let example = docs.split("```json\n").nth(2).and_then(|it| it.split("```").next()).unwrap();
        let text = picture(&[example, r#"{"node":"other","ready":true}"#], PLAIN);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("nodes 2  sessions 852  in 120/s  out 96.0k/s  p99 3.3 ms"),
            "{text}"
        );
        assert_eq!(lines[1], "k3v9x2mq history: there is no space left for the history (for 3s)");
        assert!(
            lines[2].starts_with("    Make space") && lines[2].ends_with("(FanfareHistoryFails)")
        );
        assert_eq!(lines[3], "k3v9x2mq redis: the connection is lost (for 3s)");
        let hook = "k3v9x2mq webhook crm: the answer is 502 Bad Gateway (64s behind)";
        assert!(lines.contains(&hook), "{text}");
        let row = lines.iter().find(|line| line.starts_with("k3v9x2mq   0.1.0")).unwrap();
        assert!(row.contains(" NO ") && row.contains("900KiB"), "{row}");
        assert!(text.contains("ada") && text.contains("LAST ERRORS"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[tokio::test]
    async fn what_is_wrong_and_what_to_do_is_all_there_on_a_screen_of_eighty_columns() {
        let issuer = r#"{"node":"81076730","issuer":{"state":"away","since_ms":12000,
            "detail":"Failed to connect to host: Connection refused (os error 111)"}}"#;
        let text = picture(&[issuer], Screen { columns: 80, ..PLAIN });
        let lines: Vec<_> = text.lines().skip(1).take(4).collect();
        let wanted = [
            "81076730 issuer: Failed to connect to host: Connection refused (os error 111),",
            "    tokens can't be checked (for 12s)",
            "    Fetch auth.jwks_url from this node; sessions stay until their token is over.",
            "    (FanfareIssuerDown)",
        ];
        assert_eq!(lines, wanted);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[tokio::test]
    async fn it_fits_the_screen_and_commands_a_terminal_by_its_own_words_alone() {
        let said = r#"{"node":"a\u001b[2J","failing":[{"check":"history","detail":"x"}]}"#;
        let screen = Screen { columns: 30, rows: 4, has_colours: true };
        let text = picture(&[said], screen);
        assert!(text.lines().count() <= 3, "{text}");
        assert!(!text.contains("\x1b[2J"), "{text:?}");
        let plain = Screen { has_colours: false, ..screen };
        assert!(picture(&[said], plain).lines().all(|line| line.chars().count() <= 30));
    }
}
