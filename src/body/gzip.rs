//! Bodies that come in gzip (RFC 1952), inflated as they come.
//!
//! What is inflated is counted as any body is, and reading ends where it is longer than the body may be: a bomb
//! costs no more than a plain body of the longest length. One member is taken: many small ones, each with a
//! window of its own, would cost far more than they are long.

use std::io::{self, Write};

use flate2::write::GzDecoder;

use super::{Body, Pieces};
use crate::model::{Code, Problem};

/// What inflating holds beside the body and the head of its gzip, in bytes: a window, and buffers.
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
    /// What the head may hold, in bytes: a name, a comment and whatever else there is room for, as long as it comes,
    /// in buffers that grow twice as large at a time.
    head: usize,
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
        let (decoder, most) = (GzDecoder::new(room), max.saturating_add(SLACK));
        Ok(Self { decoder, came: 0, most, head: 0 })
    }

    /// Inflates the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Problem> {
        self.came += piece.len();
        if self.came > self.most {
            return Err((self.decoder.get_ref().too_large)());
        }
        let is_in_head = self.decoder.header().is_none();
        if is_in_head {
            self.hold_head(self.head + 2 * piece.len())?;
        }
        let written = self.decoder.write_all(piece);
        if is_in_head && let Some(header) = self.decoder.header() {
            let fields = [header.filename(), header.comment(), header.extra()];
            self.hold_head(fields.iter().flatten().map(|field| 2 * field.len()).sum())?;
        }
        written.map_err(|_| {
            self.refusal("the body is not one member of gzip, as its Content-Encoding says")
        })
    }

    /// The whole body; none of it came where nothing came at all.
    pub(super) fn finish(mut self) -> Result<Body, Problem> {
        if self.came > 0 && self.decoder.try_finish().is_err() {
            return Err(self.refusal("the body ends before its gzip does"));
        }
        let head = self.head;
        let pieces = self.decoder.get_mut().pieces.take();
        let mut pieces = pieces.ok_or_else(|| self.refusal("the body was read before"))?;
        // The body may be kept for long; what inflated it goes now.
        drop(self);
        pieces.share.give_back(INFLATER_BYTES + head);
        Ok(pieces.into())
    }

    /// Counts that the head holds so many bytes.
    fn hold_head(&mut self, bytes: usize) -> Result<(), Problem> {
        if let Some(pieces) = &mut self.decoder.get_mut().pieces {
            match bytes.checked_sub(self.head) {
                Some(more) => pieces.share.grow(more)?,
                None => pieces.share.give_back(self.head - bytes),
            }
            self.head = bytes;
        }
        Ok(())
    }

    fn refusal(&mut self, otherwise: &str) -> Problem {
        let refused = self.decoder.get_mut().refused.take();
        refused.unwrap_or_else(|| Problem::new(Code::BadRequest, otherwise))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bodies, Share};
    use super::*;
    use crate::config::Config;
    use actix_web::web;
    use flate2::{Compression, GzBuilder};

    const NAME: usize = 60_000;

    #[test]
    fn what_inflating_holds_is_counted_while_it_is_held_and_given_back_before_the_body() {
        let bodies = web::Data::new(Bodies::new(&Config::default().limits));
        let pieces = Pieces::new(Share::new(&bodies, None));
        let too_large = || Problem::new(Code::TooLarge, "too large");
        let mut inflating = Inflating::new(pieces, 200_000, too_large).unwrap();
        let mut encoded = GzBuilder::new()
            .filename(vec![b'n'; NAME])
            .comment(vec![b'c'; NAME])
            .write(Vec::new(), Compression::fast());
        encoded.write_all(&[7; 5_000]).unwrap();
        let encoded = encoded.finish().unwrap();
        let (name, rest) = encoded.split_at(NAME);
        inflating.push(name).unwrap();
        assert!(bodies.held() >= INFLATER_BYTES + NAME, "{}", bodies.held());
        for piece in rest.chunks(1_000) {
            inflating.push(piece).unwrap();
        }
        let head = 4 * NAME;
        assert!((head..head + 40_000).contains(&(bodies.held() - INFLATER_BYTES)));
        let body = inflating.finish().unwrap();
        assert_eq!(body.len(), 5_000);
        assert!((5_000..40_000).contains(&bodies.held()), "the body alone: {}", bodies.held());
        drop(body);
        assert_eq!(bodies.held(), 0);
    }
}
