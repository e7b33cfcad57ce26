//! Splits a byte stream into records and writes records back: lines, or length-prefixed.
//!
//! Input is read in large blocks and records are handed out as slices of the block, so that a record costs no
//! allocation and no system call of its own.

use std::io::{self, Read, Write};

use super::args::Format;

/// Bytes that one read asks for at most: large enough that the system call's cost is small beside the
/// records', small enough for the second-level cache.
const BLOCK_BYTES: usize = 256 * 1024;

/// Bytes of the length before a length-prefixed record.
const PREFIX_BYTES: usize = 4;

/// Why the input cannot be split further.
#[derive(Debug)]
pub(crate) enum FramingError {
    /// Reading failed.
    Io(io::Error),
    /// Record `number` (from 1) is longer than allowed. `len` is the length known so far.
    TooLong { number: u64, len: usize, limit: usize },
    /// The input ends inside record `number` (from 1).
    Truncated { number: u64, have: usize, want: usize },
}

/// Splits its input into records.
pub(crate) struct RecordReader<R> {
    input: R,
    format: Format,
    limit: usize,
    block: Vec<u8>,
    /// `block[start..end]` is input not yet handed out.
    start: usize,
    end: usize,
    /// No line feed in `block[start..scanned]`: a long line is searched once, not once per read.
    scanned: usize,
    /// Records handed out.
    records: u64,
    finished: bool,
}

impl<R: Read> RecordReader<R> {
    /// A reader that refuses records longer than `limit` bytes.
    pub(crate) fn new(input: R, format: Format, limit: usize) -> Self {
        // Holds the largest record and its frame beside a full read, so every record is contiguous.
        let block = vec![0; BLOCK_BYTES + limit + PREFIX_BYTES];
        RecordReader {
            input,
            format,
            limit,
            block,
            start: 0,
            end: 0,
            scanned: 0,
            records: 0,
            finished: false,
        }
    }

    /// The next record, or `None` at the end of the input. Reads only when the block holds no whole record.
    pub(crate) fn next_record(&mut self) -> Result<Option<&[u8]>, FramingError> {
        loop {
            let found = match self.format {
                Format::Lines => self.find_line()?,
                Format::LengthPrefixed => self.find_prefixed()?,
            };
            if let Some((from, to, next)) = found {
                (self.start, self.scanned) = (next, next);
                self.records += 1;
                return Ok(Some(&self.block[from..to]));
            }
            if self.finished {
                return Ok(None);
            }
            self.fill().map_err(FramingError::Io)?;
        }
    }

    /// A whole line in the block: where it starts, ends, and where the next begins.
    fn find_line(&mut self) -> Result<Option<(usize, usize, usize)>, FramingError> {
        let found = self.block[self.scanned..self.end].iter().position(|&byte| byte == b'\n');
        let (to, next) = match found {
            Some(at) => (self.scanned + at, self.scanned + at + 1),
            None => {
                self.scanned = self.end;
                // The last line of a file often has no line feed.
                (self.end, self.end)
            }
        };
        let len = to - self.start;
        if len > self.limit {
            return Err(FramingError::TooLong { number: self.records + 1, len, limit: self.limit });
        }
        let whole = found.is_some() || (self.finished && len > 0);
        Ok(whole.then_some((self.start, to, next)))
    }

    /// A whole length-prefixed record in the block.
    fn find_prefixed(&mut self) -> Result<Option<(usize, usize, usize)>, FramingError> {
        let have = self.end - self.start;
        let number = self.records + 1;
        let Some(prefix) = self.block[self.start..self.end].first_chunk::<PREFIX_BYTES>() else {
            return match self.finished && have > 0 {
                true => Err(FramingError::Truncated { number, have, want: PREFIX_BYTES }),
                false => Ok(None),
            };
        };
        // Checked before any arithmetic: the length comes from the input.
        let len = u32::from_le_bytes(*prefix) as usize;
        if len > self.limit {
            return Err(FramingError::TooLong { number, len, limit: self.limit });
        }
        let want = PREFIX_BYTES + len;
        if have < want {
            return match self.finished {
                true => Err(FramingError::Truncated { number, have, want }),
                false => Ok(None),
            };
        }
        let from = self.start + PREFIX_BYTES;
        Ok(Some((from, from + len, from + len)))
    }

