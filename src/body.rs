//! The body of a request: how long it may take, how much it may hold, and what its sender may do once
//! it is whole.
//!
//! A handler that reads a body takes a [`Sending`], which shows no rights but to a check of the head.
//! It turns into a [`Body`] together with the rights that hold when the last byte is there, so that
//! nothing can be done by what was looked at before. What all bodies hold together is counted in
//! [`Bodies`].

mod gzip;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};

use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest, dev, web};
use bytes::Bytes;
use encoding_rs::{DecoderResult, Encoding};
use futures_util::StreamExt;
use futures_util::future::{LocalBoxFuture, poll_immediate};

use self::gzip::Inflating;
use crate::auth::{Access, Auth, Entrance, network};
use crate::clock::within;
use crate::config::Limits;
use crate::http::{self, Coding, grammar::MediaType};
use crate::model::{Code, Problem};
use crate::panics::lock;

/// The least that a body which takes more than its first chunk has room for, in bytes.
const LEAST_BYTES: usize = 1_024;

/// The longest of those bodies that are never long.
const MAX_SMALL_BYTES: usize = 64 * 1024;

/// What the bodies that are being read hold, in all and by address.
#[derive(Debug)]
pub struct Bodies {
    max: usize,
    max_of_address: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What one body holds of it; given back when it is dropped.
#[derive(Debug)]
struct Share {
    bodies: web::Data<Bodies>,
    address: Option<IpAddr>,
    bytes: usize,
}

impl Bodies {
    /// Room for `limits.bodies_bytes` in all, and `limits.bodies_bytes_per_address` of each address.
    pub fn new(limits: &Limits) -> Self {
        let (max, max_of_address) = (limits.bodies_bytes, limits.bodies_bytes_per_address);
        Self { max, max_of_address, held: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    /// How many bytes are held now.
    pub fn held(&self) -> usize {
        self.lock().bytes
    }
}

impl Share {
    fn new(bodies: &web::Data<Bodies>, address: Option<IpAddr>) -> Self {
        Self { bodies: bodies.clone(), address: address.map(network), bytes: 0 }
    }

    /// Takes so many bytes more: refuses with 503 where all bodies together hold too much, with 429
    /// where those of the address do.
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let (max, max_of_address) = (self.bodies.max, self.bodies.max_of_address);
        let mut held = self.bodies.lock();
        if held.bytes.saturating_add(bytes) > max {
            let detail = format!(
                "the bodies that are being read hold {max} bytes (limits.bodies_bytes); try again"
            );
            return Err(Problem::new(Code::Unavailable, detail));
        }
        if let Some(address) = self.address {
            let of_address = held.by_address.get(&address).copied().unwrap_or_default();
            if of_address.saturating_add(bytes) > max_of_address {
                let detail = format!(
                    "the bodies that are being read from this address hold {max_of_address} bytes \
                     (limits.bodies_bytes_per_address); try again"
                );
                return Err(Problem::new(Code::TooMany, detail));
            }
            held.by_address.insert(address, of_address + bytes);
        }
        held.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Share {
    /// Gives so many bytes back, of those that it has.
    fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        if bytes == 0 {
            return;
        }
        self.bytes -= bytes;
        let mut held = self.bodies.lock();
        held.bytes -= bytes;
        if let Some(address) = self.address
            && let Some(of_address) = held.by_address.get_mut(&address)
        {
            *of_address -= bytes;
            if *of_address == 0 {
                held.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

/// A whole body, counted until it is dropped where it came in more than one piece.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Bytes,
    _share: Option<Share>,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Pieces> for Body {
    fn from(Pieces { bytes, share }: Pieces) -> Self {
        Self { bytes: bytes.into(), _share: Some(share) }
    }
}

/// A body that comes in pieces.
#[derive(Debug)]
struct Pieces {
    bytes: Vec<u8>,
    share: Share,
}

impl Pieces {
    fn new(share: Share) -> Self {
        Self { bytes: Vec::new(), share }
    }

    /// Adds a chunk to a body that will have `max` bytes at most.
    fn push(&mut self, chunk: &[u8], max: usize) -> Result<(), Problem> {
        let needed = self.bytes.len() + chunk.len();
        if needed > self.bytes.capacity() {
            // Twice as much each time, or each chunk would move all that came before.
            let room = needed.max(self.bytes.capacity() * 2).max(LEAST_BYTES).min(max.max(needed));
            self.share.grow(room - self.bytes.capacity())?;
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

/// A caller who was let in by the head of a request, and whose body is still to come.
pub struct Sending {
    access: Access,
    payload: dev::Payload,
    request: HttpRequest,
}

impl Sending {
    /// The body of `request`, whose head was looked at otherwise.
    pub fn of(access: Access, request: HttpRequest, payload: dev::Payload) -> Self {
        Self { access, payload, request }
    }

    /// Refuses what the head is reason enough to refuse, before anything of the body is read.
    pub fn check(&self, check: impl FnOnce(&Access) -> Result<(), Problem>) -> Result<(), Problem> {
        check(&self.access)
    }

    /// The whole body of at most `max` bytes, a limit called `name`, as it was before it was encoded and
    /// in UTF-8 where it is text in another `charset`; and what its sender may do now. 408 where it does
    /// not come in `limits.body_timeout`, 413 where it is longer, 415 where it is encoded in another way
    /// than gzip, 429 and 503 where too much is being read, 401 where the credential holds no longer.
    pub async fn whole(
        self,
        max: usize,
        name: &str,
        charset: Option<&'static Encoding>,
    ) -> Result<(Body, Access), Problem> {
        let Self { access, payload, request } = self;
        let coding = Coding::of(request.headers())?;
        let auth = given::<Auth>(&request)?;
        let too_large = || {
            let detail = format!("the body has more than {max} bytes ({name})");
            Problem::new(Code::TooLarge, detail)
        };
        let announced = announced(request.headers());
        if coding == Coding::Identity && announced.is_some_and(|bytes| bytes > max) {
            return Err(too_large());
        }
        let share = || {
            let client = given::<Entrance>(&request)?.client(request.head())?;
            Ok(Share::new(given(&request)?, client.address))
        };
        let reading = async {
            let body = match coding {
                // In a box, for what is rare must not make the future of all others larger.
                Coding::Gzip => Box::pin(inflate(payload, max, share, too_large)).await?,
                Coding::Identity => {
                    let room = |bytes| match bytes > max {
                        true => Err(too_large()),
                        false => Ok(announced.unwrap_or(max)),
                    };
                    read(payload, announced, share, room).await?
                }
            };
            match charset {
                None => Ok(body),
                Some(charset) => transcoded(&body, charset, max, share()?, too_large),
            }
        };
        let mut reading = pin!(reading);
        // Most bodies come with their head, and need no timer.
        let read = match poll_immediate(reading.as_mut()).await {
            Some(read) => read?,
            None => {
                let body_timeout = given::<Limits>(&request)?.body_timeout;
                let late = |_| {
                    let seconds = body_timeout.as_secs_f64();
                    let detail =
                        format!("the body did not come in {seconds} s (limits.body_timeout)");
                    Problem::new(Code::TooSlow, detail)
                };
                within(body_timeout, reading).await.map_err(late)??
            }
        };
        Ok((read, auth.still(&access)?))
    }

    /// The whole of a small body of JSON, or of none.
    pub async fn small_json(self) -> Result<(Body, Access), Problem> {
        self.json(MAX_SMALL_BYTES, "as many as there may be at this path").await
    }

    /// The whole of a body of JSON, or of none, as [`Sending::whole`] bounds it. What does not say its type
    /// is taken for JSON, and so is what curl says of any data.
    pub async fn json(self, max: usize, name: &str) -> Result<(Body, Access), Problem> {
        let media_type = http::media_type(self.request.headers())?;
        let is_taken =
            |of: &MediaType<'_>| of.is_json() || of.is("application", "x-www-form-urlencoded");
        if !media_type.as_ref().is_none_or(is_taken) {
            return Err(Problem::new(Code::UnsupportedMediaType, "send application/json"));
        }
        let charset = media_type.as_ref().map(http::charset).transpose()?.flatten();
        self.whole(max, name, charset).await
    }
}

/// Reads a body, of which `room` says how much may come where so many bytes are there.
async fn read(
    mut payload: dev::Payload,
    announced: Option<usize>,
    share: impl FnOnce() -> Result<Share, Problem>,
    room: impl Fn(usize) -> Result<usize, Problem>,
) -> Result<Body, Problem> {
    let first = next(&mut payload).await?.unwrap_or_default();
    room(first.len())?;
    // Most are one piece, which is handed on as it is: there is nothing to wait for with it in hand.
    let mut second = None;
    if announced.unwrap_or_default() == first.len() {
        second = next(&mut payload).await?;
        if second.is_none() {
            return Ok(Body { bytes: first, _share: None });
        }
    }
    let mut body = Pieces::new(share()?);
    let mut more = Some(first);
    while let Some(piece) = more {
        let max = room(body.bytes.len() + piece.len())?;
        body.push(&piece, max)?;
        more = match second.take() {
            None => next(&mut payload).await?,
            second => second,
        };
    }
    Ok(body.into())
}

/// Reads a body in gzip that has `max` bytes at most once it is inflated.
async fn inflate(
    mut payload: dev::Payload,
    max: usize,
    share: impl FnOnce() -> Result<Share, Problem>,
    too_large: impl Fn() -> Problem,
) -> Result<Body, Problem> {
    let Some(first) = next(&mut payload).await? else { return Ok(Body::default()) };
    let mut body = Inflating::new(Pieces::new(share()?), max, too_large)?;
    body.push(&first)?;
    while let Some(piece) = next(&mut payload).await? {
        body.push(&piece)?;
    }
    body.finish()
}

/// A body of text in UTF-8, of at most `max` bytes.
fn transcoded(
    body: &[u8],
    encoding: &'static Encoding,
    max: usize,
    mut share: Share,
    too_large: impl Fn() -> Problem,
) -> Result<Body, Problem> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let needed = decoder.max_utf8_buffer_length_without_replacement(body.len());
    // It has to have room for one character more than it may write.
    let room = needed.unwrap_or(usize::MAX).min(max.saturating_add(4));
    share.grow(room)?;
    let mut text = String::with_capacity(room);
    match decoder.decode_to_string_without_replacement(body, &mut text, true).0 {
        DecoderResult::InputEmpty if text.len() <= max => {
            Ok(Body { bytes: text.into(), _share: Some(share) })
        }
        DecoderResult::InputEmpty | DecoderResult::OutputFull => Err(too_large()),
        DecoderResult::Malformed(..) => {
            let detail = format!("the text is not {}, as its charset says", encoding.name());
            Err(Problem::new(Code::BadRequest, detail))
        }
    }
}

/// The next piece of a body.
async fn next(payload: &mut dev::Payload) -> Result<Option<Bytes>, Problem> {
    let ended_early = |_| Problem::new(Code::BadRequest, "the body ended early");
    payload.next().await.transpose().map_err(ended_early)
}

/// How long a body will be, where its head says so.
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What handlers of this listener work with.
fn given<T: 'static>(request: &HttpRequest) -> Result<&web::Data<T>, Problem> {
    let given = request.app_data::<web::Data<T>>();
    given.ok_or_else(|| Problem::new(Code::Internal, "nobody takes bodies here"))
}

impl FromRequest for Sending {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let (access, payload) = (Access::from_request(request, payload), payload.take());
        let request = request.clone();
        Box::pin(async move { Ok(Self { access: access.await?, payload, request }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn bodies(max: usize, max_of_address: usize) -> web::Data<Bodies> {
        let limits = Config::default().limits;
        let limits =
            Limits { bodies_bytes: max, bodies_bytes_per_address: max_of_address, ..limits };
        web::Data::new(Bodies::new(&limits))
    }

    fn body(bodies: &web::Data<Bodies>, address: &str) -> Pieces {
        let share = Share::new(bodies, Some(address.parse().unwrap()));
        Pieces { bytes: Vec::new(), share }
    }

    #[test]
    fn what_is_held_is_what_has_room_and_comes_back_with_the_body() {
        let bodies = bodies(100_000, 50_000);
        let mut one = body(&bodies, "10.0.0.1");
        for _ in 0..30 {
            one.push(&[7; 1_000], 40_000).unwrap();
            assert_eq!(bodies.held(), one.bytes.capacity());
        }
        assert_eq!(one.bytes.len(), 30_000);
        assert!(one.bytes.capacity() <= 40_000, "no more than the body may have");
        drop(one);
        assert_eq!(bodies.held(), 0);
        assert!(bodies.lock().by_address.is_empty());
    }

    #[test]
    fn an_address_has_its_share_and_all_have_a_bound() {
        let bodies = bodies(10_000, 6_000);
        let code = |body: &mut Pieces, bytes| {
            let refused = body.push(&vec![0; bytes], bytes).err();
            refused.map(|problem| problem.code)
        };
        let mut first = body(&bodies, "2001:db8::1");
        assert_eq!(code(&mut first, 5_000), None);
        let mut neighbour = body(&bodies, "2001:db8::2");
        assert_eq!(code(&mut neighbour, 2_000), Some(Code::TooMany), "of one network");
        let mut other = body(&bodies, "10.0.0.1");
        assert_eq!(code(&mut other, 4_000), None);
        let mut third = body(&bodies, "10.0.0.2");
        assert_eq!(code(&mut third, 2_000), Some(Code::Unavailable));
        drop(first);
        assert_eq!(code(&mut third, 2_000), None);
        assert_eq!(bodies.held(), 6_000);
    }
}
