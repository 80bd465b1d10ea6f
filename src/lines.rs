//! Log lines, and the one thread that writes them.
//!
//! Whoever has something to say puts a line into a bounded queue and goes on; one thread writes to the outside,
//! so an outside that takes nothing (a full disk, a pipe that nobody reads) holds up nobody. A line for which
//! there is no room, or that can't be written, is lost and counted; once there is room again, one line says
//! how many were lost.

mod troubles;

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::error;

pub use self::troubles::NoteTroubles;
use crate::metrics::{Counter, LOG_LINES_LOST};

/// The most bytes of lines that wait to be written; a line more is lost.
const WAITING: usize = 1 << 20;

/// How long it is waited for what was said last, where nobody takes it.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long until a file that would block is tried again.
const BLOCKED: Duration = Duration::from_millis(10);

/// What is said on standard error, by the log and by commands.
pub static STANDARD_ERROR: LazyLock<Lines> = LazyLock::new(|| Lines::to("log", io::stderr()));

/// Lines on their way to the outside. Clones are the same lines.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// There is a line to write.
    more: Condvar,
    /// A line was written, or lost.
    done: Condvar,
    lost: Counter,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// Of these and of the line that is being written.
    bytes: usize,
    /// How many were lost since it was said how many.
    unsaid: u64,
    /// Nothing was written for as long as one is ready to wait.
    is_stuck: bool,
}

impl Lines {
    /// Lines that a thread of this name writes to `out`.
    pub fn to(thread: &str, out: impl Write + Send + 'static) -> Self {
        Self::counted(thread, out, LOG_LINES_LOST.clone())
    }

    fn counted(thread: &str, out: impl Write + Send + 'static, lost: Counter) -> Self {
        let (queue, more, done) = (Mutex::default(), Condvar::new(), Condvar::new());
        let lines = Self(Arc::new(Shared { queue, more, done, lost }));
        let writer = lines.clone();
        let writing = thread::Builder::new().name(thread.to_owned()).spawn(move || {
            IS_WRITER.set(true);
            writer.write(out);
        });
        // Without a thread, what is said is kept as long as there is room, and waited for by nobody.
        lines.lock().is_stuck = writing.is_err();
        lines
    }

    /// Says something, without its line break, and waits until it is written, unless nobody takes it.
    pub fn note(&self, text: impl Display) {
        self.say(format!("{text}\n"));
        self.settle();
    }

    /// Puts whole lines, which are lost together, into the queue.
    pub fn say(&self, lines: String) {
        self.push(lines.into_bytes());
    }

    fn push(&self, line: Vec<u8>) {
        let mut queue = self.lock();
        // What the writer says itself is little, and must not be lost to what it is about.
        if queue.bytes + line.len() > WAITING && !IS_WRITER.get() {
            self.lose(&mut queue);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        self.0.more.notify_one();
    }

    /// Waits until all is written, for [`LAST_WORDS`] at most and only once where nobody takes it.
    pub fn settle(&self) {
        let give_up = Instant::now() + LAST_WORDS;
        let mut queue = self.lock();
        while queue.bytes > 0 && !queue.is_stuck {
            let left = give_up.saturating_duration_since(Instant::now());
            queue.is_stuck = left.is_zero();
            let waited = self.0.done.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes what is said, for good.
    fn write(&self, mut out: impl Write) {
        let mut is_torn = false;
        loop {
            let line = self.next();
            // Part of a line must not become the beginning of the next one.
            let mut rest = &b"\n"[..];
            let mended = if is_torn { write_all(&mut out, &mut rest) } else { Ok(()) };
            let mut rest = &line[..];
            let written = mended.and_then(|()| write_all(&mut out, &mut rest));
            is_torn = written.is_err() && (is_torn || rest.len() < line.len());
            self.wrote(&line, written.is_ok());
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                return line;
            }
            queue = self.0.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a line as written or lost; says how many were, once there is room again.
    fn wrote(&self, line: &[u8], is_written: bool) {
        let mut lost = 0;
        let mut queue = self.lock();
        queue.bytes -= line.len();
        queue.is_stuck = false;
        if !is_written {
            self.lose(&mut queue);
        } else if queue.bytes < WAITING / 2 {
            lost = std::mem::take(&mut queue.unsaid);
        }
        self.0.done.notify_all();
        drop(queue);
        if lost > 0 {
            error!(lost, "log lines were lost: standard error did not take them");
        }
    }

    fn lose(&self, queue: &mut Queue) {
        queue.unsaid += 1;
        self.0.lost.inc();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    static IS_WRITER: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Takes what is written in one go as one line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of `bytes`, which afterwards are what is left; waits where `out` would block, as a file that
/// another process has made so does.
pub fn write_all(out: &mut impl Write, bytes: &mut &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => *bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(BLOCKED),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Takes what it is allowed to, and says what it took.
    struct Outside {
        allowed: Receiver<io::Result<usize>>,
        took: Sender<Vec<u8>>,
    }

    impl Write for Outside {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.allowed.recv().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            _ = self.took.send(bytes[..length].to_vec());
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        lines: Lines,
        lost: Counter,
        allow: Sender<io::Result<usize>>,
        took: Receiver<Vec<u8>>,
    }

    fn scene() -> Scene {
        let (allow, allowed) = channel();
        let (took_out, took) = channel();
        let lost = Counter::default();
        let outside = Outside { allowed, took: took_out };
        Scene { lines: Lines::counted("test", outside, lost.clone()), lost, allow, took }
    }

    #[test]
    fn who_says_something_waits_for_no_outside_and_what_has_no_room_is_counted() {
        let Scene { lines, lost, allow, took } = scene();
        let line = "x".repeat(1023) + "\n";
        for _ in 0..WAITING / 1024 + 7 {
            (&lines).write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(lost.get(), 7);
        drop(allow);
        lines.settle();
        assert_eq!(took.try_iter().count(), WAITING / 1024);
    }

    #[test]
    fn one_waits_for_an_outside_that_takes_nothing_once_and_not_again_and_again() {
        let Scene { lines, allow, took, .. } = scene();
        let begun = Instant::now();
        for number in 0..20 {
            lines.note(number);
        }
        assert!((LAST_WORDS..LAST_WORDS * 10).contains(&begun.elapsed()));
        drop(allow);
        lines.note("over");
        lines.settle();
        assert_eq!(took.iter().take(21).last().unwrap(), b"over\n");
    }

    #[test]
    fn what_can_not_be_written_is_counted_and_a_torn_line_spoils_no_other() {
        let Scene { lines, lost, allow, took } = scene();
        allow.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        allow.send(Ok(2)).unwrap();
        for _ in 0..3 {
            allow.send(Err(ErrorKind::StorageFull.into())).unwrap();
        }
        drop(allow);
        for text in ["torn", "lost", "lost", "good", "better"] {
            lines.note(text);
        }
        assert_eq!(lost.get(), 3);
        let took: Vec<_> = took.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(took).unwrap(), "to\ngood\nbetter\n");
    }
}
