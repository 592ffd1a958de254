//! Limits of walking a tree: how deep, and from where on one thread does the work.

/// Deeper directories are an error: this bounds the recursion.
pub(crate) const MAX_DEPTH: usize = 512;
/// Directories below this depth are walked by one thread.
pub(crate) const PARALLEL_DEPTH: usize = 24;
/// A directory with fewer entries is walked by one thread: waking another costs more than the entries do.
pub(crate) const PARALLEL_ENTRIES: usize = 48;

/// Calls `step` for the directories at this depth: on a new thread at every 32nd level, so that a deep tree needs many
/// stacks instead of a large one.
pub(crate) fn descend<T: Send>(depth: usize, step: impl FnOnce() -> T + Send) -> T {
    if depth == 0 || !depth.is_multiple_of(32) {
        return step();
    }
    std::thread::scope(|scope| match scope.spawn(step).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
