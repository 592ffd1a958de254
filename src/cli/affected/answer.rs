//! The whole of it: revisions, both states, the paths that differ ─► which targets are affected.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use super::{
    ignored::ignored_sources,
    revisions::{self, Compared},
    state::{DefinitionState, UnnamedTargets},
    worktree::{LaterState, TreeChanges},
};
use crate::{
    affected::{AffectedAnswer, AffectedTarget, CompareInput, compare},
    cli::{affected_args::WantedRevisions, exit::FAILED, settings::Settings},
    fetch::GitWorkTree,
    graph::Graph,
    report::{Diagnostic, SourceMap},
    spec::ExecutionMode,
    ui::output,
};

/// An answer, with the commits that it is about.
pub(crate) struct Answered {
    pub(crate) answer: AffectedAnswer,
    pub(crate) compared: Compared,
    /// The top of the work tree.
    pub(crate) top: PathBuf,
    /// The mode that the groups of the plan ask for.
    pub(crate) release: Option<ExecutionMode>,
}

/// Finds out which of the targets are affected; without names, of all targets.
///
/// # Errors
/// The exit code; the diagnostics were shown.
pub(crate) fn answer(settings: &Settings, wanted: &WantedRevisions) -> Result<Answered, u8> {
    answer_for(settings, wanted, UnnamedTargets::All)
}

/// The names of the affected targets of a build: of `default` without names.
///
/// # Errors
/// As [`answer`].
pub(crate) fn names_of(settings: &Settings, wanted: &WantedRevisions) -> Result<Answered, u8> {
    answer_for(settings, wanted, UnnamedTargets::Default)
}

fn answer_for(settings: &Settings, wanted: &WantedRevisions, unnamed: UnnamedTargets) -> Result<Answered, u8> {
    let told = |fault: Diagnostic| {
        output::diagnostics(&[fault], &SourceMap::default(), settings.color);
        FAILED
    };
    check_definition(settings).map_err(told)?;
    let tree = Arc::new(revisions::work_tree(settings).map_err(told)?);
    let compared = revisions::resolve(&tree, wanted).map_err(told)?;
    let mut graph = Graph::default();
    // What is on the disk needs nothing of git: it is read while git compares.
    let is_on_disk = compared.until.is_none();
    let (changes, later) = TreeChanges::ask(&tree, &compared, || {
        is_on_disk.then(|| DefinitionState::later(settings, unnamed, &mut graph))
    });
    let changes = changes.map_err(|error| told(revisions::not_compared(&error)))?;
    let past = changes.past_of_until(&tree);
    let later = match later {
        Some(later) => later?,
        None => {
            let settings = Settings { past: past.clone(), ..settings.clone() };
            DefinitionState::later(&settings, unnamed, &mut graph)?
        }
    };
    let names: HashSet<_> = later.plan.targets.keys().cloned().collect();
    let comparison = Comparison { settings, tree: &tree, compared: &compared, changes: &changes, later: &later, past };
    let with_base = |n: usize, graph: &mut Graph| {
        let earlier = Settings { past: Some(changes.past_of_base(&tree, n)), ..settings.clone() };
        comparison.with(n, &DefinitionState::earlier(&earlier, &names, graph))
    };
    let (found, not_compared) = thread::scope(|scope| {
        let ignored = scope.spawn(|| ignored_sources(&tree, &later));
        let found: Result<Vec<AffectedAnswer>, _> =
            (0..compared.bases.len()).map(|n| with_base(n, &mut graph)).collect();
        (found, ignored.join().unwrap_or_default())
    });
    let found = found.map_err(|error| {
        told(Diagnostic::error("bake::affected::git", "git cannot compare the revisions").cause(&error))
    })?;
    let joined = found.into_iter().reduce(|before, more| join(before, more, &later)).unwrap_or_default();
    let answer = AffectedAnswer { not_compared, ..joined };
    Ok(Answered { answer, top: tree.top().to_owned(), compared, release: later.release })
}

