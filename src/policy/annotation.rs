//! The text form of a backpressure policy and its options.

use core::fmt;
use core::num::NonZeroUsize;
use core::str::FromStr;

use super::BackpressurePolicy;

/// Most characters of the input that an error repeats.
const QUOTED_CHARS: usize = 64;

/// Most datums of one buffer: as many as one ring can hold, so that an annotation is valid for all streams.
pub(crate) const MAX_BUFFER_SIZE: usize = 1 << 23;

const _: () = assert!(MAX_BUFFER_SIZE == 8_388_608, "the texts below name the limit");

/// A backpressure policy with its options, checked.
///
/// Written `slug, key=value, …` or `slug(key=value, …)`; both mean the same. Blanks around the parts do not
/// count, empty parts are skipped, and the order of options is kept. `Display` gives the first form, which
/// parses to an equal annotation.
///
/// | option | policies | value | meaning |
/// |---|---|---|---|
/// | `buffer_size` | all | 1 to 8,388,608 | datums that the stream holds |
/// | `resample_to` | `degrade_quality` | 1 to 4,294,967,295 | for the degrader: a lower rate, in Hz |
/// | `codec` | `degrade_quality` | visible ASCII characters | for the degrader: a coarser encoding |
///
/// The stream reads `buffer_size`. The program that makes the degrader reads the degrader's options with
/// [`option`](Self::option); [`parse_with`](Self::parse_with) allows more of them. Every other key is an
/// error, so that a typing mistake does not silently leave a default.
///
/// ```
/// use corewire::BackpressurePolicy;
/// use corewire::local::{BackpressureAnnotation, parse_backpressure_annotation};
///
/// let audio = parse_backpressure_annotation("degrade_quality(buffer_size=64, resample_to=8000)")?;
/// assert_eq!(audio.policy(), BackpressurePolicy::DegradeQuality);
/// assert_eq!(audio.buffer_size().map(|n| n.get()), Some(64));
/// assert_eq!(audio.option("resample_to"), Some("8000"));
/// assert_eq!(audio.to_string(), "degrade_quality, buffer_size=64, resample_to=8000");
/// assert_eq!(audio.to_string().parse::<BackpressureAnnotation>()?, audio);
/// # Ok::<(), corewire::local::AnnotationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackpressureAnnotation {
    policy: BackpressurePolicy,
    buffer_size: Option<NonZeroUsize>,
    options: Vec<(String, String)>,
}

/// Parses `slug, key=value, …` or `slug(key=value, …)`.
///
/// ```
/// use corewire::local::{AnnotationError, parse_backpressure_annotation};
///
/// assert!(parse_backpressure_annotation("drop_oldest").is_ok());
/// let error = parse_backpressure_annotation("fail, bufer_size=8").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`fail` has no option \"bufer_size\" (at byte 6): allowed are buffer_size"
/// );
/// ```
///
/// # Errors
///
/// [`AnnotationError`], with the place in the text.
pub fn parse_backpressure_annotation(text: &str) -> Result<BackpressureAnnotation, AnnotationError> {
    BackpressureAnnotation::parse_with(text, &[])
}

/// Why a text is not an annotation. Places are byte offsets into the text; at most 64 characters of it are
/// quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotationError {
    /// The text does not begin with the slug of a policy.
    #[error(
        "there is no policy {found:?} (at byte {at}): use drop_oldest, degrade_quality, pause_upstream or fail"
    )]
    UnknownPolicy {
        /// What stands where the slug should.
        found: String,
        /// Where.
        at: usize,
    },
    /// A part of the text is not an option.
    #[error("{found:?} (at byte {at}) is not {expected}")]
    MalformedOption {
        /// What was found.
        found: String,
        /// Where.
        at: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// An option that was given before.
    #[error("the option {key:?} is given twice (again at byte {at}): keep one")]
    DuplicateOption {
        /// The option.
        key: String,
        /// Where it is given again.
        at: usize,
    },
    /// A value that the option does not take.
    #[error("the option {key:?} cannot be {value:?} (at byte {at}): it takes {expected}")]
    BadValue {
        /// The option.
        key: String,
        /// Its value.
        value: String,
        /// Where the value stands.
        at: usize,
        /// What the option takes.
        expected: &'static str,
    },
    /// An option that the policy does not have.
    #[error("`{policy}` has no option {key:?} (at byte {at}): allowed are {allowed}")]
    UnknownOption {
        /// The option.
        key: String,
        /// Where.
        at: usize,
        /// The policy.
        policy: BackpressurePolicy,
        /// The options that it has.
        allowed: String,
    },
}

/// An option of the catalogue.
struct Known {
    key: &'static str,
    /// Only `degrade_quality` has it.
    degrader: bool,
    takes: &'static str,
    check: fn(&str) -> bool,
}

const BUFFER_SIZE: &str = "buffer_size";

const CATALOGUE: &[Known] = &[
    Known {
        key: BUFFER_SIZE,
        degrader: false,
        takes: "a number of datums from 1 to 8388608",
        check: |value| number(value).is_some_and(|n| (1..=MAX_BUFFER_SIZE as u64).contains(&n)),
    },
    Known {
        key: "resample_to",
        degrader: true,
        takes: "a rate in Hz from 1 to 4294967295",
        check: |value| number(value).is_some_and(|n| (1..=u64::from(u32::MAX)).contains(&n)),
    },
    Known {
        key: "codec",
        degrader: true,
        takes: "one word of visible ASCII characters",
        check: |value| !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()),
    },
];

/// What the options of [`BackpressureAnnotation::parse_with`] take.
const NOT_EMPTY: &str = "any text that is not empty";

