//! Lines on their way to standard output.
//!
//! A pipe may take its time, so a thread of its own writes; the connection is meanwhile kept alive,
//! and as few lines wait, a slow reader slows the broker down instead of filling our memory.

use std::io::Write;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::super::Failure;
use super::super::print::write;

/// How many lines may wait to be written.
const WAITING: usize = 64;

/// Standard output.
pub struct Output {
    lines: mpsc::Sender<String>,
    ended: oneshot::Receiver<Result<(), Failure>>,
}

/// No more can be written; [`Output::finish`] says why.
#[derive(Debug, PartialEq, Eq)]
pub struct NoReader;

/// How far it got.
#[derive(Debug)]
pub enum Written {
    /// Everything is written.
    All,
    /// Some was still to be written when patience ended.
    Some,
}

impl Output {
    /// Begins to write to `out`.
    pub fn new(mut out: impl Write + Send + 'static) -> Self {
        let (lines, mut waiting) = mpsc::channel::<String>(WAITING);
        let (ending, ended) = oneshot::channel();
        thread::spawn(move || {
            let mut written = Ok(());
            while written.is_ok()
                && let Some(line) = waiting.blocking_recv()
            {
                written = write(&mut out, &(line + "\n"));
            }
            drop(waiting);
            _ = ending.send(written);
        });
        Self { lines, ended }
    }

    /// Hands a line over; waits where too many others do.
    pub async fn line(&self, line: String) -> Result<(), NoReader> {
        self.lines.send(line).await.map_err(|_| NoReader)
    }

    /// Waits until no more can be written.
    pub fn gone(&self) -> impl Future<Output = ()> + use<> {
        let lines = self.lines.clone();
        async move { lines.closed().await }
    }

    /// Waits until all is written, no more can be, or `patience` ends.
    pub async fn finish(self, patience: Duration) -> Result<Written, Failure> {
        drop(self.lines);
        match timeout(patience, self.ended).await {
            Ok(Ok(written)) => written.map(|()| Written::All),
            Ok(Err(_)) | Err(_) => Ok(Written::Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Shut;

    impl Write for Shut {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[actix_web::test]
    async fn every_line_is_written_before_the_end() {
        let paper = Paper::default();
        let output = Output::new(paper.clone());
        for number in 0..200 {
            output.line(number.to_string()).await.unwrap();
        }
        assert!(matches!(output.finish(Duration::from_secs(5)).await, Ok(Written::All)));
        let written = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), 200);
        assert!(written.ends_with("199\n"));
    }

    #[actix_web::test]
    async fn a_closed_pipe_is_noticed() {
        let output = Output::new(Shut);
        while output.line("x".to_owned()).await == Ok(()) {
            tokio::task::yield_now().await;
        }
        let ended = output.finish(Duration::from_secs(5)).await;
        assert!(matches!(ended, Err(Failure::Unread)), "{ended:?}");
    }
}
