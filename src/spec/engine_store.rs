//! Options of `image` and `registry` about the image store of a container engine. This engine has none: whoever asks for
//! something in it is told, for each option by name.

use super::options::OptionReader;

/// Reads them; whether `unpack` is asked for. `is_by_digest`: the image is pushed under its digest, which is all that
/// `name-canonical` asks for then.
pub(super) fn read(options: &mut OptionReader<'_>, is_by_digest: bool) -> bool {
    let unpack = flag(options, "unpack");
    flag(options, "store");
    let canonical = options.given_flag("name-canonical").unwrap_or(false);
    if canonical && !is_by_digest {
        note(options, "name-canonical");
    }
    // Spelled as the peer spells it.
    flag(options, "danging-name-empty-only");
    if options.text("dangling-name-prefix").is_some() {
        note(options, "dangling-name-prefix");
    }
    unpack
}

fn flag(options: &mut OptionReader<'_>, key: &'static str) -> bool {
    let is_asked_for = options.given_flag(key).unwrap_or(false);
    if is_asked_for {
        note(options, key);
    }
    is_asked_for
}

fn note(options: &mut OptionReader<'_>, key: &'static str) {
    let message = format!("`{key}` has no effect: there is no image store of a container engine here");
    options.note(key, message);
}
