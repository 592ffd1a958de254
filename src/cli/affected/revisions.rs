//! Which commits are compared: `--since`, `--until`, and the merge base of both.

use std::path::Path;

use crate::{
    cli::{affected_args::WantedRevisions, settings::Settings},
    fetch::{CompareError, GitWorkTree},
    grant,
    report::{Diagnostic, suggest},
    sandbox,
};

/// The commits that are compared.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) wanted: WantedRevisions,
    /// The commit of `since`.
    pub(crate) since: String,
    /// The commit of `until`.
    pub(crate) until: Option<String>,
    /// What is compared with: the merge bases, or `since` itself. At least one.
    pub(crate) bases: Vec<String>,
}

/// The git work tree of the working directory.
///
/// # Errors
/// When git cannot be run, or there is none.
pub(super) fn work_tree(settings: &Settings) -> Result<GitWorkTree, Diagnostic> {
    let env = settings.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    GitWorkTree::find(|program| sandbox::command(program), env, &settings.cwd)
        .map_err(|error| no_work_tree(&settings.cwd, &error))
}

fn no_work_tree(cwd: &Path, error: &CompareError) -> Diagnostic {
    let shown = cwd.display();
    match error {
        CompareError::NoGit(_) => no_git(error),
        CompareError::Git { .. } if grant::work_tree(cwd).is_none() => {
            Diagnostic::error("bake::affected::no_repository", format!("not in a git repository: {shown}"))
                .help("what is affected is found out by comparing with a commit; run it in a clone")
        }
        _ => Diagnostic::error("bake::affected::no_repository", format!("git does not read the repository: {shown}"))
            .cause(error)
            .help(format!(
                "if it is another user's and you trust it: git config --global --add safe.directory {shown}"
            )),
    }
}

fn no_git(error: &CompareError) -> Diagnostic {
    Diagnostic::error("bake::affected::no_git", "git is needed to compare with a revision")
        .cause(error)
        .help("install git, or build without --affected")
}

/// A comparison that git did not finish.
pub(super) fn not_compared(error: &CompareError) -> Diagnostic {
    match error {
        CompareError::NoGit(_) => no_git(error),
        _ => Diagnostic::error("bake::affected::git", "git cannot compare the revisions").cause(error),
    }
}

/// Finds the commits.
///
/// # Errors
/// When a revision or the merge base is unknown, or git fails.
pub(super) fn resolve(tree: &GitWorkTree, wanted: &WantedRevisions) -> Result<Compared, Diagnostic> {
    let since = commit(tree, &wanted.since, "--since")?;
    let until = wanted.until.as_ref().map(|revision| commit(tree, revision, "--until")).transpose()?;
    let bases = if wanted.is_direct {
        vec![since.clone()]
    } else {
        let end = match &until {
            Some(until) => until.clone(),
            None => commit(tree, "HEAD", "--since")?,
        };
        let bases = tree.merge_bases(&since, &end).map_err(|error| not_compared(&error))?;
        match bases.is_empty() {
            true if tree.is_shallow() => return Err(no_merge_base(wanted)),
            // Histories that have nothing in common: all of the difference counts.
            true => vec![since.clone()],
            false => bases,
        }
    };
    Ok(Compared { wanted: wanted.clone(), since, until, bases })
}

fn commit(tree: &GitWorkTree, revision: &str, flag: &str) -> Result<String, Diagnostic> {
    if let Some(commit) = tree.commit(revision).map_err(|error| not_compared(&error))? {
        return Ok(commit);
    }
    let fault = Diagnostic::error(
        "bake::affected::unknown_revision",
        format!("the revision of `{flag}` is not in this repository: {revision}"),
    );
    if tree.is_shallow() {
        return Err(fault.help(shallow_help(revision)));
    }
    let names = tree.names().unwrap_or_default();
    let names = || names.iter().map(String::as_str);
    let remote = revision.split_once('/').filter(|(remote, _)| names().any(|it| it.split('/').next() == Some(remote)));
    Err(match (suggest::did_you_mean(revision, names()), remote) {
        (Some(help), _) => fault.help(help),
        (None, Some((remote, branch))) => fault.help(format!("fetch it: git fetch {remote} {branch}")),
        (None, None) => fault.help("give a branch, a tag or a commit that `git rev-parse` knows"),
    })
}

fn no_merge_base(wanted: &WantedRevisions) -> Diagnostic {
    let (since, until) = (&wanted.since, wanted.until.as_deref().unwrap_or("HEAD"));
    let message = format!("the clone is shallow and lacks the merge base of `{since}` and `{until}`");
    Diagnostic::error("bake::affected::shallow", message).help(shallow_help(since))
}

/// How a shallow clone gets the history that is missing.
fn shallow_help(revision: &str) -> String {
    let fetch = match revision.split_once('/') {
        Some((remote, branch)) if !remote.is_empty() && !branch.is_empty() => {
            format!("git fetch --deepen=100 {remote} HEAD +refs/heads/{branch}:refs/remotes/{remote}/{branch}")
        }
        _ => "git fetch --deepen=100".to_owned(),
    };
    format!("the clone is shallow: {fetch}, or all of the history: git fetch --unshallow (GitHub: fetch-depth: 0)")
}
