//! What the user is shown, as data: source texts (`source`), errors and warnings (`diagnostic`, `fold`), progress (`event`, `step_name`),
//! what became of the targets of a run (`result`), texts that must not be shown (`hidden`, `url`). Rendering is done in `ui`; nothing here knows a terminal.

pub(crate) mod diagnostic;
pub(crate) mod event;
pub(crate) mod fold;
pub(crate) mod hidden;
pub(crate) mod result;
pub(crate) mod source;
pub(crate) mod step_name;
pub(crate) mod suggest;
pub(crate) mod summary;
pub(crate) mod url;

pub(crate) use diagnostic::{Diagnostic, Label, Severity};
pub(crate) use hidden::Hidden;
pub(crate) use source::{SourceId, SourceMap, SourceOrigin, Span, Spanned};
