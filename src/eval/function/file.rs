//! Functions that read files and the environment; extensions that `docker buildx bake` does not have. What they see
//! comes in through [`FileReader`](crate::eval::input::FileReader) and the input; nothing is read here.

use super::{
    builtin::{Builtin, FunctionCall, FunctionError, MAX_TEXT, Param, ParamType, nullable, ours, param, row},
    path::path_in,
};
use crate::eval::value::types::Value;

const PATH: Param = param("path", ParamType::String);

pub(super) const FUNCTIONS: &[Builtin] = &[
    ours(row(
        "env",
        &[param("name", ParamType::String)],
        Some(nullable("default", ParamType::Any)),
        "an environment variable; the default, or null, when it is not set",
        env,
    )),
    ours(row("file", &[PATH], None, "the text of a file, relative to the file that says so", |call| {
        let path = place(call, 0)?;
        let text = call
            .world
            .files()?
            .read(&path, &call.world.origin.borrow(), MAX_TEXT)
            .map_err(|why| FunctionError::at(0, why))?;
        Ok(Value::string(text))
    })),
    ours(row("fileexists", &[PATH], None, "whether there is a file of this path", |call| {
        let path = place(call, 0)?;
        call.world
            .files()?
            .exists(&path, &call.world.origin.borrow())
            .map(Value::Bool)
            .map_err(|why| FunctionError::at(0, why))
    })),
    ours(row(
        "fileset",
        &[param("folder", ParamType::String), param("pattern", ParamType::String)],
        None,
        "the files below a folder that match a pattern of *, ?, [a-z] and **, sorted",
        |call| {
            let folder = place(call, 0)?;
            let found = call.world.files()?.list(&folder, &call.world.origin.borrow(), call.text(1));
            found.map(Value::string_list).map_err(|why| FunctionError::at(1, why))
        },
    )),
];

fn env(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    if call.args.len() > 2 {
        return Err(FunctionError::at(2, format!("`env` takes 1 or 2 arguments, got {}", call.args.len())));
    }
    let default = || call.args.get(1).cloned().unwrap_or(Value::NULL);
    Ok(call.world.env.get(call.text(0)).map_or_else(default, |text| Value::string(text.as_str())))
}

/// The path of an argument, relative to the working directory.
fn place(call: &FunctionCall<'_>, index: usize) -> Result<String, FunctionError> {
    let text = call.text(index);
    if let Some(path) = text.strip_prefix("cwd://") {
        return Ok(path_in(path, "."));
    }
    if call.world.is_remote {
        return Err(FunctionError::at(
            index,
            format!("a remote definition sees no files; `cwd://{text}` is one of this machine: {text}"),
        ));
    }
    Ok(path_in(text, call.world.folder.borrow().as_deref().unwrap_or(".")))
}
