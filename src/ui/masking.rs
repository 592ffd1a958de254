//! The sensitive values of this run, which are masked in everything that is shown.

use std::{borrow::Cow, sync::OnceLock};

use crate::report::Hidden;

/// Sensitive values. Everything that is written is masked with them.
static HIDDEN: OnceLock<Hidden> = OnceLock::new();

/// Sets the values that are masked in all output from now on. Only the first call has an effect.
pub(crate) fn hide(hidden: Hidden) {
    HIDDEN.get_or_init(|| hidden.with_json());
}

/// Masks the sensitive values in a text.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    HIDDEN.get().map_or(Cow::Borrowed(text), |hidden| hidden.mask(text))
}
