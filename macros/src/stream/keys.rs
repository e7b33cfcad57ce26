//! The keys of a definition: which builder each configures, and how it may be written.

use core::fmt;

/// One of the two ends of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Producer,
    Consumer,
}

impl Side {
    /// The side that this word names, before a stream or before a key.
    pub(super) fn named(word: &str) -> Option<Self> {
        match word {
            "producer" => Some(Self::Producer),
            "consumer" => Some(Self::Consumer),
            _ => None,
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Producer => Self::Consumer,
            Self::Consumer => Self::Producer,
        }
    }
}

/// The word in the source.
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        })
    }
}

/// A key and the methods of the builders that it calls. A key of both sides has both methods.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    producer: Option<&'static str>,
    consumer: Option<&'static str>,
    /// Without a prefix it configures producers only, although consumers have it too.
    producer_by_default: bool,
    /// May be given several times: each call adds to the ones before.
    pub(super) stackable: bool,
}

impl Key {
    const fn of_producers(name: &'static str, method: &'static str) -> Self {
        Self { consumer: None, ..Self::of_both(name, method) }
    }

    const fn of_consumers(name: &'static str, method: &'static str) -> Self {
        Self { producer: None, ..Self::of_both(name, method) }
    }

    const fn of_both(name: &'static str, method: &'static str) -> Self {
        Self {
            name,
            producer: Some(method),
            consumer: Some(method),
            producer_by_default: false,
            stackable: false,
        }
    }

    const fn stackable(self) -> Self {
        Self { stackable: true, ..self }
    }

    /// The method of this side's builder.
    pub(super) const fn method(&self, side: Side) -> Option<&'static str> {
        match side {
            Side::Producer => self.producer,
            Side::Consumer => self.consumer,
        }
    }

    /// Whether the key configures this side when it has no prefix.
    pub(super) const fn configures(&self, side: Side) -> bool {
        self.method(side).is_some() && !(self.producer_by_default && matches!(side, Side::Consumer))
    }
}

/// All keys, except [`CODEC`].
const KEYS: &[Key] = &[
    Key::of_producers("max_consumers", "with_max_consumers"),
    Key {
        name: "buffer_size",
        producer: Some("with_buffer_size"),
        consumer: Some("with_window_datums"),
        producer_by_default: true,
        stackable: false,
    },
    Key::of_producers("max_bandwidth", "with_max_bandwidth"),
    Key::of_producers("buffer_bytes", "with_buffer_bytes"),
    Key::of_producers("max_datum_bytes", "with_max_datum_bytes"),
    Key::of_producers("disconnect_lagging", "disconnect_lagging"),
    Key::of_producers("resume_for", "resume_for"),
    Key::of_producers("on_full", "on_full"),
    Key::of_producers("degrader", "degrader"),
    Key::of_producers("fairness_weight", "fairness_weight"),
    Key::of_producers("key", "with_key"),
    Key::of_producers("undelivered_sink", "with_undelivered_sink"),
    Key::of_consumers("criteria", "with_criteria"),
    Key::of_consumers("prefer", "prefer"),
    Key::of_consumers("backoff", "with_backoff"),
    Key::of_consumers("window_bytes", "with_window_bytes"),
    Key::of_consumers("window_datums", "with_window_datums"),
    Key::of_both("require", "require").stackable(),
    Key::of_both("require_ticket", "require_ticket").stackable(),
    Key::of_both("online_when", "online_when"),
    Key::of_both("reliability", "reliability"),
];

/// The key whose value is a type: the codec of both sides.
pub(super) const CODEC: &str = "codec";

/// The key with this name, or why there is none.
pub(super) fn find(name: &str) -> Result<&'static Key, String> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Ok(key);
    }
    let names = || KEYS.iter().map(|key| key.name).chain([CODEC]);
    match names().find(|known| is_close(name, known)) {
        Some(known) => Err(format!("unknown key `{name}`; did you mean `{known}`?")),
        None => {
            let all: Vec<_> = names().map(|known| format!("`{known}`")).collect();
            Err(format!("unknown key `{name}`; the keys are {}", all.join(", ")))
        }
    }
}

/// Whether `name` is a key, the codec included.
pub(super) fn is_key(name: &str) -> bool {
    name == CODEC || KEYS.iter().any(|key| key.name == name)
}

/// Whether `written` may be a slip for `known`: the name of the builder's method, or at most two letters
/// added, left out or replaced.
fn is_close(written: &str, known: &str) -> bool {
    written.strip_prefix("with_") == Some(known) || distance(written, known) <= 2
}

/// The number of letters to add, to leave out or to replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &b) in b.iter().enumerate() {
            let cost = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{Side, distance, find};

    #[test]
    fn distance_counts_changed_letters() {
        for (a, b, letters) in [("", "abc", 3), ("abc", "abc", 0), ("abc", "axc", 1), ("abc", "bcd", 2)] {
            assert_eq!(distance(a, b), letters, "{a} {b}");
            assert_eq!(distance(b, a), letters, "{b} {a}");
        }
    }

    #[test]
    fn slips_are_answered_with_the_key_that_was_meant() {
        for (written, meant) in
            [("max_consumer", "max_consumers"), ("with_backoff", "backoff"), ("online_wen", "online_when")]
        {
            assert!(find(written).unwrap_err().contains(&format!("`{meant}`?")), "{written}");
        }
        assert!(find("colour").unwrap_err().contains("`max_consumers`, `buffer_size`"));
    }

    #[test]
    fn unprefixed_keys_configure_the_sides_that_the_documents_name() {
        let sides = |name| [Side::Producer, Side::Consumer].map(|side| find(name).unwrap().configures(side));
        for name in ["max_consumers", "buffer_size", "disconnect_lagging"] {
            assert_eq!(sides(name), [true, false], "{name}");
        }
        assert_eq!(sides("backoff"), [false, true]);
        for name in ["require", "require_ticket", "online_when"] {
            assert_eq!(sides(name), [true, true], "{name}");
        }
    }
}
