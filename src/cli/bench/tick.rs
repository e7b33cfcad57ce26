//! What the bench sends: a number, a time, and as many bytes as were asked for.

use corewire::{Codec, DatumOutput, DecodeError, EncodeError, Fingerprint};

/// The bytes of a tick without filling: number, time and check.
pub(crate) const MIN_TICK_BYTES: usize = 24;

/// The time of a tick that is not measured.
pub(crate) const WARM_UP: u64 = 0;

/// The time of the last tick of a run. Its number is one past the last.
pub(crate) const END: u64 = u64::MAX;

/// What the filling consists of.
static FILLING: [u8; 1024] = [0xa5; 1024];

/// One datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    /// Consecutive, from 0.
    pub(crate) number: u64,
    /// When it was to be sent, by the sender's clock in nanoseconds; or [`WARM_UP`] or [`END`].
    pub(crate) due: u64,
    /// Its encoded length.
    pub(crate) bytes: usize,
}

/// Number and time at the start, a check of both at the end, and filling between.
#[derive(Clone, Copy)]
pub(crate) struct TickCodec;

/// Differs for any two ticks that differ in one of the two.
fn check(number: u64, due: u64) -> u64 {
    number.rotate_left(32) ^ !due
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

impl Codec<Tick> for TickCodec {
    const MAY_PANIC: bool = false;

    fn fingerprint() -> Fingerprint {
        Fingerprint::of("tick of the bench: number, time, filling, check")
    }

    #[inline]
    fn encode(tick: &Tick, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
        out.put(&tick.number.to_le_bytes());
        out.put(&tick.due.to_le_bytes());
        let mut filling = tick.bytes.saturating_sub(MIN_TICK_BYTES);
        while filling > 0 {
            let piece = filling.min(FILLING.len());
            out.put(&FILLING[..piece]);
            filling -= piece;
        }
        out.put(&check(tick.number, tick.due).to_le_bytes());
        Ok(())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<Tick, DecodeError> {
        let words = (word(bytes, 0), word(bytes, 8), word(bytes, bytes.len().saturating_sub(8)));
        match words {
            (Some(number), Some(due), Some(tail))
                if tail == check(number, due) && bytes.len() >= MIN_TICK_BYTES =>
            {
                Ok(Tick { number, due, bytes: bytes.len() })
            }
            _ => Err(DecodeError::custom("not a tick of the bench, or a damaged one")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(tick: Tick) -> Vec<u8> {
        let mut bytes = vec![0; tick.bytes];
        let mut out = DatumOutput::new(&mut bytes);
        TickCodec::encode(&tick, &mut out).unwrap();
        assert_eq!(out.len(), tick.bytes);
        bytes
    }

    #[test]
    fn ticks_of_every_size_survive() {
        for bytes in [24, 25, 64, 1_000] {
            let tick = Tick { number: 7, due: 1 << 40, bytes };
            assert_eq!(encoded(tick).len(), bytes);
            assert_eq!(TickCodec::decode(&encoded(tick)), Ok(tick));
        }
    }

    #[test]
    fn damaged_and_short_ticks_are_refused() {
        let tick = Tick { number: 7, due: 9, bytes: 64 };
        for at in [0, 8, 15, 56, 63] {
            let mut bytes = encoded(tick);
            bytes[at] ^= 1;
            assert!(TickCodec::decode(&bytes).is_err(), "byte {at}");
        }
        for length in 0..MIN_TICK_BYTES {
            assert!(TickCodec::decode(&encoded(tick)[..length]).is_err());
        }
    }
}
