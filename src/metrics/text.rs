//! The classic text format of Prometheus (version 0.0.4), which every scraper reads, made of OpenMetrics.

/// The media type of the classic text format.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// OpenMetrics in the classic format: there a counter is called as its samples are, comments that it does
/// not know are left out, and nothing marks the end.
pub(super) fn classic(open: &str) -> String {
    let counter = |line: &str| {
        let name = line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?;
        Some(name.to_owned())
    };
    let counters: std::collections::HashSet<_> = open.lines().filter_map(counter).collect();
    let mut text = String::with_capacity(open.len() + 16 * counters.len());
    for line in open.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let comment = ["# HELP ", "# TYPE "].into_iter().find(|start| line.starts_with(start));
        let of_counter = comment.and_then(|start| {
            let (name, rest) = line.get(start.len()..)?.split_once(' ')?;
            counters.contains(name).then_some((start, name, rest))
        });
        match of_counter {
            Some((start, name, rest)) => text.extend([start, name, "_total ", rest, "\n"]),
            None => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_called_as_their_samples_and_nothing_marks_the_end() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total{x=\"# TYPE a counter\"} 1\n\
                    # HELP a_b Now.\n# TYPE a_b gauge\n# UNIT a_b bytes\na_b 2\n# EOF\n";
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\n\
                        a_total{x=\"# TYPE a counter\"} 1\n\
                        # HELP a_b Now.\n# TYPE a_b gauge\na_b 2\n";
        assert_eq!(classic(open), expected);
    }
}
