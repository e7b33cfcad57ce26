//! The addresses of this host's interfaces, and notices of their change.

use std::{
    ffi::CStr,
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::{address::RawAddress, check};

/// Groups of `NETLINK_ROUTE` whose messages tell that interfaces or addresses have changed.
const CHANGES: libc::c_int = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;

/// One address of an interface that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceAddress {
    /// The interface's name.
    pub(crate) name: String,
    /// The interface's number.
    pub(crate) index: u32,
    /// The address.
    pub(crate) ip: IpAddr,
    /// It is the loopback interface.
    pub(crate) is_loopback: bool,
    /// It carries multicast, as the system sees it. The loopback interface does, though it is not marked so.
    pub(crate) has_multicast: bool,
}

/// All addresses of interfaces that are up.
pub(crate) fn interface_addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut first = std::ptr::null_mut();
    // SAFETY: `first` is writable; on success it is a list that `freeifaddrs` below frees.
    check(unsafe { libc::getifaddrs(&mut first) })?;
    let mut found = Vec::new();
    let mut next = first;
    // SAFETY: `next` is null or an entry of the list, which is not freed before the loop has ended.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        let flags = entry.ifa_flags;
        let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
        // SAFETY: the pointer is null, or points to an address of the family that it begins with.
        let address = unsafe { ip_of(entry.ifa_addr) };
        let (true, Some(ip)) = (has(libc::IFF_UP), address) else { continue };
        // SAFETY: the name is a string that lives as long as the list.
        let (name, index) = unsafe { (CStr::from_ptr(entry.ifa_name), libc::if_nametoindex(entry.ifa_name)) };
        let is_loopback = has(libc::IFF_LOOPBACK);
        found.push(InterfaceAddress {
            name: name.to_string_lossy().into_owned(),
            index,
            ip,
            is_loopback,
            has_multicast: is_loopback || has(libc::IFF_MULTICAST),
        });
    }
    // SAFETY: the list came from `getifaddrs`, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// The address at `raw`, if it is one of IP.
///
/// # Safety
///
/// `raw` is null, or points to an address whose length follows from its family.
unsafe fn ip_of(raw: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise; every address begins with its family.
    let family = libc::c_int::from(unsafe { raw.as_ref() }?.sa_family);
    let len = match family {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    // SAFETY: the caller's promise: an address of this family has this length.
    let bytes = unsafe { std::slice::from_raw_parts(raw.cast::<u8>(), len) };
    RawAddress::from_bytes(bytes).get().map(|address| address.ip())
}

/// Becomes readable when interfaces or their addresses have changed.
#[derive(Debug)]
pub(crate) struct InterfaceChanges(OwnedFd);

impl InterfaceChanges {
    pub(crate) fn watch() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
        // SAFETY: the descriptor was just made and has no other owner.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: every field of a `sockaddr_nl` may be zero.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = CHANGES.cast_unsigned();
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: `address` is readable for `len` bytes, which are an address of the socket's family.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), len) })?;
        Ok(Self(socket))
    }

    /// Takes all notices; whether there was one. What they say is read anew from the system.
    pub(crate) fn take(&self) -> bool {
        let mut any = false;
        let mut notice = [0u8; 4_096];
        loop {
            // SAFETY: `notice` is writable for its length.
            let len = unsafe { libc::recv(self.0.as_raw_fd(), notice.as_mut_ptr().cast(), notice.len(), 0) };
            // An overflow is a notice too: some were dropped.
            let overflow = len < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS);
            if len <= 0 && !overflow {
                return any;
            }
            any = true;
        }
    }
}

impl AsFd for InterfaceChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found() {
        let found = interface_addresses().unwrap();
        let loopback = found.iter().find(|one| one.ip == IpAddr::from([127, 0, 0, 1])).unwrap();
        assert!(loopback.is_loopback && loopback.has_multicast && loopback.index > 0);
        assert!(found.iter().all(|one| one.is_loopback == one.ip.is_loopback() || one.name == loopback.name));
    }
}
