use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::*;

fn print<T: de::DeserializeOwned>() -> Fingerprint {
    let (fingerprint, unreadable) = of::<T>();
    assert_eq!(unreadable, None, "{}", core::any::type_name::<T>());
    fingerprint
}

mod theirs {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Quote {
        pub(super) name: String,
        pub(super) rate: f64,
    }
}

#[derive(Serialize, Deserialize)]
struct Price {
    symbol: String,
    price: f64,
}

#[derive(Serialize, Deserialize)]
struct Wide {
    symbol: String,
    price: f32,
}

#[derive(Serialize, Deserialize)]
enum Order {
    Cancel,
    Buy(u32),
    Sell { amount: u64, limit: Option<f64> },
}

#[derive(Serialize, Deserialize)]
enum Later {
    Cancel,
    Buy(u32),
    Sell { amount: u64, limit: Option<f32> },
}

#[derive(Serialize, Deserialize)]
struct Tree {
    value: u8,
    children: Vec<Tree>,
}

#[derive(Serialize, Deserialize)]
struct WideTree {
    value: u16,
    children: Vec<WideTree>,
}

#[derive(Serialize, Deserialize)]
enum Expr {
    Add(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Number(i64),
}

#[derive(Serialize, Deserialize)]
enum Expr32 {
    Add(Box<Expr32>, Box<Expr32>),
    Not(Box<Expr32>),
    Number(i32),
}

#[test]
fn equal_shapes_have_equal_fingerprints_whatever_they_are_called() {
    assert_eq!(print::<Price>(), print::<theirs::Quote>());
    assert_eq!(print::<Price>(), print::<(String, f64)>());
    assert_eq!(print::<HashMap<String, u8>>(), print::<BTreeMap<String, u8>>());
    assert_eq!(print::<Box<u64>>(), print::<u64>());
}

#[test]
fn different_shapes_have_different_fingerprints() {
    let prints = [
        print::<Price>(),
        print::<Wide>(),
        print::<u64>(),
        print::<i64>(),
        print::<f64>(),
        print::<NonZeroU64>(),
        print::<String>(),
        print::<Vec<u8>>(),
        print::<Vec<u16>>(),
        print::<[u8; 4]>(),
        print::<(u32, u32)>(),
        print::<(u64, u64)>(),
        print::<Option<u32>>(),
        print::<Order>(),
        print::<Later>(),
        print::<Vec<Order>>(),
        print::<(Order, Later)>(),
        print::<(Later, Order)>(),
        print::<Tree>(),
        print::<WideTree>(),
        print::<Expr>(),
        print::<Expr32>(),
        print::<()>(),
        print::<Duration>(),
        print::<IpAddr>(),
        print::<HashMap<String, u64>>(),
        print::<HashMap<u64, String>>(),
        print::<Result<u8, String>>(),
    ];
    for (at, one) in prints.iter().enumerate() {
        for (other_at, other) in prints.iter().enumerate().skip(at + 1) {
            // A number that is not zero is written like any other.
            assert_eq!(one == other, (at, other_at) == (2, 5), "{at} and {other_at}");
        }
    }
}

#[test]
fn types_that_contain_themselves_are_traced_within_bounds() {
    #[derive(Serialize, Deserialize)]
    enum Wild {
        A(Vec<Wild>, Box<Wild>, Option<Box<Wild>>),
        B(Box<Wild>, Box<Wild>),
        C(HashMap<String, Wild>),
        Leaf,
    }
    print::<Wild>();
    print::<Vec<Wild>>();
}

#[test]
fn every_variant_is_read_beside_others_that_refuse_the_samples() {
    #[derive(Debug)]
    struct Picky;

    impl<'de> Deserialize<'de> for Picky {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match String::deserialize(deserializer)?.as_str() {
                "a word that no one invents" => Ok(Self),
                _ => Err(de::Error::custom("another word")),
            }
        }
    }

    #[derive(Deserialize)]
    enum Mixed<T> {
        Picky(Picky),
        Plain(T),
    }
    assert_ne!(print::<Mixed<u8>>(), print::<Mixed<u16>>());
    assert_ne!(print::<(u8, Mixed<u8>)>(), print::<(u8, Mixed<u16>)>());
    assert_ne!(print::<(u8, Picky)>(), print::<(u16, Picky)>());
}

#[test]
fn attributes_that_postcard_cannot_read_are_found() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Untagged {
        A(u8),
    }

    #[derive(Deserialize)]
    #[serde(tag = "kind")]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Tagged {
        A { value: u8 },
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Flat {
        #[serde(flatten)]
        inner: Price,
    }
    assert_eq!(of::<Vec<Untagged>>().1, Some(Encoding::NotDescribed));
    assert_eq!(of::<Option<Tagged>>().1, Some(Encoding::NotDescribed));
    assert_eq!(of::<(u8, Flat)>().1, Some(Encoding::Flattened));
    for why in [Encoding::NotDescribed, Encoding::Flattened] {
        assert!(super::super::EncodeError(why).to_string().contains("#[serde("));
    }
}

#[test]
fn a_deserialize_that_panics_leaves_a_fingerprint() {
    struct Panics;

    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            u8::deserialize(deserializer)?;
            panic!("as the test wants");
        }
    }
    assert_eq!(print::<Panics>(), print::<Panics>());
}
