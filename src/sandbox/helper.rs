//! The side of the helper: `bake __sandbox`, one thread, its stdin a socket.

/// Becomes the command that the spec on stdin asks for; returns an exit code only if that fails.
///
/// `cli::run` calls it first of all when the first argument is `__sandbox`.
pub(crate) fn helper_main() -> u8 {
    1
}
