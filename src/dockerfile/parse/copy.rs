//! COPY and ADD: sources, heredocs, destination and flags.

use std::ops::Range;

use super::{command::list, context::ParseContext, flag::FlagSet};
use crate::{
    dockerfile::{fault::fault, instruction::CopyInstruction, lex},
    report::Diagnostic,
};

/// Parses the arguments and flags of COPY or ADD; the last word is the destination.
///
/// Sources that are marks of here-documents (`<<EOF`) take their bodies from `context`. Variables are expanded in
/// `lower`, but `--from` may have none, because it decides which stages are needed.
///
/// # Errors
/// When there are fewer than two arguments, the destination is a here-document, or `--from` is empty or has a variable.
pub(super) fn copy(
    context: &mut ParseContext<'_>,
    rest: Range<usize>,
    is_add: bool,
    flags: &mut FlagSet,
) -> Result<CopyInstruction, Diagnostic> {
    let keyword = if is_add { "ADD" } else { "COPY" };
    let (mut words, almost_json) = list(context, rest)?;
    let dest = words.pop().filter(|_| !words.is_empty());
    let Some(dest) = dest else {
        return Err(context.arguments("at least two arguments, the last one is the destination"));
    };
    if lex::heredoc_mark(&dest.value).is_some() {
        let message = format!("{keyword} cannot have a heredoc as its destination: {}", dest.value);
        return Err(fault("bake::dockerfile::heredoc_destination", message, dest.at, "the destination"));
    }
    let bodies = std::mem::take(&mut context.heredocs);
    let mut sources = Vec::new();
    let mut heredocs = Vec::new();
    for word in words {
        let body = lex::heredoc_mark(&word.value).and_then(|(name, ..)| bodies.iter().rfind(|it| it.name == name));
        match body {
            Some(body) => heredocs.push(body.clone()),
            None => sources.push(word),
        }
    }
    if let Some(from) = flags.peek("from")
        && let Some(at) = from.value.find('$')
        && at + 1 != from.value.len()
    {
        let message = format!("`--from` can not have variables: {}", from.value);
        return Err(fault("bake::dockerfile::variable_in_from", message, from.at, "this flag")
            .help(format!("define a stage `FROM {} AS name` and use its name", from.value)));
    }
    if let Some(from) = flags.peek("from").filter(|it| it.value.trim().is_empty()) {
        return Err(fault("bake::dockerfile::bad_flag_value", "`--from` is empty".to_owned(), from.at, "this flag"));
    }
    Ok(CopyInstruction {
        is_add,
        sources,
        heredocs,
        dest,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        checksum: flags.text("checksum"),
        exclude: flags.list("exclude"),
        link: flags.boolean("link").unwrap_or(false),
        parents: flags.boolean("parents").unwrap_or(false),
        keep_git_dir: flags.boolean("keep-git-dir"),
        unpack: flags.boolean("unpack"),
        almost_json,
    })
}
