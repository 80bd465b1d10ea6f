//! The parameters of a request.
//!
//! They are strict: one that nobody knows, or that is given twice, is refused by name instead of being
//! ignored.

use crate::model::{Code, Cursor, Problem, Topic, whole_number};

/// The most parameters in one query.
const MAX_PARAMETERS: usize = 1_024;

/// A parameter with another value each time, which keeps caches from answering.
const CACHE_BUSTER: &str = "_";

/// What stands for `Last-Event-ID` in the URL, where a polyfill of `EventSource` can't set the header.
pub const LAST_EVENT_ID_PARAMETER: &str = "lastEventId";

/// The parameters of a request, decoded.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string that may have the parameters `known`, and any number of cache busters.
    pub fn parse(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let query = Self::parse_any(query, known)?;
        match query.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                Err(bad(match known {
                    [] => format!("unknown parameter {name:?}: there are none here"),
                    _ => format!("unknown parameter {name:?}; known are {}", known.join(", ")),
                }))
            }
            None => Ok(query),
        }
    }

    /// Reads a query string that may have any parameters, for languages whose clients send some that mean nothing here.
    /// Those that are `known` are read by all their names.
    pub fn parse_any(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        let mut pairs: Vec<_> = pairs.take(MAX_PARAMETERS + 1).collect();
        if pairs.len() > MAX_PARAMETERS {
            let detail = format!("more than {MAX_PARAMETERS} parameters");
            return Err(Problem::new(Code::TooMany, detail));
        }
        pairs.retain(|(name, _)| name != CACHE_BUSTER);
        if known.contains(&LAST_EVENT_ID_PARAMETER) {
            let names = pairs.iter_mut().map(|(name, _)| name);
            names.filter(|name| is_last_event_id(name)).for_each(|name| {
                LAST_EVENT_ID_PARAMETER.clone_into(name);
            });
        }
        Ok(Self(pairs))
    }

    /// Every value of `name`, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name`, which may be given once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(bad(format!("{name} is given more than once"))),
            (value, None) => Ok(value),
        }
    }

    /// The whole number `name`, from 1 to `max`.
    pub fn limit(&self, name: &str, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.one(name)? else { return Ok(default) };
        match whole_number(text).and_then(|number| usize::try_from(number).ok()) {
            Some(number) if (1..=max).contains(&number) => Ok(number),
            _ => Err(bad(format!("{name} must be a whole number from 1 to {max}"))),
        }
    }

    /// The truth value `name`: `true` or `false`.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.one(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(bad(format!("{name} must be true or false"))),
        }
    }

    /// The cursor `name`; one that is empty is none, as in `Last-Event-ID`.
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>, Problem> {
        Ok(self.one_filled(name)?.map(Cursor::parse).transpose()?)
    }

    /// The value of `name`, where it is given and not empty.
    pub fn one_filled(&self, name: &str) -> Result<Option<&str>, Problem> {
        Ok(self.one(name)?.filter(|value| !value.is_empty()))
    }

    /// The topic `name`, which a page of topics gave as the place to go on from.
    pub fn topic(&self, name: &str) -> Result<Option<Topic>, Problem> {
        Ok(self.one(name)?.map(Topic::from_stored).transpose()?)
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

/// Whether polyfills mean `Last-Event-ID` by this name: `lastEventId`, `Last-Event-ID`, `last_event_id`.
fn is_last_event_id(name: &str) -> bool {
    let letters = name.bytes().filter(|byte| !b"-_".contains(byte));
    letters.map(|byte| byte.to_ascii_lowercase()).eq(*b"lasteventid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_are_no_parameters_that_is_said() {
        let refused = Query::parse("ttl_ms=5", &[]).unwrap_err().detail;
        assert_eq!(refused, "unknown parameter \"ttl_ms\": there are none here");
    }

    #[test]
    fn queries_are_strict() {
        let parse = |query| Query::parse(query, &["topic", "limit", "snapshot"]);
        let query = parse("topic=a%2Eb&topic=%3E&limit=7&snapshot=true").unwrap();
        assert_eq!(query.all("topic").collect::<Vec<_>>(), ["a.b", ">"]);
        assert_eq!(query.limit("limit", 1, 9), Ok(7));
        assert_eq!(query.flag("snapshot"), Ok(true));
        assert_eq!(query.one("topic").unwrap_err().detail, "topic is given more than once");
        let unknown = parse("topics=a").unwrap_err();
        assert!(unknown.detail.starts_with("unknown parameter \"topics\""), "{unknown}");
        for same in ["limit=7.0", "limit=0.7e1", "limit=70E-1"] {
            assert_eq!(parse(same).unwrap().limit("limit", 1, 9), Ok(7), "{same}");
        }
        for bad in
            ["limit=0", "limit=10", "limit=x", "limit=", "limit=1.5", "limit=-1", "limit=%2B7"]
        {
            assert!(parse(bad).unwrap().limit("limit", 1, 9).is_err(), "{bad}");
        }
        assert!(parse("snapshot=yes").unwrap().flag("snapshot").is_err());
        for many in ["topic=a&", "_=1&"].map(|one| one.repeat(2_000)) {
            assert_eq!(Query::parse(&many, &["topic"]).unwrap_err().code, Code::TooMany);
        }
    }

    #[test]
    fn what_polyfills_and_caches_put_into_a_query_is_understood() {
        let known = ["since", LAST_EVENT_ID_PARAMETER];
        for name in ["lastEventId", "Last-Event-ID", "last_event_id", "lastEventID"] {
            let query = format!("_=1&{name}=x&_=2&since=");
            let query = Query::parse(&query, &known).unwrap();
            assert_eq!(query.one(LAST_EVENT_ID_PARAMETER), Ok(Some("x")), "{name}");
            assert_eq!(query.cursor("since"), Ok(None));
            assert!(Query::parse(&format!("{name}=x"), &["since"]).is_err(), "{name}");
        }
        assert!(
            Query::parse("lastEventId=x&Last-Event-ID=y", &known)
                .unwrap()
                .one(LAST_EVENT_ID_PARAMETER)
                .is_err()
        );
    }
}
