//! Contexts that are not folders of this machine: git repositories, downloads, archives of the store.
//!
//! Their trees are fetched here only to look into them before a build is lowered; steps fetch them by themselves.

use crate::{
    dockerfile::{self, options::NamedContext},
    graph::{self, Graph},
    layer::view::{Follow, LayerView},
    oci::{Digest, Platform},
    plan::Build,
    report::{Diagnostic, event::StepId, url::without_credentials},
    solve::{base, failure::SolveFailure, op::source, world::SolveWorld},
    spec::{
        boolean,
        context::ContextSource::{Archive, Git, Http, Image, Local},
        policy::policy_of,
    },
};

/// The text of a Dockerfile that lies in a remote context.
pub(super) struct RemoteDockerfile {
    pub(super) text: String,
    /// A policy file lies beside it.
    pub(super) has_policy: bool,
}

/// The main context of a build if it is a git repository or a download; `None` for a folder.
///
/// # Errors
/// When the URL cannot be read, or the context is of a kind that cannot be a main context.
pub(super) fn main_context(build: &Build) -> Result<Option<NamedContext>, Diagnostic> {
    match &build.context {
        Local(_) => Ok(None),
        Git(url) | Http(url) => {
            let keep = build.args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
            let keep = keep.is_some_and(|it| boolean(it).unwrap_or(false));
            context(url, keep, true).map(Some)
        }
        Archive(digest) => archive(digest).map(Some),
        Image(reference) if reference == "scratch" => Ok(Some(NamedContext::Scratch)),
        _ => {
            let message = "the main context must be a directory, a git repository or a download";
            Err(Diagnostic::error("bake::engine::context_kind", message)
                .help("an image or a target is a named context: `contexts = { name = \"…\" }`"))
        }
    }
}

/// A git repository or download as a context; `unpack`: an archive is unpacked.
///
/// # Errors
/// When the URL cannot be read.
pub(super) fn context(url: &str, keep_git_dir: bool, unpack: bool) -> Result<NamedContext, Diagnostic> {
    let bad = |why: String| Diagnostic::error("bake::engine::bad_url", format!("{why}: {}", without_credentials(url)));
    match dockerfile::remote::git(url, true) {
        Some(source) => {
            let source = source.map_err(bad)?;
            let keep_git_dir = source.keep_git_dir.unwrap_or(keep_git_dir);
            Ok(NamedContext::Git(graph::GitOp { keep_git_dir, ..source.git }))
        }
        None => {
            let http = graph::HttpOp { url: url.to_owned(), checksum: None, filename: "context".to_owned(), unpack };
            Ok(NamedContext::Http(http))
        }
    }
}

/// An archive of the store as a context.
///
/// # Errors
/// When it is not named by a digest.
pub(super) fn archive(digest: &str) -> Result<NamedContext, Diagnostic> {
    let digest = digest.parse().map_err(|_| {
        Diagnostic::error("bake::engine::context_kind", format!("not the digest of an archive: {digest}"))
    })?;
    Ok(NamedContext::Http(source::stored_archive(digest, "context")))
}

/// Fetches a git or http source and returns its tree, and the digest of its vertex, by which the world knows more of it.
/// `name` is the step as users read it.
///
/// # Errors
/// Those of git, of the server and of the state directory.
pub(super) async fn fetch(world: &SolveWorld, op: graph::Op, name: &str) -> Result<(LayerView, Digest), Diagnostic> {
    let mut graph = Graph::default();
    let meta = graph::Meta { name: name.to_owned(), ..graph::Meta::default() };
    let ix = graph.add(op, Vec::new(), Platform::host(), meta);
    let vertex = graph.get(ix);
    let fetched = source::fetch(world, vertex, StepId(u32::MAX)).await.map_err(SolveFailure::into_diagnostic)?;
    let tree = fetched.into_tree();
    let no_images = base::ImageSteps::default();
    let dirs = base::materialise(world, &tree, &no_images).await.map_err(SolveFailure::into_diagnostic)?;
    let view = LayerView::open(&dirs).map_err(|e| {
        Diagnostic::error("bake::engine::remote_unreadable", "what was fetched cannot be read").cause(&e)
    })?;
    Ok((view, vertex.digest))
}

/// The Dockerfile in a remote context: the file of this name, or the download itself if it is not an archive.
///
/// # Errors
/// When the context cannot be fetched, or has no such file.
pub(super) async fn dockerfile(
    world: &SolveWorld,
    context: &NamedContext,
    name: &str,
) -> Result<RemoteDockerfile, Diagnostic> {
    const MAX: u64 = 16 << 20;
    let op = match context {
        NamedContext::Git(git) => graph::Op::Git(git.clone()),
        NamedContext::Http(http) => graph::Op::Http(http.clone()),
        _ => return Err(Diagnostic::error("bake::engine::context_kind", "the context is not remote")),
    };
    let (view, _) = fetch(world, op, "[internal] load remote build context").await?;
    let has = |path: &str| view.lookup(path, Follow::Last).ok().flatten().is_some();
    let path = match context {
        NamedContext::Http(http) if has(&format!("/{}", http.filename)) => format!("/{}", http.filename),
        _ => format!("/{name}"),
    };
    let bytes = view.read(&path, MAX).map_err(|e| {
        Diagnostic::error("bake::engine::dockerfile_unreadable", format!("the Dockerfile cannot be read: {name}"))
            .cause(&e)
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Diagnostic::error("bake::engine::dockerfile_not_utf8", format!("the Dockerfile is not UTF-8: {name}"))
    })?;
    Ok(RemoteDockerfile { text, has_policy: has(&policy_of(&format!("/{name}"))) })
}
