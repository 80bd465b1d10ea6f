//! The picture: what is wrong first, then the nodes, the slowest sessions and the last errors.
//!
//! Pure: the same nodes give the same text, cut to the columns and rows there are.

use std::time::Duration;

use tokio::time::Instant;

use super::nodes::{Nodes, Said, Slow};

const RED: &str = "31";
const YELLOW: &str = "33";
const BOLD: &str = "1";
const DIM: &str = "2";

/// From how much of a limit on it is worth a colour.
const NEAR: f64 = 0.8;

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
        lines.extend(said.map(|said| self.line(RED, said)));
        lines.extend(wrong(nodes, now).iter().map(|wrong| self.line(RED, wrong)));
        lines.push(String::new());
        lines.push(self.line(DIM, HEAD));
        for (node, silent_for) in nodes.all(now) {
            let style = if !node.ready || silent_for.is_some() {
                RED
            } else if is_near(node) {
                YELLOW
            } else {
                ""
            };
            lines.push(self.line(style, &row(node)));
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

fn row(node: &Said) -> String {
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
        if node.ready { "yes" } else { "NO" },
        count_of(node.sessions.websocket + node.sessions.sse),
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
        sum(|node| node.sessions.websocket + node.sessions.sse),
        sum(|node| node.second.published),
        sum(|node| node.second.delivered),
        p99.map_or("-".to_owned(), |p99| format!("{p99:.1} ms")),
        sum(|node| node.second.conflated),
        sum(|node| node.second.gaps),
        sum(|node| node.second.refused),
        sum(|node| node.second.connected),
    )
}

/// What is wrong, and where.
fn wrong(nodes: &Nodes, now: Instant) -> Vec<String> {
    let mut wrong = Vec::new();
    for (node, silent_for) in nodes.all(now) {
        let name = &node.node;
        if let Some(silent_for) = silent_for {
            wrong.push(format!("{name} has said nothing for {} s", silent_for.as_secs()));
            continue;
        }
        let failing = node.failing.iter().map(|it| format!("{name} {}: {}", it.check, it.detail));
        wrong.extend(failing);
        let failed = node.webhooks.iter().filter(|hook| hook.outcome == "failed");
        wrong.extend(failed.map(|hook| {
            let behind = span(hook.lag_ms);
            format!("{name} webhook {}: {} ({behind} behind)", hook.name, hook.detail)
        }));
        let queue = &node.queue;
        if is_over(queue.largest_bytes, queue.limit_bytes, 0.5) {
            wrong.push(format!(
                "{name} a client does not keep up: {} wait",
                bytes(queue.largest_bytes)
            ));
        }
    }
    wrong
}

/// Whether something is near its limit.
fn is_near(node: &Said) -> bool {
    let sessions = node.sessions.websocket + node.sessions.sse;
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

fn share(value: u64, limit: u64) -> String {
    match limit {
        0 => "-".to_owned(),
        limit => format!("{:.0}%", value as f64 / limit as f64 * 100.0),
    }
}

fn bytes(count: u64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

fn count_of(count: u64) -> String {
    scaled(count, 1_000.0, &["", "k", "M", "G"])
}

fn scaled(count: u64, step: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (count as f64, 0);
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$}{}", units.get(unit).unwrap_or(&""))
}

fn span(millis: u64) -> String {
    match millis / 1_000 {
        0 => format!("{millis}ms"),
        seconds @ 1..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
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
        assert_eq!(lines[1], "k3v9x2mq history: there is no space left for the history");
        assert_eq!(lines[3], "k3v9x2mq webhook crm: the answer is 502 Bad Gateway (64s behind)");
        let row = lines.iter().find(|line| line.starts_with("k3v9x2mq   0.1.0")).unwrap();
        assert!(row.contains(" NO ") && row.contains("900KiB"), "{row}");
        assert!(text.contains("ada") && text.contains("LAST ERRORS"), "{text}");
        assert!(!text.contains('\x1b'));
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

    #[test]
    fn numbers_are_short() {
        assert_eq!([bytes(0), bytes(1_536), bytes(200 << 20)], ["0B", "1.5KiB", "200MiB"]);
        assert_eq!([count_of(999), count_of(96_000)], ["999", "96.0k"]);
        assert_eq!([span(7), span(61_000), span(7_300_000)], ["7ms", "61s", "2h"]);
        assert_eq!([share(1, 4), share(1, 0)], ["25%", "-"]);
    }
}
