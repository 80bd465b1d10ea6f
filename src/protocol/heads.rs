//! What the head of a request that opens a connection says, in the languages of the broker's own: credentials, and what
//! the connection is to be subscribed to at once.

use super::query::LAST_EVENT_ID_PARAMETER;
use super::table::{Brings, Knock};
use super::{Mode, Opening, ParseLimits, Query, Subscribe, Token};
use crate::model::{Code, Cursor, MAX_WHOLE, Pattern, Problem, Start};

/// The longest time between heartbeats that may be asked for, in seconds.
pub const MAX_HEARTBEAT_SECONDS: u32 = 300;

/// The credentials of a query: `access_token` or `ticket`.
pub(super) fn brings(query: &Query) -> Result<Brings, Problem> {
    let credential = |text: &str| Token(text.to_owned());
    let (token, ticket) = (query.one("access_token")?, query.one("ticket")?);
    Ok(Brings { token: token.map(credential), ticket: ticket.map(credential) })
}

/// What a query asks to be subscribed to after this place, if it names topics.
pub(super) fn subscription(
    query: &Query,
    since: Option<Start>,
    limits: &ParseLimits,
) -> Result<Option<Subscribe>, Problem> {
    let mut patterns = Vec::new();
    for topic in query.all("topic") {
        let pattern = Pattern::parse(topic)?;
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    let max = limits.patterns;
    if patterns.len() > max {
        let detail = format!("more than {max} topics (limits.subscriptions)");
        return Err(Problem::new(Code::TooMany, detail));
    }
    let (last, tail) = (count(query, "last")?, count(query, "tail")?);
    let most = Subscribe::most_events(&patterns, limits.last_events);
    let opening = Opening::of(query.flag("snapshot")?, last, tail, most)?;
    let mode = query.one("mode")?.map(Mode::parse).transpose()?;
    let max_rate = query.one("max_rate")?.map(|rate| rate.parse().unwrap_or(f64::NAN));
    let mode = Subscribe::pace(mode, max_rate)?;
    if patterns.is_empty() {
        return match since.is_some() || opening != Opening::Nothing {
            true => {
                let detail = "since, snapshot, last and tail need a topic";
                Err(Problem::new(Code::BadRequest, detail))
            }
            false => Ok(None),
        };
    }
    Ok(Some(Subscribe { since, opening, mode, max_rate, ..Subscribe::to(patterns) }))
}

/// The time between heartbeats that a query asks for, 1 to 300 whole seconds.
pub(super) fn heartbeat(query: &Query) -> Result<Option<u32>, Problem> {
    // None is below what may be asked for.
    let seconds = query.limit("heartbeat", 0, MAX_HEARTBEAT_SECONDS as usize)?;
    Ok(u32::try_from(seconds).ok().filter(|seconds| *seconds > 0))
}

/// Where a query says that one goes on; an empty `since` says nothing, as in `Last-Event-ID`.
pub(super) fn since(query: &Query) -> Result<Option<Start>, Problem> {
    query.one_filled("since")?.map(Start::parse).transpose()
}

/// Where an event stream goes on. A browser that reconnects by itself repeats the URL and knows better in
/// the header; a polyfill that can't set it writes it into the URL.
pub(super) fn last_event_id(knock: &Knock<'_>) -> Result<Option<Start>, Problem> {
    if let Some(id) = knock.last_event_id {
        return Ok(Some(Start::After(id)));
    }
    match knock.query.one_filled(LAST_EVENT_ID_PARAMETER)? {
        Some(id) => Ok(Some(Start::After(Cursor::parse(id)?))),
        None => since(knock.query),
    }
}

/// The whole number `name` of a query, from 1 on.
fn count(query: &Query, name: &str) -> Result<Option<usize>, Problem> {
    let count = query.limit(name, 0, MAX_WHOLE as usize)?;
    Ok((count > 0).then_some(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_a_whole_number_of_seconds() {
        let asked = |query| heartbeat(&Query::parse(query, &["heartbeat"]).unwrap());
        assert_eq!((asked(""), asked("heartbeat=300")), (Ok(None), Ok(Some(300))));
        for bad in ["heartbeat=", "heartbeat=0", "heartbeat=301", "heartbeat=1.5", "heartbeat=10s"]
        {
            let problem = asked(bad).unwrap_err();
            assert_eq!(problem.detail, "heartbeat must be a whole number from 1 to 300", "{bad}");
        }
    }
}
