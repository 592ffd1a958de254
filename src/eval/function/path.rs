//! Functions of slash-separated paths, as text: nothing is looked up.

use super::builtin::{Builtin, Param, ParamType, param, row};
use crate::{eval::value::types::Value, spec::path};

const PATH: Param = param("path", ParamType::String);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row("basename", &[PATH], None, "the last element of a path", |call| Ok(Value::string(basename(call.text(0))))),
    row("dirname", &[PATH], None, "all but the last element of a path", |call| {
        Ok(Value::string(dirname(call.text(0))))
    }),
    row("homedir", &[], None, "the home directory of the user", |call| Ok(Value::string(call.world.home.as_str()))),
];

fn basename(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let path = path.trim_end_matches('/');
    if path.is_empty() { "/" } else { path.rsplit('/').next().unwrap_or(path) }
}

fn dirname(path: &str) -> String {
    path::clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])
}

/// A path of a file in `folder`, as a path of the working directory. Absolute paths stay as they are.
pub(in crate::eval) fn path_in(text: &str, folder: &str) -> String {
    if text.starts_with('/') {
        return text.to_owned();
    }
    if folder == "." { path::clean(text) } else { path::clean(&format!("{folder}/{text}")) }
}
