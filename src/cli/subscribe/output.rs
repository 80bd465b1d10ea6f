//! Lines on their way to standard output.
//!
//! A pipe may take its time, so a thread of its own writes; the connection is meanwhile kept alive,
//! and as few lines wait, a slow reader slows the broker down instead of filling our memory.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How many lines may wait to be written.
const WAITING: usize = 64;

/// Standard output.
pub struct Output {
    lines: mpsc::Sender<String>,
    all_written: oneshot::Receiver<bool>,
}

/// Nobody reads any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

impl Output {
    /// Begins to write to `out`.
    pub fn new(mut out: impl Write + Send + 'static) -> Self {
        let (lines, mut waiting) = mpsc::channel(WAITING);
        let (ended, all_written) = oneshot::channel();
        thread::spawn(move || {
            let mut good = true;
            while let Some(line) = waiting.blocking_recv() {
                good = write(&mut out, line).is_ok();
                if !good {
                    break;
                }
            }
            drop(waiting);
            _ = ended.send(good);
        });
        Self { lines, all_written }
    }

    /// Hands a line over; waits where too many others do.
    pub async fn line(&self, line: String) -> Result<(), Gone> {
        self.lines.send(line).await.map_err(|_| Gone)
    }

    /// Waits until all is written or `patience` ends, and says whether all is.
    pub async fn finish(self, patience: Duration) -> bool {
        drop(self.lines);
        timeout(patience, self.all_written).await.is_ok_and(|written| written == Ok(true))
    }
}

fn write(out: &mut impl Write, mut line: String) -> io::Result<()> {
    line.push('\n');
    out.write_all(line.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(output.finish(Duration::from_secs(5)).await);
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
        assert!(!output.finish(Duration::from_secs(5)).await);
    }
}
