//! The embedded engine as a whole: what it checks before anything runs, what it builds and exports, how it stops. No step
//! needs a sandbox and no registry is asked.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use petgraph::graph::NodeIndex;

use super::{
    Runner, SharedCaches, SolveCancel,
    boundary::{CancelMode, Engine as _, ExportGate, NodeFailure, PreparedEngine},
    context::{Contexts, WantedContext},
    embedded::{EngineSetup, prepare},
};
use crate::{
    export::BuiltImage,
    grant::{self, Allowed, HostPaths},
    plan::{
        Plan, PlanNode,
        make::tests::plan_of,
        need::{NeedKind, needs},
    },
    registry::{self, ClientOptions},
    report::{Diagnostic, SourceMap, event::Event},
    solve::failure::SolveFailure,
    store::Store,
};

/// A folder with a state directory, and the plan of a bake file in it.
struct Place {
    folder: tempfile::TempDir,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x"), "content of x\n").unwrap();
        Self { folder, events: Arc::default() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn setup(&self) -> EngineSetup {
        /// The helper that syncs the store: there is nothing to sync.
        #[expect(clippy::disallowed_methods, reason = "no step and no user's program is started")]
        fn none(_program: &OsStr) -> Command {
            Command::new("true")
        }
        let events = Arc::clone(&self.events);
        let mut writable = Allowed::default();
        writable.allow(Path::new("."), self.path());
        EngineSetup {
            step_log: crate::spec::StepLogLimits::default(),
            hidden: Arc::default(),
            store: Store::open(&self.path().join("home")).unwrap(),
            client: registry::Client::new(ClientOptions::new(none)),
            sink: Arc::new(move |event| events.lock().unwrap().push(event)),
            jobs: 2,
            runner: Arc::new(Runner::new(Default::default())),
            env: Arc::default(),
            secret_env: Arc::default(),
            proxies: Arc::default(),
            cwd: self.path().to_owned(),
            held: None,
            cancel: SolveCancel::new().unwrap(),
            caches: SharedCaches::default(),
            command: none,
            now: || "2026-01-01T00:00:00.000000000Z".to_owned(),
            epoch_now: 1_767_225_600,
            writable,
        }
    }

    /// The contexts of a plan, which may read its folder.
    fn contexts(&self, plan: &Plan) -> Contexts {
        let (mut allowed, mut paths) = (Allowed::default(), HostPaths::default());
        allowed.allow(Path::new("."), self.path());
        for need in needs(plan, |_| false) {
            if let NeedKind::Read(text) | NeedKind::ReadDefinition(text) = &need.what {
                let found = grant::resolve(Path::new(text), self.path());
                paths.add_read(text, found.map(|found| allowed.read(found).expect("all is in the folder")));
            }
        }
        Contexts::new(self.path().to_owned(), paths, SourceMap::default())
    }

    async fn prepare(
        &self,
        plan: &Plan,
    ) -> Result<PreparedEngine<impl super::Engine<Built = BuiltImage>>, Vec<String>> {
        let contexts = self.contexts(plan);
        let codes = |faults: Vec<Diagnostic>| faults.iter().map(|fault| fault.code.to_owned()).collect();
        prepare(plan, self.setup(), &contexts).await.map_err(codes)
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn nodes(plan: &Plan) -> (Vec<NodeIndex>, Vec<NodeIndex>) {
    plan.graph.node_indices().partition(|node| matches!(plan.graph[*node], PlanNode::Build(_)))
}

const COPY: &str = r#"
    target "a" {
      dockerfile-inline = "FROM scratch\nCOPY x /x\n"
      output = ["type=local,dest=out"]
    }"#;

#[test]
fn all_builds_are_checked_before_anything_runs() {
    let text = r#"
        target "a" {
          dockerfile = "gone.Dockerfile"
        }
        target "b" {
          context = "gone"
        }
        target "c" {
          dockerfile-inline = "FROM scratch\nCOPY x /x\nUNKNOWN\n"
        }"#;
    let place = Place::new();
    let found = block_on(place.prepare(&plan_of(text, &["a", "b", "c"]))).map(|_| ());
    let mut faults = found.expect_err("three faults");
    faults.sort_unstable();
    assert_eq!(
        faults,
        [
            "bake::dockerfile::unknown_instruction",
            "bake::engine::context_missing",
            "bake::engine::dockerfile_unreadable"
        ]
    );
    assert!(place.events.lock().unwrap().is_empty(), "no step was announced");
}

#[test]
fn a_stage_that_is_not_there_is_a_fault_of_the_target() {
    let text = r#"
        target "a" {
          target = "gone"
          dockerfile-inline = "FROM scratch AS there\nCOPY x /x\n"
        }"#;
    let place = Place::new();
    let plan = plan_of(text, &["a"]);
    let contexts = place.contexts(&plan);
    let faults = block_on(prepare(&plan, place.setup(), &contexts)).map(|_| ()).expect_err("a fault");
    let (builds, _) = nodes(&plan);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].labels[0].at, plan.build(builds[0]).at("target"));
}

#[test]
fn a_build_is_exported_and_the_next_run_finds_it() {
    let place = Place::new();
    let plan = plan_of(COPY, &["a"]);
    let (builds, exports) = nodes(&plan);
    let contents: Vec<_> = (0..2)
        .map(|_| {
            block_on(async {
                let engine = place.prepare(&plan).await.expect("nothing is at fault").engine;
                assert_eq!(engine.gate(exports[0]), ExportGate::None);
                let built = engine.build(builds[0]).await.expect("it can be built");
                engine.export(exports[0], std::slice::from_ref(&built)).await.expect("it can be exported");
                engine.finish().expect("the state directory can be written");
                built.content
            })
        })
        .collect();
    assert_eq!(fs::read_to_string(place.path().join("out/x")).unwrap(), "content of x\n");
    assert_eq!(contents[0], contents[1]);
    let events = place.events.lock().unwrap();
    let wrote: Vec<bool> = events
        .iter()
        .filter_map(|event| if let Event::Wrote { reused, .. } = event { Some(*reused) } else { None })
        .collect();
    assert_eq!(wrote, [false, true]);
}

#[test]
fn a_push_publishes_and_an_archive_does_not() {
    let text = r#"
        target "a" {
          dockerfile-inline = "FROM scratch\nCOPY x /x\n"
          tags = ["registry.test/a"]
          output = ["type=registry", "type=oci,dest=a.tar"]
        }"#;
    let place = Place::new();
    let plan = plan_of(text, &["a"]);
    let engine = block_on(place.prepare(&plan)).expect("nothing is at fault").engine;
    let gates: Vec<ExportGate> = nodes(&plan).1.into_iter().map(|export| engine.gate(export)).collect();
    assert_eq!(gates.iter().filter(|gate| **gate == ExportGate::BeforeExport).count(), 1);
    assert_eq!(gates.iter().filter(|gate| **gate == ExportGate::None).count(), 1);
}

#[test]
fn a_cancelled_engine_builds_nothing() {
    for mode in [CancelMode::Ask, CancelMode::Kill] {
        let place = Place::new();
        let plan = plan_of(COPY, &["a"]);
        let built = block_on(async {
            let engine = place.prepare(&plan).await.expect("nothing is at fault").engine;
            engine.cancel(mode);
            engine.build(nodes(&plan).0[0]).await.map(|_| ())
        });
        assert!(matches!(built, Err(NodeFailure::Cancelled)), "{built:?}");
    }
}

#[test]
fn a_gone_snapshot_means_that_the_engine_was_lost() {
    let fault = || Arc::new(Diagnostic::error("bake::test", "x"));
    assert!(matches!(NodeFailure::from(SolveFailure::SnapshotGone(fault())), NodeFailure::EngineLost(_)));
    assert!(matches!(NodeFailure::from(SolveFailure::Failed(fault())), NodeFailure::Failed(_)));
    assert!(matches!(NodeFailure::from(SolveFailure::Cancelled), NodeFailure::Cancelled));
}

#[test]
fn a_dockerfile_is_read_once_and_may_be_lower_case() {
    let place = Place::new();
    fs::write(place.path().join("dockerfile"), "FROM scratch\n").unwrap();
    let contexts = place.contexts(&plan_of("target \"a\" {}", &["a"]));
    let wanted = || WantedContext::File { path: "Dockerfile".to_owned(), lower_case: Some("dockerfile".to_owned()) };
    let first = contexts.dockerfile(wanted(), "Dockerfile").expect("there is one");
    let second = contexts.dockerfile(wanted(), "Dockerfile").expect("there is one");
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!((first.file.stages.len(), contexts.n_dockerfiles()), (1, 1));
}
