//! An anonymous mapping: page-aligned, zeroed, with huge pages where the kernel grants them.

use std::{io, ptr::NonNull};

/// Private anonymous memory, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The first byte.
    base: NonNull<u8>,
    /// The length, a whole number of pages.
    bytes: usize,
}

impl Mapping {
    /// Maps at least `bytes` zeroed bytes. With `huge`, asks for transparent huge pages; a refusal is
    /// ignored.
    ///
    /// A forked child does not see the mapping: after a copy-on-write the kernel would write into pages that
    /// the parent no longer has.
    pub(crate) fn new(bytes: usize, huge: bool) -> io::Result<Self> {
        let bytes = bytes.max(1).next_multiple_of(4096);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the range is exactly the mapping made above; both pieces of advice leave its contents
        // alone.
        unsafe {
            libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_DONTFORK);
            if huge {
                libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
            }
        }
        Ok(Self { base, bytes })
    }

    /// The first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The length, a whole number of pages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and is unmapped only here. By the module's invariant the
        // kernel holds no pointer into it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_zeroed_whole_pages() {
        let mapping = Mapping::new(5000, true).unwrap();
        assert_eq!(mapping.bytes(), 8192);
        assert_eq!(mapping.base().as_ptr() as usize % 4096, 0);
        // SAFETY: the mapping is 8192 readable bytes, written by no one during the test.
        let bytes = unsafe { std::slice::from_raw_parts(mapping.base().as_ptr(), mapping.bytes()) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }
}
