//! Signed peer records, and the catalogue that keeps them.

#![no_main]

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use corewire_proto::{
    NetworkId, PeerId,
    identity::Identity,
    membership::{Catalog, CatalogConfig, MAX_RECORD_BYTES, SignedRecord},
};
use libfuzzer_sys::fuzz_target;

const NETWORK: NetworkId = NetworkId([0x11; 32]);

#[derive(Arbitrary, Debug)]
enum Input {
    /// Raw bytes.
    Raw(Vec<u8>),
    /// Bodies that peers have signed as they are, with their source and the time.
    Signed(Vec<(u8, Vec<u8>, u8, u32)>),
}

fn identity(n: u8) -> &'static Identity {
    static IDENTITIES: OnceLock<[Identity; 4]> = OnceLock::new();
    &IDENTITIES.get_or_init(|| [0, 1, 2, 3].map(|n| Identity::from_seed(&[n; 32])))[usize::from(n % 4)]
}

fn check(bytes: &[u8]) -> Option<SignedRecord> {
    let record = SignedRecord::verify(bytes, &NETWORK).ok()?;
    assert!(bytes.len() <= MAX_RECORD_BYTES && record.bytes() == bytes);
    assert!(SignedRecord::verify(bytes, &NetworkId([0x12; 32])).is_err());
    Some(record)
}

fuzz_target!(|input: Input| {
    match input {
        Input::Raw(bytes) => {
            check(&bytes);
        }
        Input::Signed(bodies) => {
            let config = CatalogConfig { max_records: 3, max_bytes: 4_096 };
            let mut catalog = Catalog::new(config);
            for (peer, body, source, now_s) in bodies.into_iter().take(16) {
                let identity = identity(peer);
                let mut bytes = vec![2];
                bytes.extend_from_slice(identity.public_key());
                bytes.extend_from_slice(&body);
                let message = [b"corewire v1 peer record\0".as_slice(), NETWORK.as_bytes(), &bytes].concat();
                bytes.extend_from_slice(&identity.sign(&message));
                let Some(record) = check(&bytes) else { continue };
                // An accepted record is the canonical encoding of its content.
                let again = SignedRecord::sign(identity, &NETWORK, record.record().clone());
                assert_eq!(again.as_ref(), Ok(&record));
                catalog.insert(record, PeerId([source; 32]), u64::from(now_s), u64::from(source));
                assert!(catalog.len() <= config.max_records && catalog.bytes() <= config.max_bytes);
            }
        }
    }
});
