//! The helpers that the program becomes when it is started again as one; each has one thread from its start.

use super::{helper, network, runtime_helper};

/// Becomes the helper that the first argument of the program names, and returns its exit code; `None` if it names none.
///
/// To be called before anything else, while the process has one thread.
pub(crate) fn helper_main(argument: &std::ffi::OsStr) -> Option<u8> {
    match argument.to_str()? {
        "__sandbox" => Some(helper::step_helper_main()),
        "__network" => Some(network::network_helper_main()),
        "__runtime" => Some(runtime_helper::runtime_helper_main()),
        _ => None,
    }
}
