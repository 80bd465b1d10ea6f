use std::cell::RefCell;
use std::io::IoSlice;
use std::rc::Rc;

use actix_http::ws::Parser;
use futures_util::poll;
use tokio::task::coop;
use tokio::time::timeout;

use super::super::encoding::close_frame;
use super::*;

const LIMITS: SocketLimits = SocketLimits {
    frames: FrameLimits { message_bytes: 1024, message_fragments: 8, deflate: false },
    close_timeout: Duration::from_millis(50),
    stall_timeout: Duration::from_secs(60),
};

/// Ends the conversation as the broker does, and hears nothing.
struct Deaf(Arc<Outgoing>);

impl Listener for Deaf {
    fn said(&mut self, _: Vec<Said>) -> LocalBoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn end(&mut self, close: Close) {
        self.0.close([close_frame(close.code(), close.message())], true);
    }
}

/// A client that never stops sending the same, and takes nothing.
struct Flood(&'static [u8]);

const PING: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];

/// A frame of an op that there is not.
const NONSENSE: &[u8] = &[0x8f, 0x80, 0, 0, 0, 0];

impl Stream for Flood {}

impl AsyncRead for Flood {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // As a socket does: a task that always finds something to read runs out of budget.
        ready!(coop::poll_proceed(cx)).made_progress();
        buffer.put_slice(self.0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_client_that_never_stops_sending_can_not_outlive_its_time() {
    for sends in [PING, NONSENSE] {
        let outgoing = Arc::new(Outgoing::new(4096));
        let listener = Deaf(outgoing.clone());
        let socket = Socket::new(Flood(sends), BytesMut::new(), outgoing, LIMITS, listener);
        timeout(Duration::from_secs(10), socket).await.expect("the socket ended in time");
    }
}

/// A client that says all that it has to say at once.
struct Talker {
    says: Vec<u8>,
    /// What it was written, call by call.
    written: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Stream for Talker {}

impl AsyncRead for Talker {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.says.is_empty() {
            return Poll::Pending;
        }
        let some = self.says.len().min(buffer.remaining());
        buffer.put_slice(&self.says[..some]);
        self.says.drain(..some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Talker {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let count = bytes.len();
        self.written.borrow_mut().push(bytes);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Answers each message by itself, after a while.
struct Answering {
    outgoing: Arc<Outgoing>,
    /// How many messages came together, time by time.
    heard: Rc<RefCell<Vec<usize>>>,
    ended: Rc<RefCell<Option<Close>>>,
}

impl Listener for Answering {
    fn said(&mut self, messages: Vec<Said>) -> LocalBoxFuture<'static, ()> {
        self.heard.borrow_mut().push(messages.len());
        let outgoing = self.outgoing.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            for _ in messages {
                outgoing.push(Bytes::from_static(b"!")).unwrap();
            }
        })
    }

    fn end(&mut self, close: Close) {
        self.ended.replace(Some(close));
    }
}

/// The conversation of a client that says this, and what can be seen of it.
struct Seen {
    socket: Socket<Talker, Answering>,
    written: Rc<RefCell<Vec<Vec<u8>>>>,
    heard: Rc<RefCell<Vec<usize>>>,
    ended: Rc<RefCell<Option<Close>>>,
}

impl Seen {
    fn new(says: &[u8]) -> Self {
        let outgoing = Arc::new(Outgoing::new(64 * 1024));
        let (written, heard, ended) = (Rc::default(), Rc::default(), Rc::default());
        let talker = Talker { says: says.to_vec(), written: Rc::clone(&written) };
        let listener = Answering {
            outgoing: outgoing.clone(),
            heard: Rc::clone(&heard),
            ended: Rc::clone(&ended),
        };
        let socket = Socket::new(talker, BytesMut::new(), outgoing, LIMITS, listener);
        Self { socket, written, heard, ended }
    }

    async fn step(&mut self) {
        _ = poll!(&mut self.socket);
    }

    fn written(&self) -> Vec<String> {
        let written = self.written.borrow();
        written.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

fn messages(count: usize, text: &str) -> BytesMut {
    let mut says = BytesMut::new();
    for _ in 0..count {
        Parser::write_message(&mut says, text, OpCode::Text, true, true);
    }
    says
}

#[tokio::test]
async fn what_came_together_is_heard_together_and_answered_in_one_write() {
    let mut seen = Seen::new(&messages(40, "?"));
    seen.step().await;
    seen.step().await;
    assert_eq!(*seen.heard.borrow(), [40]);
    assert_eq!(seen.written(), ["!".repeat(40)]);
}

#[tokio::test]
async fn others_have_their_turn_beside_a_client_that_says_much_at_once() {
    let mut seen = Seen::new(&messages(HEARD_TOGETHER + 5, "?"));
    seen.step().await;
    assert_eq!(*seen.heard.borrow(), [HEARD_TOGETHER]);
    seen.step().await;
    assert_eq!(*seen.heard.borrow(), [HEARD_TOGETHER, 5]);
    assert_eq!(seen.written(), ["!".repeat(HEARD_TOGETHER)]);
}

#[tokio::test]
async fn what_waits_to_be_heard_is_hardly_more_than_one_message_may_hold() {
    let mut seen = Seen::new(&messages(5, &"?".repeat(LIMITS.frames.message_bytes - 1)));
    for _ in 0..5 {
        seen.step().await;
    }
    assert_eq!(*seen.heard.borrow(), [2, 2, 1]);
}

#[tokio::test]
async fn what_comes_behind_a_message_waits_until_that_is_done() {
    let ping = [PING, &messages(1, "?")].concat();
    let close = &[0x88, 0x80, 0, 0, 0, 0];
    for (behind, answered) in [(&ping[..], "!\u{fffd}\0"), (close, "!\u{fffd}\0"), (NONSENSE, "!")]
    {
        let mut seen = Seen::new(&[&messages(1, "?"), behind].concat());
        seen.step().await;
        assert!(seen.written().is_empty() && seen.ended.borrow().is_none());
        seen.step().await;
        assert_eq!(seen.written().concat(), answered);
        assert_eq!(seen.ended.borrow().is_some(), behind == NONSENSE);
    }
}