/// Refuses a definition that has no earlier state.
fn check_definition(settings: &Settings) -> Result<(), Diagnostic> {
    let fault = |what: &str, shown: &str| {
        let message = format!("a definition {what} has no earlier revision to compare with: {shown}");
        Diagnostic::error("bake::affected::no_past", message).help("name a file of the git repository with -f")
    };
    if let Some(url) = &settings.remote {
        return Err(fault("at a URL", &crate::report::url::without_credentials(url)));
    }
    if settings.files.iter().any(|file| file == "-") {
        return Err(fault("on standard input", "-"));
    }
    Ok(())
}

struct Comparison<'a> {
    settings: &'a Settings,
    tree: &'a GitWorkTree,
    compared: &'a Compared,
    changes: &'a TreeChanges,
    later: &'a DefinitionState,
    past: Option<Arc<crate::grant::PastTree>>,
}

impl Comparison<'_> {
    /// Compares the later state with that of a base.
    fn with(&self, n: usize, earlier: &Result<DefinitionState, String>) -> std::io::Result<AffectedAnswer> {
        let index = self.changes.index(self.tree, self.compared, n)?;
        let other = OtherRepositories { tree: self.tree, known: RefCell::default() };
        let unknown = earlier.as_ref().err().map(|why| format!("the definition at that revision is not known: {why}"));
        let (top, cwd) = (self.tree.top().to_string_lossy(), self.settings.cwd.canonicalize());
        let cwd = cwd.unwrap_or_else(|_| self.settings.cwd.clone());
        Ok(compare(&CompareInput {
            new: self.later.planned(),
            old: match (earlier, &unknown) {
                (Ok(earlier), _) => Ok(earlier.planned()),
                (Err(why), None) => Err(why),
                (Err(_), Some(why)) => Err(why),
            },
            changes: &index,
            top: &top,
            cwd: &cwd.to_string_lossy(),
            not_comparable: &|folder| other.not_comparable(Path::new(folder)),
            view: &LaterState { past: self.past.clone() },
        }))
    }
}

/// Joins the answers of two bases: what differs from one of them is affected.
fn join(mut one: AffectedAnswer, other: AffectedAnswer, later: &DefinitionState) -> AffectedAnswer {
    for target in other.targets {
        match one.targets.iter_mut().find(|known| known.name == target.name) {
            Some(known) => {
                let AffectedTarget { reasons, .. } = target;
                for reason in reasons {
                    if !known.reasons.contains(&reason) {
                        known.reasons.push(reason);
                    }
                }
            }
            None => one.targets.push(target),
        }
    }
    one.targets.sort_by_key(|target| later.plan.targets.get_index_of(&target.name));
    one
}

/// Finds folders that are not in the work tree, or in another repository inside of it.
struct OtherRepositories<'a> {
    tree: &'a GitWorkTree,
    /// For each folder, whether it is the top of a repository that is no submodule.
    known: RefCell<HashMap<PathBuf, bool>>,
}

impl OtherRepositories<'_> {
    /// Why a folder cannot be compared, if it cannot.
    fn not_comparable(&self, folder: &Path) -> Option<String> {
        let top = self.tree.top();
        if !folder.starts_with(top) {
            return Some("a folder outside of the git work tree cannot be compared".to_owned());
        }
        let inside = folder.ancestors().take_while(|it| *it != top);
        let mut known = self.known.borrow_mut();
        for folder in inside {
            let is_other = *known.entry(folder.to_owned()).or_insert_with(|| {
                let inner = folder.strip_prefix(top).unwrap_or(folder);
                folder.join(".git").symlink_metadata().is_ok() && !self.tree.is_submodule(inner)
            });
            if is_other {
                return Some("a folder in another git repository cannot be compared".to_owned());
            }
        }
        None
    }
}
