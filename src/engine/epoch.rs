//! `SOURCE_DATE_EPOCH` that names a source: the time of that commit or download takes the place of a number
//! (<https://docs.docker.com/build/ci/github-actions/reproducible-builds/>).
//!
//! The Dockerfile room decides what the value means; what is fetched for it is what the build reads anyway.

use super::{provenance, remote};
use crate::{
    dockerfile::{
        self, ParsedDockerfile,
        options::{EpochOption, KnownImages, LowerOptions, LowerOutcome, NamedContext},
    },
    graph::{GitOp, Graph, HttpOp, Op},
    layer::view::{EntryKind, Follow, LayerView},
    report::Diagnostic,
    solve::world::SolveWorld,
};

/// What the search for a time calls itself.
const STEP: &str = "[internal] resolve SOURCE_DATE_EPOCH";

/// Fills in [`LowerOptions::source_date_epoch`] if `SOURCE_DATE_EPOCH` names a source. With any value, files of a git main
/// context get the time of their commit. Returns a warning if what is named has no time.
///
/// # Errors
/// When what is named cannot be fetched, or is a stage that is no source.
pub(super) async fn resolve(
    world: &SolveWorld,
    file: &ParsedDockerfile,
    options: &mut LowerOptions,
) -> Result<Option<Diagnostic>, Diagnostic> {
    let Some(option) = dockerfile::epoch_option(file, options) else { return Ok(None) };
    if let NamedContext::Git(git) = &mut options.main {
        git.mtime_commit = true;
    }
    let (source, name) = match option {
        EpochOption::Seconds(_) => return Ok(None),
        EpochOption::MainContext => (options.main.clone(), "context".to_owned()),
        EpochOption::Named(name) => match options.contexts.get(&name) {
            Some(context) => (context.clone(), name),
            None => (stage_source(file, options, &name)?, name),
        },
    };
    options.source_date_epoch = match source {
        NamedContext::Git(git) => commit_time(world, git).await?,
        NamedContext::Http(http) => download_time(world, http).await?,
        NamedContext::Local(_) | NamedContext::Image { .. } | NamedContext::Built(_) | NamedContext::Scratch => None,
    };
    Ok(options.source_date_epoch.is_none().then(|| {
        let message = format!("SOURCE_DATE_EPOCH has no effect, because what it names has no time: {name}");
        Diagnostic::warning("bake::engine::no_epoch", message)
            .help("a git repository has the time of its commit, a download that which its server or its archive says")
    }))
}

/// The time of the committer.
async fn commit_time(world: &SolveWorld, git: GitOp) -> Result<Option<i64>, Diagnostic> {
    let (view, _) = remote::fetch(world, Op::Git(GitOp { mtime_commit: true, ..git }), STEP).await?;
    let root = view.lookup("/", Follow::Last).map_err(|error| unreadable(&error))?;
    Ok(root.map(|root| root.mtime.0))
}

/// `Last-Modified`, else the time of the newest file of an archive.
async fn download_time(world: &SolveWorld, http: HttpOp) -> Result<Option<i64>, Diagnostic> {
    let filename = format!("/{}", http.filename);
    let (view, vertex) = remote::fetch(world, Op::Http(HttpOp { unpack: true, ..http }), STEP).await?;
    if let Some(modified) = world.sources.modified(&vertex) {
        return Ok(Some(modified));
    }
    let is_archive = view.lookup(&filename, Follow::No).map_err(|error| unreadable(&error))?.is_none();
    if is_archive { newest(&view).map_err(|error| unreadable(&error)) } else { Ok(None) }
}

/// The time of the newest regular file of a tree.
fn newest(view: &LayerView) -> std::io::Result<Option<i64>> {
    let (mut newest, mut open) = (None, vec![String::new()]);
    while let Some(folder) = open.pop() {
        let path = if folder.is_empty() { "/" } else { &folder };
        for (name, entry) in view.read_dir(path)? {
            match entry.kind {
                EntryKind::Dir => open.push(format!("{folder}/{}", name.to_string_lossy())),
                EntryKind::File => newest = newest.max(Some(entry.mtime.0)),
                _ => (),
            }
        }
    }
    Ok(newest)
}

fn unreadable(error: &std::io::Error) -> Diagnostic {
    Diagnostic::error("bake::engine::remote_unreadable", "what was fetched cannot be read").cause(error)
}

/// The source that a stage adds: it is `FROM scratch`, and all that it does is one ADD of a git repository or a download.
fn stage_source(file: &ParsedDockerfile, options: &LowerOptions, name: &str) -> Result<NamedContext, Diagnostic> {
    let mut alone = LowerOptions { target: Some(name.to_owned()), all_stages: false, ..options.clone() };
    alone.build_args.shift_remove("SOURCE_DATE_EPOCH");
    let (mut graph, known) = (Graph::default(), KnownImages { assume: true, ..KnownImages::default() });
    let lowered = match dockerfile::lower(file, &alone, &known, &mut graph) {
        LowerOutcome::Done(lowered) if !lowered.is_assumed => lowered,
        _ => return Err(no_source(name)),
    };
    let mut sources = Vec::new();
    for ix in provenance::needed(&graph, lowered.result) {
        match &graph.get(ix).op {
            Op::Git(git) => sources.push(NamedContext::Git(git.clone())),
            Op::Http(http) => sources.push(NamedContext::Http(http.clone())),
            Op::Scratch | Op::File(_) | Op::Merge => (),
            Op::Image(_) | Op::Local(_) | Op::Exec(_) => return Err(no_source(name)),
        }
    }
    let n_layers = lowered.steps.iter().filter(|step| !step.empty_layer).count();
    match sources.pop() {
        Some(source) if sources.is_empty() && n_layers == 1 => Ok(source),
        _ => Err(no_source(name)),
    }
}

fn no_source(name: &str) -> Diagnostic {
    let message = format!("SOURCE_DATE_EPOCH names a stage that is not one source: {name}");
    Diagnostic::error("bake::engine::bad_epoch", message)
        .help("such a stage is `FROM scratch` with one `ADD` of a git repository or a download")
}
