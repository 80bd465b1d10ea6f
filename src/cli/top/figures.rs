//! Figures in few characters: how many, how much, how long.

pub(super) fn share(value: u64, limit: u64) -> String {
    match limit {
        0 => "-".to_owned(),
        limit => format!("{:.0}%", value as f64 / limit as f64 * 100.0),
    }
}

pub(super) fn bytes(count: u64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

pub(super) fn count_of(count: u64) -> String {
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

pub(super) fn span(millis: u64) -> String {
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

    #[test]
    fn numbers_are_short() {
        assert_eq!([bytes(0), bytes(1_536), bytes(200 << 20)], ["0B", "1.5KiB", "200MiB"]);
        assert_eq!([count_of(999), count_of(96_000)], ["999", "96.0k"]);
        assert_eq!([span(7), span(61_000), span(7_300_000)], ["7ms", "61s", "2h"]);
        assert_eq!([share(1, 4), share(1, 0)], ["25%", "-"]);
    }
}
