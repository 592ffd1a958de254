//! The tasks of a run: a vertex that is needed becomes one task, which waits for the tasks of its inputs.
//!
//! Nothing recurses, however deep the graph is.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::FutureExt as _;
use tokio::sync::SetOnce;

use crate::{
    graph::VertexIx,
    solve::{failure::SolveFailure, tree::LayerTree},
};

/// The result of solving one vertex: its file system as a stack of layers, or why there is none.
///
/// Every vertex that reads this one gets a clone. `Err` also means that a vertex it needs failed, or that the run was
/// cancelled first; [`SolveFailure`] tells these apart.
pub(crate) type SolvedVertex = Result<LayerTree, SolveFailure>;

/// The results of all vertices of a graph, as far as they were asked for.
pub(crate) struct VertexTasks {
    results: Vec<SetOnce<SolvedVertex>>,
    started: Vec<AtomicBool>,
}

impl VertexTasks {
    /// No results yet, for a graph of `n_vertices`; nothing is started.
    pub(crate) fn new(n_vertices: usize) -> Self {
        Self {
            results: (0..n_vertices).map(|_| SetOnce::new()).collect(),
            started: (0..n_vertices).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Starts a task for each vertex that has none. `work` solves a vertex; if it panics, the result is what `bug`
    /// returns.
    pub(crate) fn start<F: Future<Output = SolvedVertex> + Send + 'static>(
        self: &Arc<Self>,
        vertices: &[VertexIx],
        work: impl Fn(VertexIx) -> F,
        bug: impl Fn(VertexIx) -> SolveFailure + Clone + Send + 'static,
    ) {
        for ix in vertices.iter().copied() {
            if self.started[ix.index()].swap(true, Ordering::SeqCst) {
                continue;
            }
            let (tasks, work, bug) = (self.clone(), work(ix), bug.clone());
            drop(tokio::spawn(async move {
                let solved = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(bug(ix)));
                // Only the task that started it sets it.
                drop(tasks.results[ix.index()].set(solved));
            }));
        }
    }

    /// Waits for the result of a vertex that was started, or will be.
    pub(crate) async fn wait(&self, ix: VertexIx) -> SolvedVertex {
        self.results[ix.index()].wait().await.clone()
    }

    /// Waits for the results of several vertices.
    ///
    /// # Errors
    /// The first failure, in their order.
    pub(crate) async fn wait_all(&self, vertices: &[VertexIx]) -> Result<Vec<LayerTree>, SolveFailure> {
        let mut trees = Vec::with_capacity(vertices.len());
        for ix in vertices {
            trees.push(self.wait(*ix).await?);
        }
        Ok(trees)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::{
        graph::{Graph, Meta, Op},
        oci::Platform,
        report::Diagnostic,
    };

    fn chain(n: usize) -> (Graph, Vec<VertexIx>) {
        let mut graph = Graph::default();
        let mut vertices = vec![graph.add(Op::Scratch, Vec::new(), Platform::host(), Meta::default())];
        for _ in 1..n {
            let last = *vertices.last().expect("it has one");
            vertices.push(graph.add(Op::Merge, vec![last], Platform::host(), Meta::default()));
        }
        (graph, vertices)
    }

    fn bug(_: VertexIx) -> SolveFailure {
        Diagnostic::error("bake::solve::bug", "a bug").into()
    }

    #[tokio::test]
    async fn a_vertex_is_resolved_once_however_often_it_is_asked_for() {
        let (graph, vertices) = chain(2000);
        let tasks = Arc::new(VertexTasks::new(graph.len()));
        let n_runs = Arc::new(AtomicUsize::new(0));
        let graph = Arc::new(graph);
        let work = |ix: VertexIx| {
            let (tasks, graph, n_runs) = (tasks.clone(), graph.clone(), n_runs.clone());
            async move {
                tasks.wait_all(&graph.get(ix).inputs).await?;
                n_runs.fetch_add(1, Ordering::SeqCst);
                Ok(LayerTree::scratch())
            }
        };
        for _ in 0..3 {
            tasks.start(&vertices, work, bug);
        }
        let last = tasks.wait(vertices[1999]).await;
        assert_eq!(last.expect("nothing fails"), LayerTree::scratch());
        assert_eq!(n_runs.load(Ordering::SeqCst), 2000);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_of_its_vertex_and_of_those_that_need_it() {
        let (graph, vertices) = chain(3);
        let tasks = Arc::new(VertexTasks::new(graph.len()));
        let graph = Arc::new(graph);
        let broken = vertices[1];
        let work = |ix: VertexIx| {
            let (tasks, graph) = (tasks.clone(), graph.clone());
            async move {
                tasks.wait_all(&graph.get(ix).inputs).await?;
                assert_ne!(ix, broken, "planted");
                Ok(LayerTree::scratch())
            }
        };
        tasks.start(&vertices, work, bug);
        assert!(tasks.wait(vertices[0]).await.is_ok());
        let failed = tasks.wait(vertices[2]).await;
        assert!(matches!(failed, Err(SolveFailure::Failed(it)) if it.message == "a bug"));
    }
}
