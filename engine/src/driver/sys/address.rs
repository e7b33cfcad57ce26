//! Socket addresses in the kernel's form. Not inside: name resolution.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for the address of a UDP peer: the larger of the two families.
pub(in crate::driver) const ADDRESS_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// An address as the kernel reads and writes it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in crate::driver) union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    bytes: [u8; ADDRESS_BYTES],
}

impl RawAddress {
    /// All zero: no family.
    pub(in crate::driver) const NONE: Self = Self { bytes: [0; ADDRESS_BYTES] };

    /// The kernel's form of `address`, and how many bytes of it count.
    pub(in crate::driver) fn new(address: SocketAddr) -> (Self, libc::socklen_t) {
        match address {
            SocketAddr::V4(v4) => {
                let v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                let mut raw = Self::NONE;
                raw.v4 = v4;
                (raw, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                let v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                (Self { v6 }, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// Takes the bytes that the kernel wrote in front of a datagram.
    pub(in crate::driver) fn from_bytes(bytes: &[u8]) -> Self {
        let mut raw = [0; ADDRESS_BYTES];
        let len = bytes.len().min(ADDRESS_BYTES);
        raw[..len].copy_from_slice(&bytes[..len]);
        Self { bytes: raw }
    }

    /// The address, if it is one of IP. An IPv4 address that an IPv6 socket sees mapped is given in its own
    /// form, so that a peer has one address whichever socket it is heard on.
    pub(in crate::driver) fn get(&self) -> Option<SocketAddr> {
        // SAFETY: every bit pattern is a valid integer, and both members begin with the family.
        let family = unsafe { self.v4.sin_family };
        match libc::c_int::from(family) {
            libc::AF_INET => {
                // SAFETY: every bit pattern is a valid `sockaddr_in`.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: every bit pattern is a valid `sockaddr_in6`.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                if let Some(ip) = ip.to_ipv4_mapped() {
                    return Some(SocketAddrV4::new(ip, port).into());
                }
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// The address in the form in which its packets are seen to come: an IPv4 address is not mapped.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_the_kernel_and_back() {
        for text in ["127.0.0.1:9", "255.254.253.1:65535", "[::1]:1", "[fe80::1%3]:4242"] {
            let address: SocketAddr = text.parse().unwrap();
            let (raw, len) = RawAddress::new(address);
            assert_eq!(raw.get(), Some(address));
            // SAFETY: every bit pattern is a valid byte array.
            let bytes = unsafe { raw.bytes };
            assert_eq!(RawAddress::from_bytes(&bytes[..len as usize]).get(), Some(address));
        }
        let (mapped, _) = RawAddress::new("[::ffff:10.1.2.3]:9".parse().unwrap());
        assert_eq!(mapped.get(), Some("10.1.2.3:9".parse().unwrap()));
        assert_eq!(RawAddress::NONE.get(), None);
        assert_eq!(RawAddress::from_bytes(&[]).get(), None);
    }
}
