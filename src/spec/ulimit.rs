//! `ulimits`: `name=soft[:hard]`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fault::OptionFault;
use crate::report::suggest;

/// One limit of setrlimit(2). A negative number is unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ulimit {
    pub(crate) name: UlimitName,
    pub(crate) soft: i64,
    pub(crate) hard: i64,
}

/// What is limited: the names of `--ulimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UlimitName {
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

const NAMES: [(&str, UlimitName); 15] = [
    ("core", UlimitName::Core),
    ("cpu", UlimitName::Cpu),
    ("data", UlimitName::Data),
    ("fsize", UlimitName::Fsize),
    ("locks", UlimitName::Locks),
    ("memlock", UlimitName::Memlock),
    ("msgqueue", UlimitName::Msgqueue),
    ("nice", UlimitName::Nice),
    ("nofile", UlimitName::Nofile),
    ("nproc", UlimitName::Nproc),
    ("rss", UlimitName::Rss),
    ("rtprio", UlimitName::Rtprio),
    ("rttime", UlimitName::Rttime),
    ("sigpending", UlimitName::Sigpending),
    ("stack", UlimitName::Stack),
];

impl UlimitName {
    /// The name in `--ulimit`.
    pub(crate) fn as_str(self) -> &'static str {
        NAMES.iter().find(|(_, name)| *name == self).map(|(text, _)| *text).expect("every limit has a row")
    }
}

impl Ulimit {
    /// Reads `name=soft[:hard]`.
    ///
    /// # Errors
    /// On an unknown name, what is no number, or a soft limit over the hard one.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let form = "write name=soft or name=soft:hard, as in nofile=1024:2048";
        let (name, limits) =
            text.split_once('=').ok_or_else(|| OptionFault::new(format!("not a ulimit: {text}")).help(form))?;
        let Some((_, known)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let names = NAMES.map(|(known, _)| known);
            let help =
                suggest::did_you_mean(name, names).unwrap_or_else(|| format!("known limits: {}", names.join(", ")));
            return Err(OptionFault::new(format!("`{name}` is not the name of a limit: {text}")).help(help));
        };
        let number = |value: &str| {
            value
                .parse::<i64>()
                .map_err(|_| OptionFault::new(format!("`{value}` is not a whole number: {text}")).help(form))
        };
        let (soft, hard) = match limits.split_once(':') {
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(limits)?, number(limits)?),
        };
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(OptionFault::new(format!("the soft limit {soft} is over the hard limit {hard}: {text}")));
        }
        Ok(Self { name: *known, soft, hard })
    }

    /// The soft and the hard limit; `None` is unlimited.
    pub(crate) fn values(&self) -> (Option<u64>, Option<u64>) {
        (u64::try_from(self.soft).ok(), u64::try_from(self.hard).ok())
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.name.as_str(), self.soft, self.hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_limits_are_unlimited() {
        let values = |text: &str| Ulimit::parse(text).map(|limit| limit.values());
        assert_eq!(values("nofile=1024:2048"), Ok((Some(1024), Some(2048))));
        assert_eq!(values("core=0:-1"), Ok((Some(0), None)));
        assert_eq!(values("memlock=-1"), Ok((None, None)));
    }

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
