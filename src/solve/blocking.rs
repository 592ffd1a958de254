//! File work off the async threads.

use crate::report::Diagnostic;

/// Runs file work on a blocking thread.
///
/// # Errors
/// Those of `work`, and a diagnostic when the runtime is shutting down.
///
/// # Panics
/// When `work` panics, with its panic.
pub(crate) async fn blocking<T: Send + 'static, E: From<Diagnostic> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Diagnostic::error("bake::solve::stopped", "the run is being stopped").into()),
    }
}