/// Decimal digits and nothing else.
fn number(value: &str) -> Option<u64> {
    value.bytes().all(|b| b.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

/// The part of `text` that errors repeat.
fn quote(text: &str) -> String {
    text.chars().take(QUOTED_CHARS).collect()
}

/// `part`, which starts at byte `at`, without the blanks around it, and where that starts.
fn trim(part: &str, at: usize) -> (&str, usize) {
    let start = at + (part.len() - part.trim_start().len());
    (part.trim(), start)
}

impl BackpressureAnnotation {
    /// A policy without options.
    #[must_use]
    pub fn new(policy: BackpressurePolicy) -> Self {
        Self { policy, buffer_size: None, options: Vec::new() }
    }

    /// As [`parse_backpressure_annotation`], and `degrade_quality` may have the options `for_degrader`
    /// besides those of the table, with any value that is not empty.
    ///
    /// ```
    /// use corewire::local::BackpressureAnnotation;
    ///
    /// let video = BackpressureAnnotation::parse_with("degrade_quality, keep_every=3", &["keep_every"])?;
    /// assert_eq!(video.option("keep_every"), Some("3"));
    /// # Ok::<(), corewire::local::AnnotationError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`AnnotationError`].
    pub fn parse_with(text: &str, for_degrader: &[&str]) -> Result<Self, AnnotationError> {
        let head = text.find([',', '(']).unwrap_or(text.len());
        let (slug, at) = trim(&text[..head], 0);
        let policy = slug
            .parse::<BackpressurePolicy>()
            .map_err(|_| AnnotationError::UnknownPolicy { found: quote(slug), at })?;
        let mut annotation = Self::new(policy);
        let Some(opening) = text[head..].chars().next() else { return Ok(annotation) };
        let mut at = head + 1;
        let mut list = &text[at..];
        if opening == '(' {
            let (tail, start) = trim(list, at);
            list = tail.strip_suffix(')').ok_or_else(|| AnnotationError::MalformedOption {
                found: quote(&text[head..]),
                at: head,
                expected: "a list of options that ends with `)`, as the last part of the text",
            })?;
            at = start;
        }
        for part in list.split(',') {
            annotation.add(part, at, for_degrader)?;
            at += part.len() + 1;
        }
        Ok(annotation)
    }

    /// Adds one option, unless `part` is empty.
    fn add(&mut self, part: &str, at: usize, for_degrader: &[&str]) -> Result<(), AnnotationError> {
        let (part, at) = trim(part, at);
        if part.is_empty() {
            return Ok(());
        }
        let malformed = |expected| AnnotationError::MalformedOption { found: quote(part), at, expected };
        if part.contains(['(', ')']) {
            return Err(malformed("an option: parentheses stand around the whole list only"));
        }
        let Some((key, value)) = part.split_once('=') else {
            return Err(malformed("an option: write `key=value`"));
        };
        let (value, value_at) = trim(value, at + key.len() + 1);
        let key = key.trim_end();
        if key.is_empty() {
            return Err(malformed("an option: write `key=value`"));
        }
        let (takes, fits) =
            self.rule(key, value, for_degrader).ok_or_else(|| self.unknown(key, at, for_degrader))?;
        if self.option(key).is_some() {
            return Err(AnnotationError::DuplicateOption { key: quote(key), at });
        }
        if !fits {
            let (key, value) = (quote(key), quote(value));
            return Err(AnnotationError::BadValue { key, value, at: value_at, expected: takes });
        }
        if key == BUFFER_SIZE {
            self.buffer_size = value.parse().ok();
        }
        self.options.push((key.into(), value.into()));
        Ok(())
    }

    /// What the option takes and whether `value` is that. `None`: the policy has no such option.
    fn rule(&self, key: &str, value: &str, for_degrader: &[&str]) -> Option<(&'static str, bool)> {
        let degrades = self.policy == BackpressurePolicy::DegradeQuality;
        match CATALOGUE.iter().find(|known| known.key == key) {
            Some(known) => (degrades || !known.degrader).then(|| (known.takes, (known.check)(value))),
            None => (degrades && for_degrader.contains(&key)).then_some((NOT_EMPTY, !value.is_empty())),
        }
    }

    fn unknown(&self, key: &str, at: usize, for_degrader: &[&str]) -> AnnotationError {
        let degrades = self.policy == BackpressurePolicy::DegradeQuality;
        let known = CATALOGUE.iter().filter(|known| degrades || !known.degrader).map(|known| known.key);
        let more = for_degrader.iter().copied().filter(|_| degrades);
        let allowed = known.chain(more).collect::<Vec<_>>().join(", ");
        AnnotationError::UnknownOption { key: quote(key), at, policy: self.policy, allowed }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> BackpressurePolicy {
        self.policy
    }

    /// The option `buffer_size`, in datums.
    #[must_use]
    pub fn buffer_size(&self) -> Option<NonZeroUsize> {
        self.buffer_size
    }

    /// The value of an option, as it was written.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All options, as they were written.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl From<BackpressurePolicy> for BackpressureAnnotation {
    fn from(policy: BackpressurePolicy) -> Self {
        Self::new(policy)
    }
}

impl FromStr for BackpressureAnnotation {
    type Err = AnnotationError;

    fn from_str(text: &str) -> Result<Self, AnnotationError> {
        parse_backpressure_annotation(text)
    }
}

impl fmt::Display for BackpressureAnnotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.policy.slug())?;
        self.options().try_for_each(|(key, value)| write!(f, ", {key}={value}"))
    }
}
