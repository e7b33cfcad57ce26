use core::time::Duration;
use std::vec;

use super::*;

const PACKET: usize = 1_200;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// One round trip of 10 ms in which the whole window is acknowledged.
fn round(controller: &mut dyn Controller, trip: u64) {
    let mut left = controller.window();
    while left > 0 {
        let bytes = left.min(PACKET as u64);
        left -= bytes;
        controller.handle_ack(at(trip * 10 + 10), at(trip * 10), bytes, 10_000_000, true);
    }
}

#[test]
fn both_controllers_double_before_loss_and_decrease_once_per_round() {
    for choice in [Congestion::NewReno, Congestion::Cubic] {
        let mut controller = choice.controller(PACKET);
        let start = controller.window();
        assert_eq!(start, 12_000);
        round(&mut *controller, 0);
        assert_eq!(controller.window(), 2 * start);
        let before = controller.window();
        controller.handle_loss(at(30), at(25));
        let after = controller.window();
        assert!(after < before && after >= before / 2);
        controller.handle_loss(at(31), at(29));
        assert_eq!(controller.window(), after, "packets sent before the step back belong to it");
        controller.handle_loss(at(60), at(45));
        assert!(controller.window() < after);
        for trip in 10..60 {
            controller.handle_loss(at(trip * 100), at(trip * 100 - 1));
        }
        assert_eq!(controller.window(), 2 * PACKET as u64);
    }
}

#[test]
fn unused_window_does_not_grow() {
    for choice in [Congestion::NewReno, Congestion::Cubic] {
        let mut controller = choice.controller(PACKET);
        let start = controller.window();
        controller.handle_ack(at(10), at(0), 1_200, 10_000_000, false);
        assert_eq!(controller.window(), start);
    }
}

#[test]
fn cubic_returns_to_its_old_window_and_goes_beyond() {
    let mut cubic = Congestion::Cubic.controller(PACKET);
    for trip in 0..6 {
        round(&mut *cubic, trip);
    }
    let before = cubic.window();
    cubic.handle_loss(at(100), at(99));
    assert_eq!(cubic.window(), before * 7 / 10);
    let mut back = None;
    for trip in 11..2_000 {
        let last = cubic.window();
        round(&mut *cubic, trip);
        assert!(cubic.window() >= last && cubic.window() <= last + last / 2 + PACKET as u64);
        if back.is_none() && cubic.window() >= before {
            back = Some(trip);
        }
    }
    // K = cbrt(0.3 * 640 packets / 0.4) = 7.8 s, or earlier on the Reno-friendly line.
    assert!(back.is_some_and(|trip| (200..=900).contains(&trip)), "{back:?}");
    assert!(cubic.window() > before * 3 / 2);
}

#[test]
fn pacing_bounds_bursts_and_keeps_the_rate() {
    let mut pacer = Pacer::new(PACKET, at(0));
    pacer.set_rate(Some(10_000_000));
    let mut now = at(0);
    let mut sent = vec![];
    while now < at(1_000) {
        match pacer.check(now) {
            Ok(()) => {
                pacer.handle_sent(PACKET as u64);
                sent.push(now);
            }
            Err(again) => {
                assert!(again > now);
                now = again;
            }
        }
    }
    let bytes = sent.len() * PACKET;
    assert!((9_900_000..10_100_000).contains(&bytes), "{bytes}");
    let burst = sent.iter().filter(|t| **t == at(0)).count();
    assert_eq!(burst, 16);
    for window in sent.windows(64) {
        assert!(window[63] - window[0] > Duration::from_millis(1));
    }
}

#[test]
fn packets_that_are_not_paced_leave_a_debt_of_one_burst_at_most() {
    for rate in [None, Some(250_000), Some(1_000_000_000)] {
        let mut pacer = Pacer::new(PACKET, at(0));
        pacer.set_rate(rate);
        for _ in 0..100_000 {
            pacer.handle_sent(100);
        }
        pacer.set_rate(Some(250_000));
        // Two bursts are 154 ms at this rate.
        assert_eq!(pacer.check(at(200)), Ok(()), "{rate:?}");
    }
}

#[test]
fn unlimited_has_no_window_and_fixed_rate_keeps_its_rate() {
    let mut fixed = Congestion::Fixed { bytes_per_second: 5 }.controller(PACKET);
    fixed.handle_loss(at(1), at(0));
    assert_eq!((fixed.window(), fixed.rate(1)), (u64::MAX, Some(5)));
    let unlimited = Congestion::Unlimited.controller(PACKET);
    assert_eq!((unlimited.window(), unlimited.rate(1)), (u64::MAX, None));
}

#[test]
fn slowest_and_fastest_rates_are_kept() {
    for (rate, hours) in [(1u64, 10_000u64), (100_000_000_000, 0)] {
        let mut pacer = Pacer::new(PACKET, at(0));
        pacer.set_rate(Some(rate));
        let (end, mut now, mut bytes) = (at(hours * 3_600_000 + 20), at(0), 0);
        while now < end {
            match pacer.check(now) {
                Ok(()) => {
                    pacer.handle_sent(PACKET as u64);
                    bytes += PACKET as u64;
                }
                Err(again) => now = again,
            }
        }
        let seconds = end.as_nanos() as f64 / 1e9;
        let kept = bytes as f64 / (rate as f64 * seconds);
        assert!((0.9..1.1).contains(&kept), "{rate}: {kept}");
    }
}

#[test]
fn cubic_does_not_grow_for_time_in_which_its_window_was_not_used() {
    let grown = |hour_of_light_use: bool| {
        let mut cubic = Congestion::Cubic.controller(PACKET);
        for trip in 0..6 {
            round(&mut *cubic, trip);
        }
        cubic.handle_loss(at(100), at(99));
        for trip in 11..20 {
            round(&mut *cubic, trip);
        }
        let mut trip = 20;
        if hour_of_light_use {
            for _ in 0..3_600 {
                trip += 100;
                cubic.handle_ack(at(trip * 10 + 10), at(trip * 10), 1_200, 10_000_000, false);
            }
        }
        let before = cubic.window();
        for next in trip..trip + 5 {
            round(&mut *cubic, next);
        }
        cubic.window() - before
    };
    let (without, with) = (grown(false), grown(true));
    assert!(with <= without + PACKET as u64, "{with} bytes after light use, {without} without");
}

#[test]
fn cubic_starts_over_from_below_after_persistent_loss() {
    let mut cubic = Congestion::Cubic.controller(PACKET);
    cubic.handle_loss(at(1), at(0));
    let threshold = cubic.window();
    for trip in 1..2_000 {
        round(&mut *cubic, trip);
    }
    assert!(cubic.window() > 20 * threshold, "{}", cubic.window());
    cubic.handle_persistent_loss();
    assert_eq!(cubic.window(), 2 * PACKET as u64);
    for trip in 2_000..2_020 {
        let before = cubic.window();
        round(&mut *cubic, trip);
        assert!(cubic.window() <= 2 * before + PACKET as u64, "{} after {before}", cubic.window());
    }
}
