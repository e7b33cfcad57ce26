//! What the probes found. Not inside: the probes; each stands beside the code that uses what it probes.

use std::fmt;

/// Whether the kernel did what was asked of it in the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The probe behaved as documented.
    Yes,
    /// It did not; the driver goes another way. The text says what was seen.
    No(String),
    /// The probe could not be run here; the driver tries the feature in use and backs off when it is refused.
    Unknown(String),
}

/// One kernel feature that a driver would like to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name in the kernel's documentation.
    pub name: &'static str,
    /// The first Linux version that has it.
    pub since: &'static str,
    /// What the probe saw.
    pub found: Found,
}

/// What the probes found when a driver was opened, in the order in which they ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    list: Vec<Feature>,
}

impl Features {
    pub(crate) fn note(&mut self, name: &'static str, since: &'static str, found: Found) {
        self.list.push(Feature { name, since, found });
    }

    /// Everything that was probed.
    pub fn iter(&self) -> impl Iterator<Item = &Feature> {
        self.list.iter()
    }

    /// Whether the feature of this name was probed and found.
    pub fn has(&self, name: &str) -> bool {
        self.list.iter().any(|feature| feature.name == name && feature.found == Found::Yes)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Found::Yes => write!(f, "{} ({}): yes", self.name, self.since),
            Found::No(seen) => write!(f, "{} ({}): no, {seen}", self.name, self.since),
            Found::Unknown(why) => write!(f, "{} ({}): not probed, {why}", self.name, self.since),
        }
    }
}

/// One line per feature: name, the kernel that brought it, what was found.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, feature) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{feature}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_shown_with_its_kernel_and_what_was_seen() {
        let mut features = Features::default();
        features.note("UDP_GRO", "5.0", Found::Yes);
        features.note("DEFER_TASKRUN", "6.1", Found::No("EINVAL".into()));
        assert!(features.has("UDP_GRO"));
        assert!(!features.has("DEFER_TASKRUN"));
        assert_eq!(features.to_string(), "UDP_GRO (5.0): yes\nDEFER_TASKRUN (6.1): no, EINVAL");
    }
}
