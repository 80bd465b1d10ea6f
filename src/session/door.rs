//! Who comes in: one plain function from the head of a request to a verdict.
//!
//! Everything that is decided before a connection becomes a session is decided here, for WebSocket
//! and SSE alike: origin, credential, parameters and rights. It needs no router, middleware or
//! body, so it also serves where the socket is taken over before any of these run.

use std::net::IpAddr;
use std::sync::Arc;

use actix_http::RequestHead;
use actix_web::http::header;
use rand::RngExt;

use super::deflate::{ClientContext, Contexts, Deflate};
use super::encoding::{Encoding, Framing};
use super::parse_limits;
use super::permits::Permits;
use super::receiver::application;
use super::refusal::Refusal;
use super::rhythm::Rhythm;
use super::takeover::require_handshake;
use crate::auth::{Access, Auth, Caller, Entrance, Publisher};
use crate::broker::BrokerHandle;
use crate::config::Limits;
use crate::http::{self, Query, grammar};
use crate::metrics::Metrics;
use crate::model::{Code, Cursor, MAX_WHOLE, Pattern, Problem, Start};
use crate::protocol::{
    Form, Mode, Opening, Protocol, StreamRequest, Subscribe, protocols_at, stream_form,
};

/// What the door knows.
#[derive(Clone)]
pub struct Door {
    /// Who knows credentials.
    pub auth: Arc<Auth>,
    /// By which way requests come in.
    pub entrance: Entrance,
    /// Who knows tickets.
    pub broker: BrokerHandle,
    /// Where sessions are counted.
    pub permits: Permits,
    /// What a session may do.
    pub limits: Arc<Limits>,
    /// From which length on messages are compressed for who offers it, in bytes; `None` for never.
    pub compression: Option<usize>,
    /// Room for what compressed messages of clients refer back to.
    pub contexts: Contexts,
}

/// A connection that may become a session: what it brings, and what it wants.
pub struct Admission {
    /// The id of the session.
    pub session: Arc<str>,
    /// Who it is.
    pub identified: Identified,
    /// What it wants.
    pub wanted: Wanted,
}

/// What a connection brings: who it is by the credential that it showed, if it did.
pub struct Identified {
    /// What it may do.
    pub access: Access,
    /// What an application's idempotency keys are known by.
    pub credential: Option<Box<Publisher>>,
}

/// What a connection wants from its beginning.
pub struct Wanted {
    /// What it is to be subscribed to.
    pub subscribe: Option<Subscribe>,
    /// Seconds between heartbeats that the client wants to see, if it does.
    pub heartbeat: Option<u32>,
}

/// How a WebSocket client and the broker will speak to each other.
pub struct Spoken {
    /// In which protocol.
    pub protocol: &'static dyn Protocol,
    /// The name it was asked for by, if any.
    pub name: Option<&'static str>,
    /// How messages are compressed, if that was agreed upon.
    pub deflate: Option<Deflate>,
    /// What the client's compressed messages refer back to, if they may.
    pub context: Option<ClientContext>,
}

impl Door {
    /// Admits a WebSocket connection, or says why not.
    pub async fn admit_websocket(
        &self,
        head: &RequestHead,
    ) -> Result<(Admission, Spoken), Refusal> {
        require_handshake(head)?;
        let known = [
            "topic",
            "since",
            "snapshot",
            "last",
            "tail",
            "mode",
            "max_rate",
            "heartbeat",
            "access_token",
            "ticket",
        ];
        let query = Query::parse(head.uri.query().unwrap_or_default(), &known)?;
        let since = since(&query)?;
        let subscribe = self.subscription(&query, since)?;
        let heartbeat = Rhythm::asked(&query)?;
        let (protocol, name) = protocol(head)?;
        let deflate = match self.compression {
            Some(min_bytes) => Deflate::negotiate(&head.headers, min_bytes, &self.contexts)?,
            None => None,
        };
        let (deflate, context) = deflate.unzip();
        let context = context.flatten();
        // Its own topics are known by its id.
        let session = new_id();
        let access = self.identify(head, &query).await?.of_session(session.clone());
        // Without a credential the subscription waits for `auth`; with one it must be granted.
        if let Some(subscribe) = &subscribe
            && !matches!(access.caller(), Caller::Anonymous)
        {
            require_coverage(&access, subscribe)?;
        }
        let shown = http::credential(&head.headers, query.one("access_token")?)?;
        let credential = application(access.caller(), shown);
        let identified = Identified { access, credential };
        let wanted = Wanted { subscribe, heartbeat };
        let spoken = Spoken { protocol, name, deflate, context };
        Ok((Admission { session, identified, wanted }, spoken))
    }

