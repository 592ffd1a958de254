//! What we tell the user, as data: where text came from (`source`), what is wrong with it (`diagnostic`), what happens
//! while work runs (`event`), what must not be shown (`hidden`, `url`). How it is drawn is `ui`'s affair; nothing here knows a terminal.

pub(crate) mod diagnostic;
pub(crate) mod event;
pub(crate) mod hidden;
pub(crate) mod source;
pub(crate) mod suggest;
pub(crate) mod summary;
pub(crate) mod url;

pub(crate) use diagnostic::{Diagnostic, Label, Severity};
pub(crate) use hidden::Hidden;
pub(crate) use source::{SourceId, SourceMap, Span, Spanned};
