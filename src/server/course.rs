//! How far a connection is with the request that it is about, as its reading end and the application
//! tell each other.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use actix_http::error::PayloadError;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::task::noop_waker;

use super::sockets::Activity;
use crate::session::Handover;

/// What the next bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A head, of which so many bytes came.
    Head(usize),
    /// A body that somebody reads.
    Body,
    /// Something behind a request that is being answered, of which so many bytes came.
    Ahead(usize),
    /// What is left of a body that nobody reads, of which so many bytes came.
    Unread(usize),
}

/// How far a connection is. Over HTTP/2, where requests go side by side, only what its socket does is
/// told by it.
pub(super) struct Course {
    activity: Arc<Activity>,
    phase: Cell<Phase>,
    /// How many requests have begun with a whole head.
    requests: Cell<usize>,
    /// The last request has begun that there is to be.
    is_last: Cell<bool>,
    /// The client sends nothing more.
    has_hung_up: Cell<bool>,
    /// Where an event stream waits for its socket.
    handover: Rc<Handover>,
    /// The reading end, where it waits for the phase to end.
    reader: Cell<Option<Waker>>,
}

impl Course {
    /// A connection of which nothing came yet.
    pub(super) fn new(activity: Arc<Activity>) -> Rc<Self> {
        Rc::new(Self {
            activity,
            phase: Cell::new(Phase::Head(0)),
            requests: Cell::new(0),
            is_last: Cell::new(false),
            has_hung_up: Cell::new(false),
            handover: Rc::default(),
            reader: Cell::default(),
        })
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(super) fn handover(&self) -> &Rc<Handover> {
        &self.handover
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// How many requests have begun.
    pub(super) fn requests(&self) -> usize {
        self.requests.get()
    }

    /// Whether a request may begin behind those that did, and, if it `is_last`, that none may behind it.
    pub(super) fn may_begin(&self, is_last: bool) -> bool {
        !self.is_last.replace(is_last || self.is_last.get())
    }

    /// Says that the client sends nothing more.
    pub(super) fn hang_up(&self) {
        self.has_hung_up.set(true);
    }

    /// Goes over to another phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Says that so many bytes more came of what is coming.
    pub(super) fn came(&self, bytes: usize) {
        self.phase.set(match self.phase.get() {
            Phase::Head(came) => Phase::Head(came + bytes),
            Phase::Body => Phase::Body,
            Phase::Ahead(came) => Phase::Ahead(came + bytes),
            Phase::Unread(came) => Phase::Unread(came + bytes),
        });
    }

    /// Waits for the next phase.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        self.reader.set(Some(cx.waker().clone()));
    }
}

/// A request from its head to the last byte of its answer, with what is left of its body: kept as long,
/// so that the connection is not read on for a body that nobody wants.
pub(super) struct Underway {
    course: Option<Rc<Course>>,
    /// None once it is whole.
    body: Option<Payload>,
    is_paused: bool,
}

/// The body of a request that is under way, as its handler reads it.
pub(super) struct Reading(Rc<RefCell<Underway>>);

impl Underway {
    /// Begins with a head.
    pub(super) fn begin(course: Option<Rc<Course>>, body: Payload) -> Rc<RefCell<Self>> {
        if let Some(course) = &course {
            course.activity.begin();
            course.requests.set(course.requests.get().wrapping_add(1));
            course.enter(Phase::Ahead(0));
        }
        let body = Some(body).filter(|body| !matches!(body, Payload::None));
        Rc::new(RefCell::new(Self { course, body, is_paused: false }))
    }

    /// What is left of the body, if there is something left.
    pub(super) fn body(underway: &Rc<RefCell<Self>>) -> Payload {
        match underway.borrow().body {
            None => Payload::None,
            Some(_) => Payload::Stream { payload: Box::pin(Reading(underway.clone())) },
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_next(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.body = None;
        }
        polled
    }

    fn has_hung_up(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.has_hung_up.get())
    }

    /// Says whether the rest of the body is waited for.
    fn pause(&mut self, is_paused: bool) {
        if let Some(course) = self.course.as_ref().filter(|_| self.is_paused != is_paused) {
            match is_paused {
                true => {
                    course.activity.pause();
                    course.enter(Phase::Body);
                }
                false => {
                    course.activity.begin();
                    course.enter(Phase::Ahead(0));
                }
            }
        }
        self.is_paused = is_paused;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        // What is there already is thrown away: the connection may go on if that is all.
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        while let Poll::Ready(Some(Ok(_))) = self.poll_body(&mut cx) {}
        self.pause(false);
        if let Some(course) = &self.course {
            course.activity.end();
            course.enter(if self.body.is_none() { Phase::Head(0) } else { Phase::Unread(0) });
        }
    }
}

impl Stream for Reading {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut underway = self.0.borrow_mut();
        let polled = underway.poll_body(cx);
        underway.pause(polled.is_pending());
        polled
    }
}

/// The body of a response, with the request that is under way until it is gone.
pub(super) struct Answer {
    pub(super) body: BoxBody,
    pub(super) underway: Rc<RefCell<Underway>>,
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        // A request is answered whole, though its client has ended its half (RFC 9112, section 9.6). A stream
        // would never end, and has no other sign of a client that is gone.
        if self.size() == BodySize::Stream && self.underway.borrow().has_hung_up() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_next(cx)
    }
}
