//! Source texts and places in them. A place is a byte range of one source; lines and columns are computed when shown.

use std::{fmt, sync::Arc};

/// The number of one text in a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SourceId(u32);

impl SourceId {
    /// The position of the text among all texts of the run.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A half-open byte range of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) source: SourceId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// The span from the start of `self` to the end of `other`; both lie in the same source.
    pub(crate) fn to(self, other: Self) -> Self {
        Self { source: self.source, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value and the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) at: Span,
}

impl<T> Spanned<T> {
    /// A value that was read at `at`.
    pub(crate) const fn new(value: T, at: Span) -> Self {
        Self { value, at }
    }
}

/// Where a text stands, for programs that open the place of a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SourceOrigin {
    /// A file of this machine. Its name is its path: absolute, or relative to the working directory.
    File,
    /// The value of an attribute at this place of another text, as `dockerfile-inline` is.
    Within(Span),
    /// No place that can be opened: standard input, an argument, a download.
    #[default]
    Elsewhere,
}

/// One text that spans refer to, with the name to show for it.
#[derive(Clone)]
pub(crate) struct SourceText {
    /// What the user calls it: the path as given, `-` for standard input, `--set a.tags=x`, `environment variable TAG`.
    pub(crate) name: Arc<str>,
    pub(crate) text: Arc<str>,
    pub(crate) origin: SourceOrigin,
}

impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.name)
    }
}

/// All texts of a run, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceMap {
    sources: Vec<SourceText>,
}

impl SourceMap {
    /// Adds a text that is no file and returns its id. Spans hold 32-bit offsets: callers refuse texts over 1 GiB before
    /// they come here.
    pub(crate) fn add(&mut self, name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> SourceId {
        self.add_from(SourceOrigin::Elsewhere, name, text)
    }

    /// As [`Self::add`], for a text whose place is known.
    pub(crate) fn add_from(
        &mut self,
        origin: SourceOrigin,
        name: impl Into<Arc<str>>,
        text: impl Into<Arc<str>>,
    ) -> SourceId {
        self.sources.push(SourceText { name: name.into(), text: text.into(), origin });
        SourceId(u32::try_from(self.sources.len() - 1).expect("a run reads fewer than 2^32 sources"))
    }

    /// The number of texts.
    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    /// All ids, in the order in which the texts were added.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SourceId> + use<> {
        (0..u32::try_from(self.sources.len()).unwrap_or(u32::MAX)).map(SourceId)
    }

    /// The text of an id that this map made.
    pub(crate) fn get(&self, id: SourceId) -> &SourceText {
        &self.sources[id.0 as usize]
    }

    /// The text under a span; empty if the span does not lie on character bounds.
    #[cfg(test)]
    pub(crate) fn text(&self, at: Span) -> &str {
        self.get(at.source).text.get(at.start as usize..at.end as usize).unwrap_or_default()
    }

    /// The line and column (in characters) of a span's start, both from 1.
    pub(crate) fn line_column(&self, at: Span) -> (usize, usize) {
        let text = &self.get(at.source).text;
        let mut start = (at.start as usize).min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.bytes().filter(|b| *b == b'\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// `file:line` of a span's start.
    pub(crate) fn place(&self, at: Span) -> String {
        format!("{}:{}", self.get(at.source).name, self.line_column(at).0)
    }
}
