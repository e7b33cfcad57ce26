//! Receive memory: equal buffers that the kernel fills and the driver lends to its callback.

use std::{io, ptr::NonNull};

use super::Mapping;

/// `count` buffers of `stride` bytes.
///
/// The stride is an odd number of cache lines, so that the first lines of the buffers, the only ones that
/// small datagrams touch, fall into different sets of the cache.
#[derive(Debug)]
pub(crate) struct ReceiveBuffers {
    memory: Mapping,
    count: u16,
    stride: usize,
}

impl ReceiveBuffers {
    /// Maps `count` buffers of at least `bytes` each.
    pub(crate) fn new(count: u16, bytes: usize, huge: bool) -> io::Result<Self> {
        assert!(count > 0);
        let lines = bytes.div_ceil(64) | 1;
        let stride = lines * 64;
        Ok(Self { memory: Mapping::new(usize::from(count) * stride, huge)?, count, stride })
    }

    /// The usable length of each.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The length of all.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Where buffer `index` begins.
    pub(crate) fn pointer(&self, index: u16) -> NonNull<u8> {
        assert!(index < self.count);
        // SAFETY: the mapping holds `count` buffers of `stride` bytes and `index` is below `count`.
        unsafe { self.memory.base().add(usize::from(index) * self.stride) }
    }

    /// The contents of buffer `index`.
    ///
    /// # Safety
    ///
    /// The kernel must have given this buffer back, and must not get it again while the slice lives.
    pub(crate) unsafe fn slice(&mut self, index: u16) -> &mut [u8] {
        // SAFETY: `pointer` checked the index; the memory is initialised, because the mapping is zeroed; the
        // caller promises that the kernel does not write it, and `&mut self` excludes every other access.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(index).as_ptr(), self.stride) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_do_not_overlap_and_begin_on_odd_lines_apart() {
        let mut buffers = ReceiveBuffers::new(4, 65_664, false).unwrap();
        assert_eq!(buffers.stride() / 64 % 2, 1);
        for index in 0..4 {
            // SAFETY: no kernel is involved.
            unsafe { buffers.slice(index) }.fill(index as u8 + 1);
        }
        for index in 0..4 {
            // SAFETY: no kernel is involved.
            assert!(unsafe { buffers.slice(index) }.iter().all(|&byte| byte == index as u8 + 1));
        }
    }
}
