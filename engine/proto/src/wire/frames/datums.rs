//! The datums of a DATA frame.

use crate::wire::datum_cost;

/// Iterator over the datums of a DATA frame. It ends early when the body is shorter than announced, which
/// [`Datums::is_whole`] detects.
#[derive(Clone, Copy, Debug)]
pub struct Datums<'a> {
    /// Datums not taken yet.
    left: u32,
    /// Length of each when uniform; [`Datums::VARIED`] when each carries its own.
    uniform: usize,
    body: &'a [u8],
}

impl<'a> Datums<'a> {
    const VARIED: usize = usize::MAX;

    pub(crate) fn new(count: u32, uniform: bool, body: &'a [u8]) -> Option<Self> {
        let uniform = if uniform {
            if count == 0 || !body.len().is_multiple_of(count as usize) {
                return None;
            }
            body.len() / count as usize
        } else {
            Self::VARIED
        };
        Some(Self { left: count, uniform, body })
    }

    /// Datums not taken yet.
    pub const fn len(&self) -> u32 {
        self.left
    }

    /// Whether every datum was taken.
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Whether all have the same length and follow each other directly.
    pub const fn is_uniform(&self) -> bool {
        self.uniform != Self::VARIED
    }

    /// The length that all datums have, if they follow each other directly.
    pub(crate) const fn uniform_len(&self) -> Option<usize> {
        if self.is_uniform() { Some(self.uniform) } else { None }
    }

    /// The bytes of the datums not taken yet.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Passes over `count` datums and returns their cost in the offset space; `None` when the body ends
    /// early. Takes constant time in a uniform run, so that a small frame cannot cost much.
    pub(crate) fn advance(&mut self, count: u32) -> Option<u64> {
        if self.is_uniform() {
            self.left = self.left.checked_sub(count)?;
            let (_, rest) = self.body.split_at_checked(self.uniform.checked_mul(count as usize)?)?;
            self.body = rest;
            return Some(u64::from(count) * datum_cost(self.uniform));
        }
        let mut cost = 0;
        for _ in 0..count {
            cost += datum_cost(self.next()?.len());
        }
        Some(cost)
    }

    /// Whether the body holds exactly the datums that were announced; walks through a run that is not
    /// uniform.
    pub fn is_whole(mut self) -> bool {
        if self.is_uniform() {
            return self.body.len() == self.uniform * self.left as usize;
        }
        while self.left > 0 {
            if self.next().is_none() {
                return false;
            }
        }
        self.body.is_empty()
    }
}

impl<'a> Iterator for Datums<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let len = if self.is_uniform() {
            self.uniform
        } else {
            let (len, rest) = self.body.split_first_chunk::<2>()?;
            self.body = rest;
            usize::from(u16::from_le_bytes(*len))
        };
        let (datum, rest) = self.body.split_at_checked(len)?;
        self.body = rest;
        Some(datum)
    }
}
