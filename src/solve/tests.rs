//! The solver over a real store: what is found again, what a damaged cache is, how base layers are reported.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    base::{self, ImageSteps},
    cancel::SolveCancel,
    failure::SolveFailure,
    locals::Locals,
    runner::Runner,
    schedule::slots::Slots,
    shared::SharedCaches,
    solver::Solver,
    tree::{LayerTree, SolvedTree},
    world::{SolveScope, SolveWorld, SourceFetcher},
};
use crate::{
    fetch::{GitSecrets, HttpClient},
    graph::{CopyAction, File, FileAction, Graph, ImageOp, Local, Meta, Op, VertexIx},
    layer::UnpackLimits,
    oci::{Descriptor, DiffId, Digest, ImageLayer, LayerOrigin, Platform},
    registry::{Client, ClientOptions},
    report::event::{Event, Sink, StepEnd, StepId},
    sandbox,
    store::Store,
};

/// What was reported, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Event>>>);

impl Seen {
    fn sink(&self) -> Sink {
        let seen = self.clone();
        Arc::new(move |event| seen.0.lock().unwrap_or_else(PoisonError::into_inner).push(event))
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn world(home: &Path, seen: &Seen) -> SolveWorld {
    let store = Store::open(&home.join("store")).expect("a store");
    SolveWorld {
        step_log: crate::spec::StepLogLimits::default(),
        hidden: Arc::default(),
        locals: Locals::new(store.clone()),
        store,
        slots: Slots::new(2),
        runner: Arc::new(Runner::new(sandbox::SandboxOptions::default())),
        sink: seen.sink(),
        sources: SourceFetcher {
            client: Arc::new(Client::new(ClientOptions::new(|program| sandbox::command(program)))),
            objects: crate::objects::ObjectStores::default(),
            limits: UnpackLimits::default(),
            http: HttpClient::default(),
            command: |program| sandbox::command(program),
            git_secrets: GitSecrets::default(),
            fetched: Mutex::default(),
        },
        held: None,
        cancel: SolveCancel::new().expect("descriptors are left"),
        caches: SharedCaches::default(),
        env: Arc::new(BTreeMap::new()),
        secret_env: Arc::default(),
        proxies: Arc::default(),
        now: || "2026-01-01T00:00:00.000000000Z".to_owned(),
        begun: 1_767_225_600,
    }
}

/// `COPY a /a` from the folder `context`.
fn copy_graph(home: &Path) -> (Graph, VertexIx) {
    let copy = CopyAction { reset_owner: false, ..CopyAction::of_paths("a", "/a") };
    let local = Local {
        folder: home.join("context").to_str().expect("UTF-8").to_owned(),
        name: "the build context".to_owned(),
        ignore: Vec::new(),
        ignore_file: None,
    };
    let mut graph = Graph::default();
    let mut add = |op, inputs| graph.add(op, inputs, Platform::host(), Meta::default());
    let scratch = add(Op::Scratch, Vec::new());
    let context = add(Op::Local(local), Vec::new());
    let actions = vec![FileAction::Copy(Box::new(copy))];
    let result = add(Op::File(File { actions }), vec![scratch, context]);
    (graph, result)
}

async fn solve(home: &Path, seen: &Seen) -> Result<SolvedTree, SolveFailure> {
    let (graph, result) = copy_graph(home);
    let scopes = std::iter::repeat_n(Arc::new(SolveScope::default()), graph.len()).collect();
    Solver::new(graph, scopes, world(home, seen)).solve(result).await
}

#[tokio::test]
async fn a_step_runs_once_and_again_only_when_its_content_changes() {
    let tmp = tempfile::tempdir().expect("a temporary folder");
    let (home, seen) = (tmp.path(), Seen::default());
    fs::create_dir(home.join("context")).expect("it is writable");
    fs::write(home.join("context/a"), "one").expect("it is writable");
    let first = solve(home, &seen).await.expect("the file is there");
    assert!(matches!(first, SolvedTree::Made(_)));
    let is_done = |event: &Event| matches!(event, Event::Ended { how: StepEnd::Done, .. });
    assert_eq!(seen.take().iter().filter(|event| is_done(event)).count(), 1);
    let again = solve(home, &seen).await.expect("the file is there");
    assert!(matches!(again, SolvedTree::Cached(_)));
    assert!(seen.take().is_empty(), "one look-up answers for the whole build");
    assert_eq!(again.into_tree(), first.clone().into_tree());
    fs::write(home.join("context/a"), "two, longer").expect("it is writable");
    let changed = solve(home, &seen).await.expect("the file is there");
    assert!(matches!(changed, SolvedTree::Made(_)));
    assert_ne!(changed.into_tree().id, first.into_tree().id);
}

#[tokio::test]
async fn a_missing_source_and_a_cancelled_run_are_different_failures() {
    let tmp = tempfile::tempdir().expect("a temporary folder");
    let (home, seen) = (tmp.path(), Seen::default());
    fs::create_dir(home.join("context")).expect("it is writable");
    let failed = solve(home, &seen).await.expect_err("the file is missing");
    assert!(
        matches!(failed, SolveFailure::Failed(fault) if fault.message == "source not found in the build context: a")
    );
    fs::write(home.join("context/a"), "one").expect("it is writable");
    let (graph, result) = copy_graph(home);
    let scopes = std::iter::repeat_n(Arc::new(SolveScope::default()), graph.len()).collect();
    let world = world(home, &seen);
    world.cancel.kill();
    let cancelled = Solver::new(graph, scopes, world).solve(result).await;
    assert!(matches!(cancelled, Err(SolveFailure::Cancelled)));
}

#[tokio::test]
async fn a_snapshot_that_is_not_there_any_more_is_a_kind_of_failure() {
    let tmp = tempfile::tempdir().expect("a temporary folder");
    let world = world(tmp.path(), &Seen::default());
    let tree = LayerTree::scratch().with_layer(Digest::of(b"gone"), String::new());
    let failed = base::materialise(&world, &tree, &ImageSteps::default()).await;
    assert!(matches!(failed, Err(SolveFailure::SnapshotGone(_))));
}

/// An OCI layout with a layer for each name: a tar with one file of that name.
fn image(folder: &Path, names: &[&str]) -> ImageOp {
    fs::create_dir_all(folder.join("blobs/sha256")).expect("it is writable");
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("it is writable");
    let mut layers = Vec::new();
    for name in names {
        let mut header = tar::Header::new_ustar();
        header.set_size(name.len() as u64);
        header.set_mode(0o644);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, name, name.as_bytes()).expect("memory is writable");
        let bytes = archive.into_inner().expect("memory is writable");
        let digest = Digest::of(&bytes);
        fs::write(folder.join("blobs/sha256").join(digest.hex()), &bytes).expect("it is writable");
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        let descriptor = serde_json::json!({"mediaType": media_type, "size": bytes.len(), "digest": digest});
        let descriptor: Descriptor = serde_json::from_value(descriptor).expect("it is a descriptor");
        layers.push(ImageLayer { diff_id: DiffId(digest), descriptor });
    }
    ImageOp {
        reference: "base".to_owned(),
        manifest: Digest::of(b"manifest"),
        origin: LayerOrigin::Layout { folder: folder.to_owned() },
        layers,
    }
}

#[tokio::test]
async fn base_layers_are_unpacked_in_order_and_reported_in_bytes_under_their_image() {
    let tmp = tempfile::tempdir().expect("a temporary folder");
    let (home, seen) = (tmp.path(), Seen::default());
    // The same layer twice, and more layers than are pulled at a time.
    let image = image(&home.join("layout"), &["a", "b", "a", "c", "d", "e", "f"]);
    let tree = LayerTree::of_image(&image);
    let sizes: Vec<u64> = image.layers.iter().map(|layer| layer.descriptor.size()).collect();
    let mut graph = Graph::default();
    graph.add(Op::Scratch, Vec::new(), Platform::host(), Meta::default());
    graph.add(Op::Image(image), Vec::new(), Platform::host(), Meta::default());
    let images = ImageSteps::of(&graph, |ix| StepId(u32::try_from(ix.index()).expect("it is small")));
    let world = world(home, &seen);
    let folders = base::materialise(&world, &tree, &images).await.expect("the layout is whole");
    let files: Vec<bool> = ["a", "b", "a", "c", "d", "e", "f"]
        .iter()
        .zip(&folders)
        .map(|(name, folder)| fs::read_to_string(folder.join(name)).is_ok_and(|text| text == *name))
        .collect();
    assert_eq!(files, [true; 7]);
    let mut extracted = Vec::new();
    for event in seen.take() {
        let Event::Moved { id, what, done, total } = event else { panic!("unexpected: {event:?}") };
        assert_eq!((id, done), (StepId(1), total), "{what}");
        if what.starts_with("extracting sha256:") {
            extracted.push(total);
        } else {
            assert!(what.starts_with("pulling sha256:"), "{what}");
        }
    }
    assert_eq!(extracted, sizes);
    let again = base::materialise(&world, &tree, &images).await.expect("all is there");
    assert_eq!(again, folders);
    assert!(seen.take().is_empty());
}

#[tokio::test]
async fn a_damaged_base_layer_names_its_digest_and_leaves_nothing() {
    let tmp = tempfile::tempdir().expect("a temporary folder");
    let (home, seen) = (tmp.path(), Seen::default());
    let image = image(&home.join("layout"), &["a", "b"]);
    let blob = home.join("layout/blobs/sha256").join(image.layers[1].diff_id.0.hex());
    let mut bytes = fs::read(&blob).expect("it is readable");
    bytes[600] ^= 1;
    fs::write(&blob, &bytes).expect("it is writable");
    let (tree, world) = (LayerTree::of_image(&image), world(home, &seen));
    let failed = base::materialise(&world, &tree, &ImageSteps::default()).await.expect_err("it is damaged");
    let SolveFailure::Failed(fault) = failed else { panic!("another kind of failure: {failed:?}") };
    assert_eq!(fault.code, "bake::solve::base_layer");
    assert!(fault.message.ends_with(&image.layers[1].diff_id.to_string()), "{}", fault.message);
    assert!(!world.store.has_snapshot(&tree.layers[1].snapshot));
}