    /// Admits an event stream, or says why not.
    pub async fn admit_sse(
        &self,
        head: &RequestHead,
    ) -> Result<(Admission, &'static dyn Form), Refusal> {
        let (query, wanted) = self.wanted_stream(head)?;
        admit_stream(self.identify(head, &query).await?, wanted)
    }

    /// Looks at the head of a request for an event stream whose body is still to come: who may subscribe to nothing
    /// is refused. Whose ticket says who they are is nobody yet.
    pub async fn meet_sse_of(&self, head: &RequestHead) -> Result<(Query, Access), Refusal> {
        let known = ["access_token", "ticket"];
        let query = Query::parse(head.uri.query().unwrap_or_default(), &known)?;
        let access_token = query.one("access_token")?;
        if query.one("ticket")?.is_some() {
            self.auth.check_ticket_holder(&self.entrance, head, access_token)?;
            return Ok((query, self.auth.access(Caller::Anonymous)));
        }
        let access = self.auth.admit(&self.entrance, head, access_token).await?;
        access.require_some_subscription()?;
        Ok((query, access))
    }

    /// Admits an event stream that a whole body asks for, or says why not; `access` is what its sender may do now.
    pub async fn admit_sse_of(
        &self,
        head: &RequestHead,
        query: &Query,
        access: Access,
        body: &[u8],
    ) -> Result<(Admission, &'static dyn Form), Refusal> {
        let limits = parse_limits(&self.limits);
        let mut wanted = StreamRequest::parse(body, &limits)?;
        // Who resumes repeats the body, as an `EventSource` repeats its URL.
        if let Some(id) = header_cursor(head)? {
            wanted.subscribe.since = Some(Start::After(id));
        }
        let access = match query.one("ticket")? {
            Some(_) => self.identify(head, query).await?,
            None => access,
        };
        admit_stream(access, wanted)
    }

    /// Says whether an event stream would be refused, as far as that can be known without using up a
    /// ticket.
    pub async fn inspect_sse(&self, head: &RequestHead) -> Result<(), Problem> {
        let (query, StreamRequest { subscribe, .. }) = self.wanted_stream(head)?;
        let access_token = query.one("access_token")?;
        if query.one("ticket")?.is_some() {
            return self.auth.check_ticket_holder(&self.entrance, head, access_token);
        }
        let access = self.auth.admit(&self.entrance, head, access_token).await?;
        require_coverage(&access, &subscribe)
    }

    /// What an event stream is to be like.
    fn wanted_stream(&self, head: &RequestHead) -> Result<(Query, StreamRequest), Problem> {
        let known = [
            "topic",
            "since",
            "snapshot",
            "last",
            "tail",
            "mode",
            "max_rate",
            "format",
            "heartbeat",
            "access_token",
            "ticket",
            http::LAST_EVENT_ID_PARAMETER,
        ];
        let query = Query::parse(head.uri.query().unwrap_or_default(), &known)?;
        let form = stream_form(query.one("format")?)?;
        let Some(subscribe) = self.subscription(&query, last_event_id(head, &query)?)? else {
            return Err(Problem::new(Code::BadRequest, "at least one topic is needed"));
        };
        let heartbeat = Rhythm::asked(&query)?;
        Ok((query, StreamRequest { subscribe, form, heartbeat }))
    }

    /// The address that a request comes from, as far as it is known.
    pub fn address(&self, head: &RequestHead) -> Option<IpAddr> {
        self.entrance.client(head).ok().and_then(|client| client.address)
    }

    /// Who asks. A ticket is good once, so it is redeemed when nothing else is left to look at but what it
    /// is for.
    async fn identify(&self, head: &RequestHead, query: &Query) -> Result<Access, Refusal> {
        let access_token = query.one("access_token")?;
        let Some(ticket) = query.one("ticket")? else {
            return Ok(self.auth.admit(&self.entrance, head, access_token).await?);
        };
        self.auth.check_ticket_holder(&self.entrance, head, access_token)?;
        if self.broker.is_draining() {
            return Err(Refusal::restarting());
        }
        let room = self.permits.require_room(self.address(head), &self.limits);
        room.map_err(Refusal::too_many)?;
        let left = Box::pin(self.broker.redeem(ticket)).await?;
        let user = left.and_then(|left| serde_json::from_str(&left).ok()).ok_or_else(|| {
            Problem::bad_credential("the ticket was used, has expired or never was one")
        })?;
        Ok(self.auth.admit_as(&self.entrance, head, user)?)
    }

