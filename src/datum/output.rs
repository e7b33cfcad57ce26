//! Where a codec writes the encoded form of a datum.

use std::io;

use postcard::ser_flavors::Flavor;

/// Takes the bytes of one encoded datum, keeps those that fit into its room, and counts all of them.
///
/// A codec never checks for room: a stream learns the length from a first call of
/// [`Codec::encode`](crate::Codec::encode) and, if the room was too short, calls it again with enough.
///
/// It also is an [`io::Write`], which never fails, so that a codec can use any format that has a writer:
///
/// ```
/// use corewire::{Codec, DatumOutput, DecodeError, EncodeError, Fingerprint};
///
/// /// Lists of numbers, as JSON.
/// struct Json;
///
/// impl Codec<Vec<u32>> for Json {
///     fn fingerprint() -> Fingerprint {
///         Fingerprint::of("list of u32, JSON")
///     }
///
///     fn encode(datum: &Vec<u32>, out: &mut DatumOutput<'_>) -> Result<(), EncodeError> {
///         serde_json::to_writer(out, datum).map_err(EncodeError::custom)
///     }
///
///     fn decode(bytes: &[u8]) -> Result<Vec<u32>, DecodeError> {
///         serde_json::from_slice(bytes).map_err(DecodeError::custom)
///     }
/// }
///
/// let mut room = [0; 16];
/// let mut out = DatumOutput::new(&mut room);
/// Json::encode(&vec![1, 22], &mut out)?;
/// assert_eq!(out.bytes(), Some(&b"[1,22]"[..]));
/// assert_eq!(Json::decode(b"[1,22]"), Ok(vec![1, 22]));
/// # Ok::<_, EncodeError>(())
/// ```
#[derive(Debug)]
pub struct DatumOutput<'a> {
    pub(super) room: &'a mut [u8],
    /// Bytes that were put, whether they fitted or not.
    pub(super) len: usize,
}

impl<'a> DatumOutput<'a> {
    /// An output that writes to the start of `room`. With no room it only counts.
    ///
    /// ```
    /// use corewire::{Codec, DatumOutput, Plain};
    ///
    /// let mut counts = DatumOutput::new(&mut []);
    /// <Plain as Codec<u64>>::encode(&7, &mut counts)?;
    /// assert_eq!(counts.len(), 8);
    /// # Ok::<_, corewire::EncodeError>(())
    /// ```
    #[inline]
    pub fn new(room: &'a mut [u8]) -> Self {
        Self { room, len: 0 }
    }

    /// Appends `bytes`. From the first that do not fit, the output only counts.
    ///
    /// ```
    /// let mut room = [0; 2];
    /// let mut out = corewire::DatumOutput::new(&mut room);
    /// out.put(&[1]);
    /// out.put(&[2, 3]);
    /// assert_eq!((out.len(), out.bytes()), (3, None));
    /// assert_eq!(room, [1, 0]);
    /// ```
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.room.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    /// How many bytes were put, whether they fitted or not.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was put.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What was put. `None`: it did not fit.
    #[inline]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.room.get(..self.len)
    }
}

impl io::Write for DatumOutput<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// postcard's output. By value, so that a serializer keeps position and room in registers.
pub(super) struct PostcardOutput<'a>(pub(super) DatumOutput<'a>);

impl Flavor for PostcardOutput<'_> {
    type Output = usize;

    #[inline(always)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    #[inline(always)]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put(bytes);
        Ok(())
    }

    #[inline]
    fn finalize(self) -> postcard::Result<usize> {
        Ok(self.0.len)
    }
}
