//! One thing in which a step differs from an earlier run of it, and the words for it.

use serde::{Deserialize, Serialize};

/// What differs. The names are those of the JSON of `bake explain`; stored in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DifferenceKind {
    /// `no-cache` asks for it; nothing needs to differ.
    NoCache,
    /// No earlier run of the step is known.
    First,
    /// Nothing differs, but the result is not in the cache any more.
    Gone,
    Platform,
    Secret,
    /// An agent of ssh.
    Agent,
    Mount,
    Network,
    Security,
    Workdir,
    User,
    Hostname,
    ShmSize,
    Limit,
    Host,
    /// The text of the instruction.
    Instruction,
    /// What the process runs, although the text is the same: a here-document, SHELL, a variable in it.
    Command,
    /// An option, source or destination of COPY or ADD.
    Copy,
    Argument,
    Environment,
    FileChanged,
    FileAdded,
    FileRemoved,
    FileRenamed,
    FileMode,
    FileOwner,
    /// Something read differs, and no name in it is known to.
    Files,
    BaseImage,
    /// The result of the step before, or which step that is.
    EarlierStep,
}

/// One difference. Texts hold no value of a secret or of a sensitive variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    pub(crate) kind: DifferenceKind,
    /// Of the file, variable, secret or mount.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    /// What it was; `None` if there was none, or if its value is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) now: Option<String>,
    /// What else helps: the tree that a file is read from, the pattern that hides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// Everything that differs, the most telling first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explanation {
    pub(crate) differences: Vec<Difference>,
    /// How many files differ beyond those that are named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) n_more_files: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Difference {
    /// A difference that its kind says whole.
    pub(crate) const fn plain(kind: DifferenceKind) -> Self {
        Self { kind, name: String::new(), before: None, now: None, note: None }
    }

    /// In a few words, for a line of progress: `src/main.c changed`.
    pub(crate) fn short(&self) -> String {
        let name = &self.name;
        match self.kind {
            DifferenceKind::NoCache => "`no-cache` asks for it".to_owned(),
            DifferenceKind::First => "no earlier run of it is known".to_owned(),
            DifferenceKind::Gone => "its result is no longer in the cache".to_owned(),
            DifferenceKind::FileChanged => format!("{name} changed"),
            DifferenceKind::FileAdded => format!("{name} is new{}", self.noted()),
            DifferenceKind::FileRemoved => format!("{name} is gone{}", self.noted()),
            DifferenceKind::FileRenamed => {
                format!("{} is now called {name}", self.before.as_deref().unwrap_or("a file"))
            }
            DifferenceKind::FileMode => format!("the mode of {name} changed{}", self.values()),
            DifferenceKind::FileOwner => format!("the owner of {name} changed{}", self.values()),
            DifferenceKind::Files => format!("what is read at `{name}` changed{}", self.noted()),
            DifferenceKind::BaseImage => format!("the base image changed{}", self.values()),
            DifferenceKind::EarlierStep if self.before == self.now => {
                format!("it follows `{}`, whose result changed", line(self.now.as_deref().unwrap_or_default()))
            }
            DifferenceKind::EarlierStep => format!("the step before it is another one{}", self.values()),
            DifferenceKind::Instruction => format!("the instruction changed{}", self.values()),
            DifferenceKind::Command if name.is_empty() => format!("what it runs changed{}", self.values()),
            DifferenceKind::Command => format!("the script at {name} changed{}", self.values()),
            _ => self.of_setting(),
        }
    }

    /// With everything that is known.
    pub(crate) fn long(&self) -> String {
        match (self.kind, &self.before, &self.now) {
            (DifferenceKind::FileChanged, Some(before), Some(now)) => {
                format!("{}: {now}, was {before}{}", self.short(), self.noted())
            }
            (DifferenceKind::FileAdded, _, Some(what)) | (DifferenceKind::FileRemoved, Some(what), _) => {
                format!("{}: {what}", self.short())
            }
            (DifferenceKind::FileRenamed | DifferenceKind::FileMode | DifferenceKind::FileOwner, ..) => {
                format!("{}{}", self.short(), self.noted())
            }
            _ => self.short(),
        }
    }

    /// Of what has a name and a value.
    fn of_setting(&self) -> String {
        let what = match self.kind {
            DifferenceKind::Platform => "the platform",
            DifferenceKind::Secret => "the secret",
            DifferenceKind::Agent => "the ssh agent",
            DifferenceKind::Mount => "the mount at",
            DifferenceKind::Network => "the network",
            DifferenceKind::Security => "the security mode",
            DifferenceKind::Workdir => "the working directory",
            DifferenceKind::User => "the user",
            DifferenceKind::Hostname => "the host name",
            DifferenceKind::ShmSize => "the size of /dev/shm",
            DifferenceKind::Limit => "the limits",
            DifferenceKind::Host => "the extra hosts",
            DifferenceKind::Argument => "the argument",
            DifferenceKind::Environment => "the variable",
            _ => "",
        };
        let space = if what.is_empty() || self.name.is_empty() { "" } else { " " };
        format!("{what}{space}{} changed{}", self.name, self.values())
    }

    /// `: now X, was Y`, as far as they are told.
    fn values(&self) -> String {
        match (&self.before, &self.now) {
            (Some(before), Some(now)) => format!(": `{}`, was `{}`", line(now), line(before)),
            (None, Some(now)) => format!(": `{}` is new", line(now)),
            (Some(before), None) => format!(": `{}` is gone", line(before)),
            (None, None) => String::new(),
        }
    }

    fn noted(&self) -> String {
        self.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default()
    }
}

impl Explanation {
    /// One difference.
    pub(crate) fn of(kind: DifferenceKind) -> Self {
        Self { differences: vec![Difference::plain(kind)], n_more_files: 0 }
    }

    /// One line: the first difference, and how many more there are. `None` if there is nothing to say.
    pub(crate) fn line(&self) -> Option<String> {
        let first = self.differences.first()?.short();
        let n_more = self.differences.len() - 1 + self.n_more_files;
        Some(if n_more == 0 { first } else { format!("{first} (and {n_more} more)") })
    }
}

/// A text on one line, cut where it is long.
fn line(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut line = text.replace('\n', " ⏎ ");
    if line.chars().count() > LONGEST {
        line = line.chars().take(LONGEST).chain(['…']).collect();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_the_first_and_counts_the_rest() {
        let file = Difference { name: "src/main.c".to_owned(), ..Difference::plain(DifferenceKind::FileChanged) };
        let variable = Difference {
            name: "V".to_owned(),
            before: Some("1".to_owned()),
            now: Some("2".to_owned()),
            ..Difference::plain(DifferenceKind::Argument)
        };
        let one = Explanation { differences: vec![file.clone()], n_more_files: 0 };
        assert_eq!(one.line().as_deref(), Some("src/main.c changed"));
        let more = Explanation { differences: vec![variable, file], n_more_files: 3 };
        assert_eq!(more.line().as_deref(), Some("the argument V changed: `2`, was `1` (and 4 more)"));
        assert_eq!(Explanation::default().line(), None);
    }
}
