//! `ulimits`: `name=soft[:hard]`.

use std::fmt;

use super::OptionFault;
use crate::report::suggest;

/// One limit; -1 is unlimited.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ulimit {
    pub(crate) name: String,
    pub(crate) soft: i64,
    pub(crate) hard: i64,
}

/// The limits that Linux has.
pub(crate) const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Ulimit {
    /// Reads `name=soft[:hard]`.
    ///
    /// # Errors
    /// On an unknown name, what is no number, or a soft limit over the hard one.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let form = "write name=soft or name=soft:hard, as in nofile=1024:2048";
        let (name, limits) =
            text.split_once('=').ok_or_else(|| OptionFault::new(format!("not a ulimit: {text}")).help(form))?;
        if !NAMES.contains(&name) {
            let help =
                suggest::did_you_mean(name, NAMES).unwrap_or_else(|| format!("known limits: {}", NAMES.join(", ")));
            return Err(OptionFault::new(format!("`{name}` is not the name of a limit: {text}")).help(help));
        }
        let number = |it: &str| {
            it.parse::<i64>().map_err(|_| OptionFault::new(format!("`{it}` is not a whole number: {text}")).help(form))
        };
        let (soft, hard) = match limits.split_once(':') {
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(limits)?, number(limits)?),
        };
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(OptionFault::new(format!("the soft limit {soft} is over the hard limit {hard}: {text}")));
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.name, self.soft, self.hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_are_checked() {
        let print = |text: &str| Ulimit::parse(text).map_or_else(|fault| fault.message, |it| it.to_string());
        assert_eq!(print("nofile=10"), "nofile=10:10");
        assert_eq!(print("core=5:-1"), "core=5:-1");
        assert_eq!(print("nofile=20:10"), "the soft limit 20 is over the hard limit 10: nofile=20:10");
        assert_eq!(print("nofiles=1"), "`nofiles` is not the name of a limit: nofiles=1");
        assert_eq!(print("nofile=a"), "`a` is not a whole number: nofile=a");
    }
}
