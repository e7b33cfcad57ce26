//! Maps and sets do what those of the standard library do.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeBounds,
    vec,
    vec::Vec,
};

use proptest::prelude::*;

use super::{BLOCK, OrderedMap, OrderedSet};

/// What is done to a map.
#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u32),
    /// Keys from the first one on, in steps of the second.
    Ascend(u16, u16),
    GetOrInsert(u16, u32),
    Change(u16),
    Remove(u16),
    RemoveAll(u16, u16),
    PopFirst,
    PopFirstIf(u16),
    Retain(u16, u16),
    ChangeRange(u16, u16),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..600u16;
    prop_oneof![
        8 => (key(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => (key(), 1..5u16).prop_map(|(first, by)| Step::Ascend(first, by)),
        4 => (key(), any::<u32>()).prop_map(|(key, value)| Step::GetOrInsert(key, value)),
        2 => key().prop_map(Step::Change),
        8 => key().prop_map(Step::Remove),
        2 => (key(), key()).prop_map(|(from, to)| Step::RemoveAll(from, to)),
        4 => Just(Step::PopFirst),
        2 => key().prop_map(Step::PopFirstIf),
        1 => (2..20u16, 0..20u16).prop_map(|(of, which)| Step::Retain(of, which)),
        2 => (key(), key()).prop_map(|(from, to)| Step::ChangeRange(from, to)),
        1 => Just(Step::Clear),
    ]
}

fn take_step(map: &mut OrderedMap<u16, u32>, model: &mut BTreeMap<u16, u32>, step: Step) {
    match step {
        Step::Insert(key, value) => assert_eq!(map.insert(key, value), model.insert(key, value)),
        Step::Ascend(first, by) => {
            for key in (first..).step_by(by.into()).take(3 * BLOCK) {
                assert_eq!(map.insert(key, 0), model.insert(key, 0));
            }
        }
        Step::GetOrInsert(key, value) => {
            assert_eq!(map.get_or_insert_with(key, || value), model.entry(key).or_insert(value));
        }
        Step::Change(key) => {
            map.get_mut(&key).into_iter().for_each(|value| *value /= 2);
            model.get_mut(&key).into_iter().for_each(|value| *value /= 2);
        }
        Step::Remove(key) => assert_eq!(map.remove(&key), model.remove(&key)),
        Step::RemoveAll(from, to) => {
            for key in from..to {
                assert_eq!(map.remove(&key), model.remove(&key));
            }
        }
        Step::PopFirst => assert_eq!(map.pop_first(), model.pop_first()),
        Step::PopFirstIf(below) => {
            let expected = model.first_entry().filter(|entry| *entry.key() < below);
            assert_eq!(map.pop_first_if(|key, _| *key < below), expected.map(|entry| entry.remove_entry()));
        }
        Step::Retain(of, which) => {
            let keep = |key: &u16, value: &mut u32| {
                *value = value.wrapping_add(1);
                key % of == which
            };
            map.retain(keep);
            model.retain(keep);
        }
        Step::ChangeRange(from, to) => {
            map.range_mut(from..to.max(from)).for_each(|(_, value)| *value ^= 1);
            model.range_mut(from..to.max(from)).for_each(|(_, value)| *value ^= 1);
            map.iter_mut().for_each(|(_, value)| *value ^= 2);
            map.values_mut().for_each(|value| *value ^= 4);
            model.values_mut().for_each(|value| *value ^= 6);
        }
        Step::Clear => {
            map.clear();
            model.clear();
        }
    }
}

fn check(map: &OrderedMap<u16, u32>, model: &BTreeMap<u16, u32>) {
    assert!(map.iter().eq(model), "{map:?} is not {model:?}");
    assert_eq!(
        (map.len(), map.is_empty(), map.first()),
        (model.len(), model.is_empty(), model.first_key_value())
    );
    assert!(map.blocks.iter().all(|block| (1..=BLOCK).contains(&block.len())));
    let crowded = |pair: &[Vec<_>]| pair[0].len() + pair[1].len() > BLOCK / 2;
    assert!(map.blocks.windows(2).all(crowded), "neighbours that could be one block");
}

fn check_range(map: &OrderedMap<u16, u32>, model: &BTreeMap<u16, u32>, range: impl RangeBounds<u16> + Clone) {
    assert!(map.range(range.clone()).eq(model.range(range)));
}

proptest! {
    #[test]
    fn a_map_does_what_the_map_of_the_standard_library_does(
        steps in proptest::collection::vec(step(), 0..120),
        (from, more) in (0..700u16, 0..300u16),
    ) {
        let (mut map, mut model) = (OrderedMap::new(), BTreeMap::new());
        for step in steps {
            take_step(&mut map, &mut model, step);
            check(&map, &model);
        }
        for key in 0..700 {
            prop_assert_eq!((map.get(&key), map.contains_key(&key)), (model.get(&key), model.contains_key(&key)));
        }
        let to = from + more;
        check_range(&map, &model, from..to);
        check_range(&map, &model, from..=to);
        check_range(&map, &model, from..);
        check_range(&map, &model, ..to);
        check_range(&map, &model, ..);
        let excluded = (core::ops::Bound::Excluded(from), core::ops::Bound::Excluded(to + 1));
        check_range(&map, &model, excluded);
        prop_assert!(map.keys().eq(model.keys()));
        prop_assert!(map.values().eq(model.values()));
        // In other blocks.
        let mut same: OrderedMap<_, _> = model.clone().into_iter().collect();
        prop_assert_eq!(&map, &same);
        same.insert(u16::MAX, 0);
        prop_assert_ne!(&map, &same);
        prop_assert!(map.into_iter().eq(model));
    }

    #[test]
    fn a_set_does_what_the_set_of_the_standard_library_does(
        steps in proptest::collection::vec((0..3u8, 0..200u16), 0..600),
    ) {
        let (mut set, mut model) = (OrderedSet::new(), BTreeSet::new());
        for (what, key) in steps {
            match what {
                0 => prop_assert_eq!(set.remove(&key), model.remove(&key)),
                1 if key < 20 => prop_assert_eq!(set.pop_first(), model.pop_first()),
                _ => prop_assert_eq!(set.insert(key), model.insert(key)),
            }
            prop_assert_eq!((set.first(), set.len(), set.contains(&7)), (model.first(), model.len(), model.contains(&7)));
        }
        prop_assert!(set.iter().eq(&model));
        prop_assert!(set.range(50..150).eq(model.range(50..150)));
        prop_assert!(set.into_iter().eq(model));
    }
}

#[test]
fn ascending_keys_fill_the_blocks() {
    let map: OrderedMap<usize, ()> = (0..10 * BLOCK).map(|key| (key, ())).collect();
    assert_eq!(map.blocks.len(), 10);
}

#[test]
fn a_range_that_ends_before_it_begins_is_empty() {
    let map: OrderedMap<u32, ()> = (0..100).map(|key| (key, ())).collect();
    let (from, to) = (70, 30);
    assert_eq!(map.range(from..to).count(), 0);
}

#[test]
fn nothing_is_left_when_a_filter_panics() {
    let mut map: OrderedMap<usize, ()> = (0..3 * BLOCK).map(|key| (key, ())).collect();
    let filter = std::panic::AssertUnwindSafe(|| map.retain(|key, ()| *key < 2 * BLOCK || panic!("refused")));
    assert!(std::panic::catch_unwind(filter).is_err());
    assert_eq!((map.len(), map.iter().count()), (0, 0));
}
