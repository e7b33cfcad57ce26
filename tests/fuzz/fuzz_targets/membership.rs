//! Beacons and membership packets: raw bytes, and plaintexts as a member may have sealed them.

#![no_main]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arbitrary::Arbitrary;
use corewire_proto::{
    NetworkId, PeerId,
    beacon::{Beacon, BeaconConfig, BeaconError},
    handshake::NetworkSecret,
    identity::Identity,
    membership::{Catalog, CatalogConfig, PeerRecord, RecordVersion, SignedRecord, TransportKeyEntry},
    swim::{CatalogBook, MAX_SWIM_BYTES, PERIOD, Swim, SwimConfig, SwimError},
    time::Instant,
};
use libfuzzer_sys::fuzz_target;

const NETWORK: NetworkId = NetworkId([0x11; 32]);
const MEMBERS_MAX: usize = 4;

#[derive(Arbitrary, Debug)]
enum Input {
    Beacon(Vec<u8>),
    Packet(Vec<u8>),
    BeaconPlaintexts(Vec<Vec<u8>>),
    /// Each with the length of its packet.
    PacketPlaintexts(Vec<(Vec<u8>, u16)>),
}

fn record(n: u8) -> SignedRecord {
    let record = PeerRecord {
        peer_id: PeerId::default(),
        identity_key: [0; 32],
        transport_keys: vec![TransportKeyEntry { key: [9; 32], validity: 0 }],
        addresses: vec![SocketAddr::from(([10, 0, 0, n], 4_000))],
        tags: Vec::new(),
        streams: Vec::new(),
        version: RecordVersion { incarnation: 1, sequence: 1 },
        lifetime_s: 60,
        leaving: false,
    };
    SignedRecord::sign(&Identity::from_seed(&[n; 32]), &NETWORK, record).expect("it is valid")
}

fuzz_target!(|input: Input| {
    let key = NetworkSecret::of_public_network(&NETWORK).beacon_key(&NETWORK);
    let (own, other) = (record(1), record(2));
    let now = Instant::from_nanos(1_000_000_000);
    let id = own.record().peer_id;
    let mut beacon = Beacon::new(
        now,
        id,
        BeaconConfig { key: key.clone(), incarnation: 1, seed: [3; 32], max_peers: MEMBERS_MAX },
    );
    beacon.announce(now, &own);
    let mut records = Catalog::new(CatalogConfig { max_records: MEMBERS_MAX, max_bytes: 1 << 16 });
    records.insert(other.clone(), id, 1, 0);
    let book = CatalogBook { records: &records, own: Some(&own), now_s: 1 };
    let config = SwimConfig {
        identity: Arc::new(Identity::from_seed(&[1; 32])),
        key,
        seed: [3; 32],
        max_members: MEMBERS_MAX,
        period: PERIOD,
    };
    let mut swim = Swim::new(now, config);
    swim.announce(now, &own, &book);
    swim.learned(now, &other, 0, false);
    let from = SocketAddr::from(([10, 0, 0, 2], 4_000));
    match input {
        Input::Beacon(bytes) => {
            assert!(matches!(beacon.handle_datagram(now, &bytes), Err(BeaconError::Foreign)));
        }
        Input::Packet(bytes) => {
            assert_eq!(swim.handle_packet(now, from, &bytes, &book), Err(SwimError::Foreign));
        }
        Input::BeaconPlaintexts(plaintexts) => {
            for plain in plaintexts {
                let _ = beacon.handle_plaintext(now, &plain);
                assert!(beacon.believed() <= MEMBERS_MAX);
            }
        }
        Input::PacketPlaintexts(plaintexts) => {
            let mut now = now;
            for (plain, room) in plaintexts {
                now += Duration::from_millis(u64::from(room));
                let room = usize::from(room).min(MAX_SWIM_BYTES);
                let _ = swim.handle_plaintext(now, from, (&plain, room), &book);
                swim.handle_timeout(now, &book);
                while let Some((_, packet)) = swim.poll_transmit() {
                    assert!(packet.len() <= MAX_SWIM_BYTES);
                }
                while swim.poll_event().is_some() {}
                assert!(swim.len() <= MEMBERS_MAX);
            }
        }
    }
});
