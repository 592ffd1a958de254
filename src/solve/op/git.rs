//! Git sources: a commit is checked out into a snapshot that is known by the commit and by what the checkout does to it.

use super::error::fetch_fault;
use crate::{
    fetch::{Commit, GitClient, GitSource},
    graph::GitOp,
    oci::{Digest, digest::FieldHasher},
    report::Diagnostic,
    solve::{
        blocking::blocking,
        failure::{SolveFailure, store_fault},
        tree::{LayerTree, SolvedTree},
        world::{FetchedSource, SolveWorld},
    },
    store::{SnapshotId, SnapshotMeta},
};

/// Fetches a commit of a git repository as a snapshot and returns its tree.
///
/// # Errors
/// Those of git, and of the state directory.
pub(super) async fn checkout(world: &SolveWorld, git: &GitOp) -> Result<FetchedSource, SolveFailure> {
    let runner = GitClient {
        command: world.sources.command,
        env: world.env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        cache: world.store.git_dir(),
        secrets: world.sources.git_secrets.clone(),
        is_cancelled: {
            let cancel = world.cancel.clone();
            std::sync::Arc::new(move || cancel.is_cancelled())
        },
    };
    let GitOp { url, reference, subdir, checksum, keep_git_dir, submodules, mtime_commit } = git.clone();
    let source = GitSource { url, reference, subdir, checksum, keep_git_dir, submodules, mtime_commit };
    let (store, created) = (world.store.clone(), (world.now)());
    let done = blocking(move || {
        let commit = runner.resolve(&source).map_err(|error| fetch_fault(&error))?;
        let id = tree_key(&commit, &source);
        let snapshot = SnapshotId(id);
        let known = store.has_snapshot(&snapshot);
        if !known {
            let _lock = store.lock(&id).map_err(|error| store_fault(&error))?;
            let active = store.prepare().map_err(|error| store_fault(&error))?;
            runner.checkout(&source, &commit, &active.fs(), &active.work()).map_err(|error| fetch_fault(&error))?;
            active.commit(&snapshot, SnapshotMeta { created: created.clone() }).map_err(|error| store_fault(&error))?;
        }
        let tree = LayerTree::scratch().with_layer(id, created);
        let tree = if known { SolvedTree::Cached(tree) } else { SolvedTree::Made(tree) };
        Ok::<_, Diagnostic>(FetchedSource { tree, pin: commit.id, modified: None })
    });
    // A git that was ended because the run is cancelled is no fault.
    done.await.map_err(|fault| if world.cancel.is_cancelled() { SolveFailure::Cancelled } else { fault.into() })
}

/// The identity of a checkout: of one commit, wherever its repository lies and whatever it was called.
fn tree_key(commit: &Commit, source: &GitSource) -> Digest {
    let Commit { id, name } = commit;
    let GitSource { url: _, reference: _, subdir, checksum: _, keep_git_dir, submodules, mtime_commit } = source;
    let mut key = FieldHasher::new("tree/git/1");
    key.text(id).optional(subdir.as_deref());
    key.number(u64::from(*submodules)).number(u64::from(*mtime_commit));
    // The name of the branch or tag is to be seen in `.git` alone.
    key.optional(name.as_deref().filter(|_| *keep_git_dir)).number(u64::from(*keep_git_dir));
    key.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_is_known_by_its_commit_and_not_by_its_url() {
        let source = GitSource {
            url: "https://example.com/a.git".to_owned(),
            reference: Some("main".to_owned()),
            subdir: None,
            checksum: None,
            keep_git_dir: false,
            submodules: true,
            mtime_commit: false,
        };
        let commit = Commit { id: "0123".to_owned(), name: Some("refs/heads/main".to_owned()) };
        let key = tree_key(&commit, &source);
        let moved = GitSource { url: "https://example.org/b.git".to_owned(), reference: None, ..source.clone() };
        assert_eq!(tree_key(&Commit { name: None, ..commit.clone() }, &moved), key);
        let changed = [
            GitSource { subdir: Some("s".to_owned()), ..source.clone() },
            GitSource { keep_git_dir: true, ..source.clone() },
            GitSource { submodules: false, ..source.clone() },
            GitSource { mtime_commit: true, ..source.clone() },
        ];
        changed.iter().for_each(|source| assert_ne!(tree_key(&commit, source), key));
        assert_ne!(tree_key(&Commit { id: "4567".to_owned(), ..commit }, &source), key);
    }
}
