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

use super::application::application;
use super::deflate::{ClientContext, Contexts, Deflate};
use super::permits::Permits;
use super::refusal::Refusal;
use super::takeover::require_handshake;
use crate::auth::{Access, Auth, Caller, Entrance, Publisher};
use crate::broker::BrokerHandle;
use crate::config::Limits;
use crate::http::{self, Query, grammar};
use crate::model::{Code, Cursor, Problem, Start};
use crate::protocol::{Brings, ByBody, Dialect, Entry, Knock, Protocols, Subscribe, Token, Wants};

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
    /// What is spoken.
    pub protocols: Protocols,
}

/// A connection that may become a session: what it brings, and what it wants.
pub struct Admission {
    /// The id of the session.
    pub session: Arc<str>,
    /// Who it is.
    pub identified: Identified,
    /// What it wants.
    pub wants: Wants,
}

/// What a connection brings: who it is by the credential that it showed, if it did.
pub struct Identified {
    /// What it may do.
    pub access: Access,
    /// What an application's idempotency keys are known by.
    pub credential: Option<Box<Publisher>>,
}

/// How a WebSocket client and the broker will speak to each other.
pub struct Spoken {
    /// The name of the variant of the language, if the client gave one.
    pub name: Option<&'static str>,
    /// How messages are compressed, if that was agreed upon.
    pub deflate: Option<Deflate>,
    /// What the client's compressed messages refer back to, if they may.
    pub context: Option<ClientContext>,
}

impl Door {
    /// Admits a WebSocket connection at an entry of its language, or says why not.
    pub async fn admit_websocket(
        &self,
        entry: &'static Entry,
        head: &RequestHead,
    ) -> Result<(Admission, Spoken), Refusal> {
        require_handshake(head)?;
        let query = entry.query.read(head.uri.query().unwrap_or_default())?;
        let (dialect, name) = dialect(entry, head)?;
        let wants = self.wants(entry, head, (&query, dialect, None))?;
        let deflate = match self.compression {
            Some(min_bytes) => Deflate::negotiate(&head.headers, min_bytes, &self.contexts)?,
            None => None,
        };
        let (deflate, context) = deflate.unzip();
        let context = context.flatten();
        // Its own topics are known by its id.
        let session = new_id();
        let brings = (entry.brings)(&query)?;
        let access = self.identify(head, &brings).await?.of_session(session.clone());
        // Without a credential the subscription waits for `auth`; with one it must be granted.
        if let Some(subscribe) = &wants.subscribe
            && !matches!(access.caller(), Caller::Anonymous)
        {
            require_coverage(&access, subscribe)?;
        }
        let shown = http::credential(&head.headers, brings.token())?;
        let credential = application(access.caller(), shown);
        let identified = Identified { access, credential };
        Ok((Admission { session, identified, wants }, Spoken { name, deflate, context }))
    }

    /// Admits a connection that is a stream, or says why not.
    pub async fn admit_stream(
        &self,
        entry: &'static Entry,
        head: &RequestHead,
    ) -> Result<Admission, Refusal> {
        let (brings, wants) = self.head_of_stream(entry, head)?;
        admit_stream(self.identify(head, &brings).await?, wants)
    }

    /// Looks at the head of a request for a stream whose body is still to come: who may subscribe to nothing
    /// is refused. Whose ticket says who they are is nobody yet.
    pub async fn meet_stream_of(
        &self,
        (entry, by_body): (&'static Entry, &'static ByBody),
        head: &RequestHead,
    ) -> Result<(Brings, Access), Refusal> {
        let query = by_body.query.read(head.uri.query().unwrap_or_default())?;
        let brings = (entry.brings)(&query)?;
        if brings.ticket.is_some() {
            self.auth.check_ticket_holder(&self.entrance, head, brings.token())?;
            return Ok((brings, self.auth.access(Caller::Anonymous)));
        }
        let access = self.auth.admit(&self.entrance, head, brings.token()).await?;
        access.require_some_subscription()?;
        Ok((brings, access))
    }

    /// Admits a stream that a whole body asks for, or says why not; `access` is what its sender may do now.
    pub async fn admit_stream_of(
        &self,
        by_body: &ByBody,
        head: &RequestHead,
        (brings, access): (&Brings, Access),
        body: &[u8],
    ) -> Result<Admission, Refusal> {
        let mut wants = (by_body.wants)(body, &self.limits.of_messages())?;
        // Who resumes repeats the body, as an `EventSource` repeats its URL.
        if let (Some(id), Some(subscribe)) = (header_cursor(head)?, &mut wants.subscribe) {
            subscribe.since = Some(Start::After(id));
        }
        let access = match brings.ticket {
            Some(_) => self.identify(head, brings).await?,
            None => access,
        };
        admit_stream(access, wants)
    }

