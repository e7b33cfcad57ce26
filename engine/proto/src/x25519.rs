//! X25519 (RFC 7748). `ring` cannot be used for it, because it does not accept a given secret key.

use curve25519_dalek::montgomery::MontgomeryPoint;

/// The public key of `secret`.
pub(crate) fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
}

/// The shared secret; `None` when `public` is a point of low order, which contributes nothing to it (RFC
/// 7748, 6.1).
pub(crate) fn shared_secret(secret: &[u8; 32], public: &[u8; 32]) -> Option<[u8; 32]> {
    let shared = MontgomeryPoint(*public).mul_clamped(*secret).to_bytes();
    // Reads all bytes, so that the time does not depend on them.
    let any = shared.iter().fold(0, |any, byte| any | byte);
    (any != 0).then_some(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_owners_compute_the_same_secret() {
        let (a, b) = ([1; 32], [2; 32]);
        let ab = shared_secret(&a, &public_key(&b)).unwrap();
        assert_eq!(Some(ab), shared_secret(&b, &public_key(&a)));
    }

    #[test]
    fn points_of_low_order_are_refused() {
        for point in LOW_ORDER {
            assert_eq!(shared_secret(&[9; 32], &point), None);
            let mut high_bit = point;
            high_bit[31] |= 0x80;
            assert_eq!(shared_secret(&[9; 32], &high_bit), None);
        }
    }

    const P: u8 = 0xff;

    /// The seven encodings of points of low order.
    const LOW_ORDER: [[u8; 32]; 7] = [
        [0; 32],
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
            0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
            0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
        ],
        [
            0xec, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P,
            0x7f,
        ],
        [
            0xed, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P,
            0x7f,
        ],
        [
            0xee, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P,
            0x7f,
        ],
    ];
}
