//! What was typed of traces.

use actix_web::http::Uri;
use actix_web::http::header::{HeaderName, HeaderValue};

use super::super::schema;
use super::super::traces::Traces;
use super::super::value::{Hidden, Span};
use super::complaints::Complaints;

/// The least time that the collector is given to answer.
const LEAST_TIMEOUT: Span = Span(std::time::Duration::from_millis(100));

/// The most spans that may wait: each takes up to half a KiB.
const MOST_QUEUED: usize = 1_000_000;

/// Whether this binary can export traces.
const CAN_EXPORT: bool = cfg!(feature = "otlp");

/// Where traces are exported to, if they are.
pub(super) fn traces(typed: &schema::Traces, complaints: &mut Complaints) -> Option<Traces> {
    let endpoint = typed.endpoint.clone()?;
    if !CAN_EXPORT {
        let message =
            "this binary exports no traces; build one with `--features otlp`, or leave this out";
        complaints.add("traces.endpoint", message);
    }
    let is_web = endpoint.0.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    });
    if !is_web {
        complaints.add("traces.endpoint", "must be an http:// or https:// URL");
    }
    let most = 60;
    let timeout = complaints.between("traces.timeout", typed.timeout, 0, most);
    if timeout < LEAST_TIMEOUT.0 {
        complaints.add("traces.timeout", format!("must be at least {LEAST_TIMEOUT}"));
    }
    complaints.at_least_one("traces.queue", typed.queue);
    if typed.queue > MOST_QUEUED {
        complaints.add("traces.queue", format!("must be at most {MOST_QUEUED}"));
    }
    if typed.service.is_empty() {
        complaints.add("traces.service", "is empty; write a name such as fanfare");
    }
    Some(Traces {
        endpoint,
        headers: headers(&typed.headers, complaints),
        sample: typed.sample.0,
        per_second: typed.per_second,
        queue: typed.queue.clamp(1, MOST_QUEUED),
        timeout,
        service: typed.service.clone(),
        topics: typed.topics,
    })
}

fn headers(typed: &[Hidden], complaints: &mut Complaints) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (index, Hidden(text)) in typed.iter().enumerate() {
        match header(text) {
            Some(header) => headers.push(header),
            None => {
                let message =
                    "must be a name, a colon and a value, as in \"authorization: Bearer abc\"";
                complaints.add(&format!("traces.headers[{index}]"), message);
            }
        }
    }
    headers
}

/// A header whose value does not show itself.
fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Config, Sources, load};

    fn loaded(sets: &[&str]) -> Result<Config, String> {
        let sets = sets.iter().map(|&set| set.to_owned()).collect();
        load(&Sources { sets, ..Sources::default() }).map_err(|error| error.to_string())
    }

    const ENDPOINT: &str = "traces.endpoint=http://127.0.0.1:4318/v1/traces";

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn a_binary_that_exports_no_traces_says_which_one_does() {
        let refused = loaded(&[ENDPOINT]).unwrap_err();
        assert!(
            refused.contains("traces.endpoint: ") && refused.contains("--features otlp"),
            "{refused}"
        );
        assert!(loaded(&["traces.sample=0.5"]).unwrap().traces.is_none());
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn there_are_traces_where_there_is_an_endpoint_and_their_secrets_are_not_shown() {
        assert!(loaded(&["traces.sample=1"]).unwrap().traces.is_none());
        let headers = r#"traces.headers=["authorization: Bearer hunter2", "x-team:a"]"#;
        let traces = loaded(&[ENDPOINT, headers, "traces.sample=0.25"]).unwrap().traces.unwrap();
        assert_eq!(traces.headers.len(), 2);
        assert_eq!(traces.headers[0].1.to_str().unwrap(), "Bearer hunter2");
        assert_eq!(traces.sample.to_string(), "0.25");
        let shown = format!("{traces:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("4318"), "{shown}");
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn what_can_be_no_export_is_refused() {
        for (set, message) in [
            ("traces.endpoint=127.0.0.1:4318", "http"),
            ("traces.endpoint=grpc://a.example/", "http"),
            ("traces.headers=[\"hunter2\"]", "a colon"),
            ("traces.headers=[\"a b: hunter2\"]", "a colon"),
            ("traces.sample=1.5", "from 0 to 1"),
            ("traces.sample=NaN", "from 0 to 1"),
            ("traces.queue=0", "at least 1"),
            ("traces.queue=10000000", "at most"),
            ("traces.timeout=10ms", "at least"),
            ("traces.timeout=2m", "from"),
            ("traces.service=", "empty"),
        ] {
            let refused = loaded(&[ENDPOINT, set]).unwrap_err();
            assert!(refused.contains(message) && !refused.contains("hunter2"), "{set}: {refused}");
        }
    }
}