    fn subscription(
        &self,
        query: &Query,
        since: Option<Start>,
    ) -> Result<Option<Subscribe>, Problem> {
        let mut patterns = Vec::new();
        for topic in query.all("topic") {
            let pattern = Pattern::parse(topic)?;
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        let max = self.limits.subscriptions;
        if patterns.len() > max {
            let detail = format!("more than {max} topics (limits.subscriptions)");
            return Err(Problem::new(Code::TooMany, detail));
        }
        let (last, tail) = (count(query, "last")?, count(query, "tail")?);
        let most = Subscribe::most_events(&patterns, self.limits.last_events);
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
        Ok(Some(Subscribe { patterns, since, opening, mode, max_rate }))
    }
}

impl Spoken {
    /// The form in which messages leave.
    pub fn encoding(&self, metrics: &Metrics) -> Encoding {
        let framing = if self.protocol.is_binary() { Framing::Binary } else { Framing::Text };
        Encoding::new(self.protocol, framing).compressed(self.deflate, metrics)
    }
}

/// An id of 128 random bits, in hexadecimal.
fn new_id() -> Arc<str> {
    format!("{:032x}", rand::rng().random::<u128>()).into()
}

/// Lets in who may subscribe to what is wanted.
fn admit_stream(
    access: Access,
    StreamRequest { subscribe, form, heartbeat }: StreamRequest,
) -> Result<(Admission, &'static dyn Form), Refusal> {
    require_coverage(&access, &subscribe)?;
    // It publishes nothing.
    let identified = Identified { access, credential: None };
    let wanted = Wanted { subscribe: Some(subscribe), heartbeat };
    Ok((Admission { session: new_id(), identified, wanted }, form))
}

/// Refuses a subscription of which the caller may receive nothing in some part.
pub(super) fn require_coverage(access: &Access, subscribe: &Subscribe) -> Result<(), Problem> {
    subscribe.patterns.iter().try_for_each(|pattern| access.require_some_of(pattern))
}

/// Where an event stream goes on. A browser that reconnects by itself repeats the URL and knows better in
/// the header; a polyfill that can't set it writes it into the URL.
fn last_event_id(head: &RequestHead, query: &Query) -> Result<Option<Start>, Problem> {
    if let Some(id) = header_cursor(head)? {
        return Ok(Some(Start::After(id)));
    }
    match query.one_filled(http::LAST_EVENT_ID_PARAMETER)? {
        Some(id) => Ok(Some(Start::After(Cursor::parse(id)?))),
        None => since(query),
    }
}

/// Where a query says that one goes on; an empty `since` says nothing, as in `Last-Event-ID`.
fn since(query: &Query) -> Result<Option<Start>, Problem> {
    query.one_filled("since")?.map(Start::parse).transpose()
}

/// The whole number `name` of a query, from 1 on.
fn count(query: &Query, name: &str) -> Result<Option<usize>, Problem> {
    let count = query.limit(name, 0, MAX_WHOLE as usize)?;
    Ok((count > 0).then_some(count))
}

/// The cursor of `Last-Event-ID`; an empty one is none.
fn header_cursor(head: &RequestHead) -> Result<Option<Cursor>, Problem> {
    let id = http::header(&head.headers, &http::LAST_EVENT_ID)?.filter(|id| !id.is_empty());
    Ok(id.map(Cursor::parse).transpose()?)
}

/// The first protocol that the client offers and we speak at this path; the first of these where it offers none.
fn protocol(head: &RequestHead) -> Result<(&'static dyn Protocol, Option<&'static str>), Problem> {
    let mut spoken = protocols_at(head.uri.path());
    let mut offers = grammar::list(&head.headers, &header::SEC_WEBSOCKET_PROTOCOL).peekable();
    if offers.peek().is_none()
        && let Some(first) = spoken.next()
    {
        return Ok((first, None));
    }
    match offers.find_map(|offer| spoken.clone().find(|protocol| protocol.name() == offer)) {
        Some(protocol) => Ok((protocol, Some(protocol.name()))),
        None => {
            let names: Vec<_> = spoken.map(Protocol::name).collect();
            let detail =
                format!("none of the offered subprotocols is spoken: {}", names.join(", "));
            Err(Problem::new(Code::BadRequest, detail))
        }
    }
}
