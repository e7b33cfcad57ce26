//! Values with units on the command line: rates, durations, sizes.

use std::time::Duration;

/// The longest record that a consumer on another engine takes
/// (`corewire::streams::consumer::Builder::with_window_bytes`).
pub(crate) const MAX_DATUM_BYTES: usize = 67_108_846;

/// The part of `--help` that says how values are written.
pub(crate) const UNITS_HELP: &str = "\
TIME is 500ms, 10s, 2m or 1h (a bare number: seconds); RATE is 500, 10k or 1.5M a second; SIZE is 4096,
64KiB or 1MiB (kB and MB count in thousands).";

/// Splits `1.5M/s` into its number and its unit.
fn split_number(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((number, unit.trim())),
        _ => Err(format!("`{text}` does not start with a number")),
    }
}

/// Datums per second: `500`, `10k`, `1.5M`, each with or without `/s`.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = split_number(text)?;
    let scale = match unit.strip_suffix("/s").unwrap_or(unit) {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        other => return Err(format!("unknown rate unit `{other}`; write 500, 10k or 1.5M")),
    };
    let rate = number * scale;
    if (0.001..=1e9).contains(&rate) { Ok(rate) } else { Err("a rate is between 0.001 and 1000M".into()) }
}

/// A time: `500ms`, `10s`, `2m`, `1h`; a bare number counts seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        other => return Err(format!("unknown time unit `{other}`; write 500ms, 10s, 2m or 1h")),
    };
    // One year: longer than any run, and far from overflowing the clock's arithmetic.
    if seconds <= 365.0 * 86_400.0 {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("that is longer than a year".into())
    }
}

/// A size in bytes: `4096`, `64KiB`, `1MiB`; `kB` and `MB` count in thousands.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_number(text)?;
    let scale = match unit {
        "" | "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "KiB" | "K" | "k" => 1024.0,
        "MiB" | "M" => 1024.0 * 1024.0,
        "GB" => 1e9,
        "GiB" | "G" => 1024.0 * 1024.0 * 1024.0,
        "TB" => 1e12,
        "TiB" | "T" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        other => return Err(format!("unknown size unit `{other}`; write 4096, 64KiB or 1MiB")),
    };
    // Beyond the range of `usize` it is the largest one.
    Ok((number * scale) as usize)
}

/// The size of a record: from 1 byte to [`MAX_DATUM_BYTES`].
pub(crate) fn datum_size(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    check_datum_size(bytes).map(|()| bytes)
}

/// Whether a record may have so many bytes; if not, why.
pub(crate) fn check_datum_size(bytes: usize) -> Result<(), String> {
    match bytes {
        1..=MAX_DATUM_BYTES => Ok(()),
        _ => Err(format!(
            "a record has 1 to {} bytes (64MiB less {})",
            grouped(MAX_DATUM_BYTES as u64),
            (64 << 20) - MAX_DATUM_BYTES
        )),
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Nanoseconds in the largest fitting unit: `850 ns`, `12.4 us`, `3.10 ms`, `1.20 s`.
pub(crate) fn time(nanoseconds: u64) -> String {
    let ns = nanoseconds as f64;
    let (value, unit) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (ns / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    if value < 9.995 {
        format!("{value:.2} {unit}")
    } else if value < 99.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// Reads the address of a peer: `10.0.0.1:7411`, `[::1]:7411` or `host:7411`.
pub(crate) fn peer(text: &str) -> Result<String, String> {
    let is_address = text.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() != 0);
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(':'));
    if is_address || port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0)) {
        return Ok(text.to_owned());
    }
    Err("an address with a port is needed, like 10.0.0.1:7411, [::1]:7411 or host.example:7411".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_and_without_units() {
        assert_eq!(rate("500"), Ok(500.0));
        assert_eq!(rate("10k"), Ok(10_000.0));
        assert_eq!(rate("1.5M/s"), Ok(1_500_000.0));
        assert!(rate("fast").is_err());
        assert!(rate("10x").is_err());
        assert!(rate("0").is_err());
        assert!(rate("-1").is_err());
    }

    #[test]
    fn durations_are_read_with_and_without_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert!(duration("").is_err());
        assert!(duration("1e99h").is_err());
        assert!(duration("999999999h").is_err());
    }

    #[test]
    fn sizes_are_read_in_both_scales() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1MiB"), Ok(1_048_576));
        assert_eq!(size("2kB"), Ok(2_000));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("18446744073709551615TiB"), Ok(usize::MAX));
        assert!(size("1QiB").is_err());
    }

    #[test]
    fn size_of_a_record_ends_where_a_consumer_takes_no_more() {
        assert_eq!(datum_size("67108846"), Ok(MAX_DATUM_BYTES));
        for bad in ["0", "67108847", "64MiB", "1GiB", "16TiB"] {
            let error = datum_size(bad).unwrap_err();
            assert!(error.contains("67,108,846"), "{bad}: {error}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }

    #[test]
    fn times_keep_three_digits_and_a_fitting_unit() {
        assert_eq!(time(850), "850 ns");
        assert_eq!(time(1_234), "1.23 us");
        assert_eq!(time(12_345), "12.3 us");
        assert_eq!(time(999_960), "1000 us");
        assert_eq!(time(3_100_000), "3.10 ms");
        assert_eq!(time(1_200_000_000), "1.20 s");
    }

    #[test]
    fn peer_has_an_address_or_name_and_a_port() {
        for good in ["10.0.0.1:7411", "[::1]:7411", "[fe80::1%2]:1", "host:7411"] {
            assert_eq!(peer(good).as_deref(), Ok(good));
        }
        for bad in ["10.0.0.1", "::1", "[::1]", "host", "host:", ":7411", "host:0", "1.2.3.4:0", "host:http"]
        {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }
}
