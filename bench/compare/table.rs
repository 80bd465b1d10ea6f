//! The table: medians over the rounds with their spread, ratios, and what Fanfare aims for.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::trial::Trial;
use super::works::{Goal, Measure, Work};

/// All that was measured, by work, and of each by system.
pub type Trials = BTreeMap<(&'static str, &'static str), Vec<Trial>>;

/// Why a work was not done, by work and system.
pub type Absent = BTreeMap<(&'static str, &'static str), String>;

/// A figure over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figure {
    /// How many rounds.
    pub rounds: usize,
    /// The median.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

/// A row of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    work: &'static str,
    measure: &'static str,
    system: &'static str,
    #[serde(flatten)]
    figure: Figure,
}

impl Figure {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Self { rounds: values.len(), median, low, high })
    }
}

/// The rows of one work, with their measures.
pub fn rows<'a>(
    work: &'a Work,
    systems: &[&'static str],
    trials: &Trials,
) -> Vec<(&'a Measure, Vec<Row>)> {
    let row = |measure: &Measure, system: &'static str| {
        let trials = trials.get(&(work.name, system))?;
        let figure = Figure::of(trials.iter().filter_map(measure.of).collect())?;
        Some(Row { work: work.name, measure: measure.name, system, figure })
    };
    let of = |measure: &Measure| -> Vec<Row> {
        systems.iter().filter_map(|system| row(measure, system)).collect()
    };
    work.measures.iter().map(|measure| (measure, of(measure))).collect()
}

/// The table as Markdown.
pub fn markdown(
    works: &[Work],
    systems: &[&'static str],
    trials: &Trials,
    absent: &Absent,
) -> String {
    let measured = |system| trials.keys().any(|(_, measured)| *measured == system);
    let mut text = String::new();
    for work in works {
        let measures = rows(work, systems, trials);
        if measures.iter().all(|(_, rows)| rows.is_empty()) {
            continue;
        }
        section(&mut text, work, &measures, trials).expect("room in memory");
        let left_out: Vec<_> = absent
            .iter()
            .filter(|((of, system), _)| *of == work.name && !work.alone && measured(*system))
            .map(|((_, system), reason)| format!("{system} ({reason})"))
            .collect();
        if !left_out.is_empty() {
            writeln!(text, "Left out: {}.\n", left_out.join("; ")).expect("room in memory");
        }
    }
    text
}

fn section(
    text: &mut String,
    work: &Work,
    measures: &[(&Measure, Vec<Row>)],
    trials: &Trials,
) -> std::fmt::Result {
    writeln!(text, "## {}\n", work.name)?;
    for (measure, rows) in measures.iter().filter(|(_, rows)| !rows.is_empty()) {
        writeln!(text, "| {} | median | lowest to highest | × limit | × fanfare |", measure.name)?;
        writeln!(text, "|---|---:|---:|---:|---:|")?;
        for Row { system, figure: Figure { median, low, high, .. }, .. } in rows {
            let (limit, ours) = (ratio(rows, *median, "limit"), ratio(rows, *median, "fanfare"));
            let (median, low, high) = (short(*median), short(*low), short(*high));
            writeln!(text, "| {system} | {median} | {low} to {high} | {limit} | {ours} |")?;
        }
        for goal in measure.goals {
            if let Some(verdict) = verdict(*goal, measure, rows, trials) {
                writeln!(text, "\n{verdict}")?;
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

fn median(rows: &[Row], system: &str) -> Option<f64> {
    rows.iter().find(|row| row.system == system).map(|row| row.figure.median)
}

fn ratio(rows: &[Row], value: f64, system: &str) -> String {
    median(rows, system).map(|of| format!("{:.2}", value / of)).unwrap_or_default()
}

/// Whether a goal is met, in a sentence; nothing where what it refers to was not measured.
fn verdict(goal: Goal, measure: &Measure, rows: &[Row], trials: &Trials) -> Option<String> {
    let ours = median(rows, "fanfare")?;
    let peers = rows.iter().filter(|row| row.system != "fanfare" && row.system != "limit");
    let best = if measure.higher_is_better() {
        peers.max_by(|a, b| a.figure.median.total_cmp(&b.figure.median))
    } else {
        peers.min_by(|a, b| a.figure.median.total_cmp(&b.figure.median))
    };
    let (share, of, wanted, least) = match goal {
        Goal::AtMost(most) => (ours, String::new(), most, false),
        Goal::AtLeast(least) => (ours, String::new(), least, true),
        Goal::OfLimit(most) => (ours / median(rows, "limit")?, " × limit".into(), most, false),
        Goal::OfPeer(peer, most) => (ours / median(rows, peer)?, format!(" × {peer}"), most, false),
        Goal::OfWork(work, most) => {
            let other = trials.get(&(work, "fanfare"))?.iter().filter_map(measure.of).collect();
            (ours / Figure::of(other)?.median, format!(" × {work}"), most, false)
        }
        Goal::AtMostOfBest(most) => {
            (ours / best?.figure.median, format!(" × the best peer, {}", best?.system), most, false)
        }
        Goal::AtLeastOfBest(least) => {
            (ours / best?.figure.median, format!(" × the best peer, {}", best?.system), least, true)
        }
    };
    let met = if least { share >= wanted } else { share <= wanted };
    let (met, bound) =
        (if met { "met" } else { "**missed**" }, if least { "at least" } else { "at most" });
    Some(format!("Goal {met}: {}{of} ({bound} {})", short(share), short(wanted)))
}

/// Three digits, or all before the point.
fn short(number: f64) -> String {
    match number.abs() {
        0.0..1.0 => format!("{number:.3}"),
        1.0..10.0 => format!("{number:.2}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => indicatif::HumanCount(number.round() as u64).to_string(),
    }
}