    /// Says whether a stream would be refused, as far as that can be known without using up a ticket.
    pub async fn inspect_stream(
        &self,
        entry: &'static Entry,
        head: &RequestHead,
    ) -> Result<(), Problem> {
        let (brings, Wants { subscribe, .. }) = self.head_of_stream(entry, head)?;
        if brings.ticket.is_some() {
            return self.auth.check_ticket_holder(&self.entrance, head, brings.token());
        }
        let access = self.auth.admit(&self.entrance, head, brings.token()).await?;
        subscribe.map_or(Ok(()), |subscribe| require_coverage(&access, &subscribe))
    }

    /// What the head of a request for a stream says.
    fn head_of_stream(
        &self,
        entry: &'static Entry,
        head: &RequestHead,
    ) -> Result<(Brings, Wants), Problem> {
        let query = entry.query.read(head.uri.query().unwrap_or_default())?;
        let last_event_id = header_cursor(head)?;
        let wants = self.wants(entry, head, (&query, entry.first(), last_event_id))?;
        Ok(((entry.brings)(&query)?, wants))
    }

    fn wants(
        &self,
        entry: &'static Entry,
        head: &RequestHead,
        (query, dialect, last_event_id): (&Query, &'static Dialect, Option<Cursor>),
    ) -> Result<Wants, Problem> {
        let path = entry.find(head.uri.path()).unwrap_or_default();
        let limits = &self.limits.of_messages();
        let dialects = entry.dialects;
        (entry.wants)(&Knock { path, query, last_event_id, dialect, dialects, limits })
    }

    /// The address that a request comes from, as far as it is known.
    pub fn address(&self, head: &RequestHead) -> Option<IpAddr> {
        self.entrance.client(head).ok().and_then(|client| client.address)
    }

    /// Who asks. A ticket is good once, so it is redeemed when nothing else is left to look at but what it
    /// is for.
    async fn identify(&self, head: &RequestHead, brings: &Brings) -> Result<Access, Refusal> {
        let token = brings.token();
        let Some(Token(ticket)) = &brings.ticket else {
            return Ok(self.auth.admit(&self.entrance, head, token).await?);
        };
        self.auth.check_ticket_holder(&self.entrance, head, token)?;
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
}

/// An id of 128 random bits, in hexadecimal.
pub(super) fn new_id() -> Arc<str> {
    format!("{:032x}", rand::rng().random::<u128>()).into()
}

/// Lets in who may subscribe to what is wanted.
fn admit_stream(access: Access, wants: Wants) -> Result<Admission, Refusal> {
    if let Some(subscribe) = &wants.subscribe {
        require_coverage(&access, subscribe)?;
    }
    // It publishes nothing by itself.
    let identified = Identified { access, credential: None };
    Ok(Admission { session: new_id(), identified, wants })
}

/// Refuses a subscription of which the caller may receive nothing in some part.
pub(super) fn require_coverage(access: &Access, subscribe: &Subscribe) -> Result<(), Problem> {
    subscribe.patterns.iter().try_for_each(|pattern| access.require_some_of(pattern))
}

/// The cursor of `Last-Event-ID`; an empty one is none.
fn header_cursor(head: &RequestHead) -> Result<Option<Cursor>, Problem> {
    let id = http::header(&head.headers, &http::LAST_EVENT_ID)?.filter(|id| !id.is_empty());
    Ok(id.map(Cursor::parse).transpose()?)
}

/// The first variant that the client offers and that is spoken here; the first of these where it offers none.
fn dialect(
    entry: &'static Entry,
    head: &RequestHead,
) -> Result<(&'static Dialect, Option<&'static str>), Problem> {
    let mut offers = grammar::list(&head.headers, &header::SEC_WEBSOCKET_PROTOCOL).peekable();
    if offers.peek().is_none() {
        return Ok((entry.first(), None));
    }
    match offers.find_map(|offer| entry.dialect(offer)) {
        Some(dialect) => Ok((dialect, Some(dialect.name))),
        None => {
            let names: Vec<_> = entry.dialects.iter().map(|dialect| dialect.name).collect();
            let detail =
                format!("none of the offered subprotocols is spoken: {}", names.join(", "));
            Err(Problem::new(Code::BadRequest, detail))
        }
    }
}
