//! How much output of a step is shown, and how much is kept. Words only: the variables that set it are read by the caller.

use std::time::Duration;

use super::{fault::OptionFault, size};

/// Limits of the output of one step; what is not shown is told. `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepLogLimits {
    /// Bytes in all.
    pub(crate) size: Option<u64>,
    /// Bytes for each second that the step has run, begun ones too.
    pub(crate) speed: Option<u64>,
    /// Bytes that are kept for `bake log`.
    pub(crate) kept_size: Option<u64>,
    /// Runs whose output is kept; 0: none.
    pub(crate) kept_runs: usize,
}

/// The limit that output has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReachedLimit {
    Size(u64),
    Speed(u64),
}

impl Default for StepLogLimits {
    /// The size is that of the peer. Its default speed would cut the output of common builds.
    fn default() -> Self {
        Self { size: Some(2 << 20), speed: None, kept_size: Some(100 << 20), kept_runs: 20 }
    }
}

impl StepLogLimits {
    /// Reads a limit: bytes, with a unit if wanted, or `-1` for none.
    ///
    /// # Errors
    /// Names the text and the accepted forms.
    pub(crate) fn parse(text: &str) -> Result<Option<u64>, OptionFault> {
        if text == "-1" { Ok(None) } else { size::parse(text).map(Some) }
    }

    /// How many more bytes may be shown after `n_shown`, when the step has run for `elapsed`; and the limit that says so.
    pub(crate) fn room(&self, n_shown: u64, elapsed: Duration) -> Option<(u64, ReachedLimit)> {
        let of_size = self.size.map(|size| (size.saturating_sub(n_shown), ReachedLimit::Size(size)));
        let of_speed = self.speed.map(|speed| {
            let allowed = speed.saturating_mul(elapsed.as_secs() + 1);
            (allowed.saturating_sub(n_shown), ReachedLimit::Speed(speed))
        });
        of_size.into_iter().chain(of_speed).min_by_key(|(room, _)| *room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_room_counts_and_minus_one_is_no_limit() {
        assert_eq!(StepLogLimits::parse("-1"), Ok(None));
        assert_eq!(StepLogLimits::parse("200k"), Ok(Some(200 << 10)));
        assert!(StepLogLimits::parse("-2").is_err() && StepLogLimits::parse("much").is_err());
        let limits = StepLogLimits { size: Some(100), speed: Some(30), ..StepLogLimits::default() };
        let room = |n_shown, seconds| limits.room(n_shown, Duration::from_secs(seconds));
        assert_eq!(room(10, 0), Some((20, ReachedLimit::Speed(30))));
        assert_eq!(room(10, 9), Some((90, ReachedLimit::Size(100))));
        assert_eq!(room(200, 9), Some((0, ReachedLimit::Size(100))));
        assert_eq!(StepLogLimits { size: None, speed: None, ..StepLogLimits::default() }.room(1, Duration::ZERO), None);
    }
}
