//! Bodies that come in gzip (RFC 1952), inflated as they come.
//!
//! What is inflated is counted as any body is, and reading ends where it is longer than the body may be: a bomb
//! costs no more than a plain body of the longest length. One member is taken: many small ones, each with a
//! window of its own, would cost far more than they are long.

use std::io::{self, Write};

use flate2::write::GzDecoder;

use super::{Body, Pieces};
use crate::model::{Code, Problem};

/// What inflating holds beside the body, in bytes: a window, and buffers.
const INFLATER_BYTES: usize = 80 * 1024;

/// How much longer than the inflated body an encoded one may be, in bytes: what can't be made smaller grows by
/// less than that.
const SLACK: usize = 16 * 1024;

/// A body that is being inflated.
pub(super) struct Inflating<L: Fn() -> Problem> {
    decoder: GzDecoder<Room<L>>,
    /// How many bytes came.
    came: usize,
    /// The most that may come.
    most: usize,
}

/// Where the inflated bytes go, as long as there is room.
struct Room<L: Fn() -> Problem> {
    /// None once the body is whole.
    pieces: Option<Pieces>,
    max: usize,
    too_large: L,
    /// Why there is none.
    refused: Option<Problem>,
}

impl<L: Fn() -> Problem> Write for Room<L> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(pieces) = &mut self.pieces else { return Err(io::ErrorKind::WriteZero.into()) };
        let pushed = match pieces.bytes.len() + bytes.len() > self.max {
            true => Err((self.too_large)()),
            false => pieces.push(bytes, self.max),
        };
        pushed.map(|()| bytes.len()).map_err(|problem| {
            self.refused = Some(problem);
            io::ErrorKind::StorageFull.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<L: Fn() -> Problem> Inflating<L> {
    /// A body into `pieces` that has `max` bytes at most, or else is `too_large`.
    pub(super) fn new(mut pieces: Pieces, max: usize, too_large: L) -> Result<Self, Problem> {
        pieces.share.grow(INFLATER_BYTES)?;
        let room = Room { pieces: Some(pieces), max, too_large, refused: None };
        Ok(Self { decoder: GzDecoder::new(room), came: 0, most: max.saturating_add(SLACK) })
    }

    /// Inflates the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Problem> {
        self.came += piece.len();
        if self.came > self.most {
            return Err((self.decoder.get_ref().too_large)());
        }
        let written = self.decoder.write_all(piece);
        written.map_err(|_| {
            self.refusal("the body is not one member of gzip, as its Content-Encoding says")
        })
    }

    /// The whole body; none of it came where nothing came at all.
    pub(super) fn finish(mut self) -> Result<Body, Problem> {
        if self.came > 0 && self.decoder.try_finish().is_err() {
            return Err(self.refusal("the body ends before its gzip does"));
        }
        let pieces = self.decoder.get_mut().pieces.take();
        pieces.map(Body::from).ok_or_else(|| self.refusal("the body was read before"))
    }

    fn refusal(&mut self, otherwise: &str) -> Problem {
        let refused = self.decoder.get_mut().refused.take();
        refused.unwrap_or_else(|| Problem::new(Code::BadRequest, otherwise))
    }
}
