//! Results on standard output, and notes on standard error.
//!
//! A reader that has left (`| head -1`) has all that it wanted: that is a quiet end, with exit code 0. Whatever
//! else keeps a result from being written, a full disk for instance, is said, with exit code 1. Notes go the
//! way of log lines, so that nothing waits for them for long.

use std::env;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::tcgetwinsize;
use tokio::sync::oneshot;

use super::Failure;
use crate::lines::{STANDARD_ERROR, write_all};

/// Says something about what goes on. Whether anyone reads it makes no difference.
pub fn note(text: impl Display) {
    STANDARD_ERROR.note(text);
}

/// Writes a result and its line break.
pub fn print(text: impl Display) -> Result<(), Failure> {
    write(&mut io::stdout().lock(), &format!("{text}\n"))
}

/// Writes to standard output as it is: what a terminal is to show.
pub fn draw(text: &str) -> Result<(), Failure> {
    write(&mut io::stdout().lock(), text)
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether there may be colours, where a terminal shows what is written: not where `NO_COLOR` holds anything
/// (<https://no-color.org>). The help goes by the same, of clap's own.
pub fn may_colour() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How many columns and rows the terminal has that standard output is.
pub fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0)?;
    Some((size.ws_col.into(), size.ws_row.into()))
}

/// Writes a result to standard output.
pub fn write(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    write_all(out, &mut text.as_bytes()).and_then(|()| out.flush()).map_err(failure)
}

/// What it means that standard output can't be written to.
pub fn failure(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Failed(format!("standard output: {error}")),
    }
}

/// Waits until whoever reads standard output has left, which a pipe or a terminal tells while nothing is
/// written to it; for good where it is something else.
pub async fn unread() {
    let (gone, heard) = oneshot::channel();
    // It blocks, and dies with the process.
    let watching = thread::Builder::new().name("reader".to_owned()).spawn(|| {
        if wait_for_end(&io::stdout()) {
            _ = gone.send(());
        }
    });
    if watching.is_err() || heard.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether the reader of a pipe or terminal has left, once it has; false where that can't be known.
fn wait_for_end(out: &impl std::os::fd::AsFd) -> bool {
    loop {
        // What is not asked for is told all the same: the end.
        let mut watched = [PollFd::new(out, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_) => return watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Out(ErrorKind);

    impl Write for Out {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_a_quiet_end_and_any_other_error_is_said() {
        assert!(matches!(write(&mut Out(ErrorKind::BrokenPipe), "x"), Err(Failure::Unread)));
        let full = write(&mut Out(ErrorKind::StorageFull), "x");
        assert!(matches!(full, Err(Failure::Failed(said)) if said.contains("standard output")));
    }

    #[test]
    fn the_end_of_a_reader_is_noticed_while_nothing_is_written() {
        let (reader, writer) = io::pipe().unwrap();
        let watching = thread::spawn(move || wait_for_end(&writer));
        drop(reader);
        assert!(watching.join().unwrap());
    }
}