    /// Reads once. Moves unused input to the front first when less than half a read fits behind it.
    fn fill(&mut self) -> io::Result<()> {
        if self.block.len() - self.end < BLOCK_BYTES / 2 || self.start == self.end {
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.scanned -= self.start;
            self.start = 0;
        }
        loop {
            match self.input.read(&mut self.block[self.end..]) {
                Ok(0) => {
                    self.finished = true;
                    return Ok(());
                }
                Ok(read) => {
                    self.end += read;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes one record with its line feed or length prefix.
pub(crate) fn write_record(out: &mut impl Write, format: Format, record: &[u8]) -> io::Result<()> {
    match format {
        Format::Lines => {
            out.write_all(record)?;
            out.write_all(b"\n")
        }
        Format::LengthPrefixed => {
            let len = u32::try_from(record.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            out.write_all(&len.to_le_bytes())?;
            out.write_all(record)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns at most `step` bytes per read, as a pipe may.
    struct Trickle<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let take = self.step.min(buf.len()).min(self.bytes.len());
            buf[..take].copy_from_slice(&self.bytes[..take]);
            self.bytes = &self.bytes[take..];
            Ok(take)
        }
    }

    fn all(bytes: &[u8], step: usize, format: Format, limit: usize) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut reader = RecordReader::new(Trickle { bytes, step }, format, limit);
        let mut out = Vec::new();
        while let Some(record) = reader.next_record()? {
            out.push(record.to_vec());
        }
        Ok(out)
    }

    #[test]
    fn lines_come_back_whole_whatever_the_reads() {
        for step in [1, 2, 3, 7, 1_000] {
            let lines = all(b"one\n\nthree\r\nlast", step, Format::Lines, 10).unwrap();
            assert_eq!(lines, [&b"one"[..], b"", b"three\r", b"last"], "step {step}");
            assert!(all(b"", step, Format::Lines, 10).unwrap().is_empty());
        }
    }

    #[test]
    fn a_line_at_the_limit_passes_and_one_byte_more_does_not() {
        assert_eq!(all(b"12345\n", 3, Format::Lines, 5).unwrap(), [b"12345"]);
        let error = all(b"ok\n123456\n", 3, Format::Lines, 5).unwrap_err();
        assert!(matches!(error, FramingError::TooLong { number: 2, limit: 5, .. }), "{error:?}");
    }

    #[test]
    fn records_survive_the_way_out_and_back_in_both_formats() {
        let records: Vec<Vec<u8>> = (0..20_000usize).map(|i| vec![b'a' + (i % 26) as u8; i % 97]).collect();
        for format in [Format::Lines, Format::LengthPrefixed] {
            let mut bytes = Vec::new();
            records.iter().for_each(|record| write_record(&mut bytes, format, record).unwrap());
            for step in [13, 4_096, usize::MAX] {
                assert_eq!(all(&bytes, step, format, 97).unwrap(), records);
            }
        }
    }

    #[test]
    fn binary_records_may_hold_any_byte() {
        let mut bytes = Vec::new();
        write_record(&mut bytes, Format::LengthPrefixed, b"\n\0\xff\n").unwrap();
        write_record(&mut bytes, Format::LengthPrefixed, b"").unwrap();
        assert_eq!(all(&bytes, 1, Format::LengthPrefixed, 8).unwrap(), [&b"\n\0\xff\n"[..], b""]);
    }

    #[test]
    fn truncated_and_oversized_records_are_named_by_number() {
        let mut bytes = Vec::new();
        write_record(&mut bytes, Format::LengthPrefixed, b"whole").unwrap();
        bytes.extend_from_slice(&[9, 0, 0, 0, b'c', b'u', b't']);
        let error = all(&bytes, 5, Format::LengthPrefixed, 64).unwrap_err();
        assert!(matches!(error, FramingError::Truncated { number: 2, have: 7, want: 13 }), "{error:?}");
        let error = all(&[1, 0], 5, Format::LengthPrefixed, 64).unwrap_err();
        assert!(matches!(error, FramingError::Truncated { number: 1, have: 2, want: 4 }), "{error:?}");
        let error = all(&[255; 8], 5, Format::LengthPrefixed, 64).unwrap_err();
        assert!(matches!(error, FramingError::TooLong { number: 1, .. }), "{error:?}");
    }
}
