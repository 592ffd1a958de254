//! `--shard 2/5`: which part of the plan a runner builds. How it is divided is decided by `crate::shard`.

use std::{fmt, str::FromStr};

/// One of the parts into which a plan is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardChoice {
    /// From 1 to `of`.
    pub(crate) number: usize,
    pub(crate) of: usize,
    /// Only this wave, from 1; all if it is not given.
    pub(crate) wave: Option<usize>,
}

impl FromStr for ShardChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MOST: usize = 10_000;
        let parsed = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((number, of)) if (1..=of).contains(&number) && of <= MOST => Ok(Self { number, of, wave: None }),
            _ => Err("write the number of the part and of how many, as in 2/5".to_owned()),
        }
    }
}

impl fmt::Display for ShardChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)?;
        self.wave.map_or(Ok(()), |wave| write!(f, ", wave {wave}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_of_its_number() {
        let parse = |text: &str| text.parse::<ShardChoice>();
        assert_eq!(parse("2/5"), Ok(ShardChoice { number: 2, of: 5, wave: None }));
        for bad in ["", "2", "0/5", "6/5", "-1/5", "1/99999", "a/b", "1/2/3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
