//! The data of events: a marker, and as much else as was asked for.
//!
//! The rest looks like the readings of a dashboard and is another piece for each event, so that
//! nothing on the way can compress it better than real data.

use super::clock::{MARKER, mark};

const HEAD: &[u8] = br#"{"at":""#;
const MIDDLE: &[u8] = br#"","readings":""#;
const TAIL: &[u8] = br#""}"#;

/// Makes the data of events.
#[derive(Debug)]
pub struct Payload {
    readings: Vec<u8>,
    length: usize,
}

impl Payload {
    /// How many pieces there are before they come again.
    const PIECES: usize = 4_096;

    /// A maker of data of so many bytes.
    pub fn new(bytes: usize) -> Self {
        let length = bytes.saturating_sub(HEAD.len() + MARKER + MIDDLE.len() + TAIL.len());
        let mut readings = Vec::with_capacity(length + Self::PIECES + 16);
        let mut state: u32 = 1;
        while readings.len() < length + Self::PIECES {
            // The numbers need not be random, only different.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (name, value) =
                (["cpu", "mem", "net", "disk"][state as usize >> 30], state % 1_000);
            readings.extend_from_slice(format!("{name}={}.{} ", value / 10, value % 10).as_bytes());
        }
        Self { readings, length }
    }

    /// Appends the data of event `number`, which is due at `at`.
    pub fn write(&self, out: &mut Vec<u8>, number: u64, at: u64) {
        let start = (number.wrapping_mul(61) % Self::PIECES as u64) as usize;
        out.extend_from_slice(HEAD);
        mark(out, at);
        out.extend_from_slice(MIDDLE);
        out.extend_from_slice(&self.readings[start..start + self.length]);
        out.extend_from_slice(TAIL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Markers;
    use super::super::load::Load;
    use super::*;

    #[test]
    fn data_is_json_of_the_length_asked_for_with_one_marker() {
        for bytes in [Load::MIN_PAYLOAD, 128, 10_000] {
            let payload = Payload::new(bytes);
            for number in [0, 1, 4_095, 1 << 40] {
                let mut data = Vec::new();
                payload.write(&mut data, number, 17);
                assert_eq!(data.len(), bytes);
                serde_json::from_slice::<serde_json::Value>(&data).unwrap();
                assert_eq!(Markers::default().find(&data).collect::<Vec<_>>(), [17]);
            }
        }
    }
}
