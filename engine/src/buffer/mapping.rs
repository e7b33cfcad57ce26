//! An anonymous mapping: page-aligned, zeroed, huge pages where the kernel likes.

use std::{io, ptr::NonNull};

/// Private anonymous memory, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// Maps at least `bytes` zeroed bytes. With `huge`, asks for transparent huge pages; a refusal is ignored,
    /// since the memory works either way.
    ///
    /// A forked child does not see the mapping: the kernel would write into the parent's packets only, and
    /// copy-on-write would tear the two apart.
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
        // SAFETY: the range is exactly the mapping made above; both pieces of advice leave its contents alone.
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
        // SAFETY: the range was mapped by `new` and nobody else unmaps it; whoever hands pointers into it to the
        // kernel keeps the mapping until they are back (see the module's law).
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
        // SAFETY: the mapping is 8192 readable bytes that nobody writes.
        let bytes = unsafe { std::slice::from_raw_parts(mapping.base().as_ptr(), mapping.bytes()) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }
}
