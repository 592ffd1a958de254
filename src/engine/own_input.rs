//! Outputs that lie in what a step reads: what a build writes is then a new input of the next build, whose step runs again.
//!
//! Pure: paths are compared as texts. What a step names explicitly (`COPY out/app /`) is meant, and is not told.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::Path,
};

use crate::{
    graph::{CopyAction, FileAction, Graph, Local, MountOpKind, Op, Vertex},
    report::{Diagnostic, Span},
    spec::pattern::Patterns,
};

/// Tells each output that a step of the graph reads back, once, with the first of these steps.
///
/// `outputs` are absolute paths of files and folders that are written, each with the place of its output.
pub(super) fn read_back<'a>(graph: &Graph, outputs: impl Iterator<Item = (&'a Path, Span)>) -> Vec<Diagnostic> {
    let outputs: BTreeMap<&Path, Span> = outputs.collect();
    let mut told = BTreeSet::new();
    let mut notices = Vec::new();
    for (_, vertex) in graph.iter() {
        for (local, source) in inputs(graph, vertex) {
            for (path, at) in below(&outputs, Path::new(&local.folder)) {
                let Some(inside) = path.strip_prefix(&local.folder).ok().and_then(Path::to_str) else { continue };
                if source.covers(inside) && !is_ignored(local, inside) && told.insert(path) {
                    notices.push(notice(vertex, local, inside, *at));
                }
            }
        }
    }
    notices
}

/// The outputs inside of a folder, which is none of them itself.
fn below<'a>(outputs: &'a BTreeMap<&'a Path, Span>, folder: &'a Path) -> impl Iterator<Item = (&'a Path, &'a Span)> {
    let from = (Bound::Excluded(folder), Bound::Unbounded);
    outputs.range::<Path, _>(from).take_while(move |(path, _)| path.starts_with(folder)).map(|(path, at)| (*path, at))
}

/// What a step reads of a folder of this machine.
struct ReadSource<'a> {
    /// Relative to the folder, with wildcards if it is copied.
    path: &'a str,
    copy: Option<&'a CopyAction>,
}

impl ReadSource<'_> {
    /// Whether `inside`, a path in the folder, is read without being named.
    fn covers(&self, inside: &str) -> bool {
        let parts = self.path.split('/').filter(|part| !matches!(*part, "" | "."));
        let mut of_path = inside.split('/');
        let mut is_named = true;
        for part in parts {
            match of_path.next() {
                Some(name) if name == part => (),
                Some(name) if self.copy.is_some() && Patterns::new(&[part]).is_ok_and(|it| it.matches(name)) => {
                    is_named = false;
                }
                _ => return false,
            }
        }
        let is_left_out = self.copy.is_some_and(|copy| Patterns::new(&copy.exclude).is_ok_and(|it| it.matches(inside)));
        (!is_named || of_path.next().is_some()) && !is_left_out
    }
}

/// The folders of this machine that a step reads, and what of each.
fn inputs<'a>(graph: &'a Graph, vertex: &'a Vertex) -> Vec<(&'a Local, ReadSource<'a>)> {
    let local = |input: usize| match &graph.get(*vertex.inputs.get(input)?).op {
        Op::Local(local) => Some(local),
        _ => None,
    };
    match &vertex.op {
        Op::File(file) => {
            let copies = file.actions.iter().filter_map(|action| match action {
                FileAction::Copy(copy) => Some(&**copy),
                FileAction::Mkdir { .. } | FileAction::Mkfile { .. } => None,
            });
            let read = |copy: &'a CopyAction| (ReadSource { path: &copy.source, copy: Some(copy) }, copy.input);
            copies.map(read).filter_map(|(source, input)| Some((local(input)?, source))).collect()
        }
        Op::Exec(exec) => {
            let binds = exec.mounts.iter().filter_map(|mount| match &mount.kind {
                MountOpKind::Bind { input, source, .. } => {
                    Some((local(*input)?, ReadSource { path: source, copy: None }))
                }
                _ => None,
            });
            binds.collect()
        }
        Op::Scratch | Op::Image(_) | Op::Local(_) | Op::Git(_) | Op::Http(_) | Op::Merge => Vec::new(),
    }
}

fn is_ignored(local: &Local, inside: &str) -> bool {
    Patterns::new(&local.ignore).is_ok_and(|patterns| patterns.matches(inside))
}

fn notice(vertex: &Vertex, local: &Local, inside: &str, at: Span) -> Diagnostic {
    let message = format!("the output `{inside}` is a part of what a step reads, which runs again when it has changed");
    let notice = Diagnostic::notice("bake::engine::own_input", message).at(at, "this output");
    let notice = match vertex.meta.origin.at {
        Some(step) => notice.at(step, "this step reads it"),
        None => notice,
    };
    let file = local.ignore_file.as_deref().unwrap_or(".dockerignore");
    notice.help(format!("write a line `{inside}` into {file}")).of(vertex.meta.origin.target.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_meant_and_what_is_not_is_told() {
        let covers = |path: &str, inside: &str| ReadSource { path, copy: None }.covers(inside);
        assert!(covers(".", "out") && covers("/", "out/app") && covers("./out", "out/app"));
        assert!(!covers("out", "out") && !covers("src", "out/app") && !covers("out/app", "out"));
    }
}
