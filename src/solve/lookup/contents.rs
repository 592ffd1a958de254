//! The content of what vertices read of local directories: hashed ahead for the whole run, answered by vertex and read.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use indexmap::IndexMap;
use tokio::sync::SetOnce;

use crate::{
    graph::{Graph, Local, Op, VertexIx},
    oci::Digest,
    report::Diagnostic,
    solve::{
        locals::Locals,
        reads::{OwnedRead, StepReads, reads},
    },
};

/// Which read of which vertex.
type ReadKey = (VertexIx, usize);

/// The content hashes of what the vertices of a graph read of local directories.
pub(crate) struct LocalContents {
    /// Each is set once; `None` is what could not be read.
    contents: Arc<HashMap<ReadKey, SetOnce<Option<Digest>>>>,
    is_started: AtomicBool,
}

impl LocalContents {
    /// A table in which nothing is hashed yet.
    pub(crate) fn new(graph: &Graph) -> Self {
        let contents = local_reads(graph).map(|(key, ..)| (key, SetOnce::new())).collect();
        Self { contents: Arc::new(contents), is_started: AtomicBool::new(false) }
    }

    /// The content hash of what the `n`th read of vertex `ix` reads of `local`. The first call begins to hash all that
    /// the run reads.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(crate) async fn get(
        &self,
        (ix, n): ReadKey,
        local: &Local,
        read: &StepReads<'_>,
        graph: &Graph,
        locals: &Locals,
    ) -> Result<Digest, Diagnostic> {
        if !self.is_started.swap(true, Ordering::SeqCst) {
            self.hash_ahead(graph, locals);
        }
        match self.contents[&(ix, n)].wait().await {
            Some(content) => Ok(*content),
            // Once more, for the diagnostic.
            None => locals.content(local, read).await,
        }
    }

    fn hash_ahead(&self, graph: &Graph, locals: &Locals) {
        let mut wanted: IndexMap<VertexIx, (Local, Vec<(ReadKey, OwnedRead)>)> = IndexMap::new();
        for (key, input, local, read) in local_reads(graph) {
            let (_, reads) = wanted.entry(input).or_insert_with(|| (local.clone(), Vec::new()));
            reads.push((key, read.into_owned()));
        }
        let contents = self.contents.clone();
        locals.look_ahead(wanted.into_values().collect(), move |key, content| {
            // Each read is answered once.
            drop(contents[&key].set(content));
        });
    }
}

/// Everything that vertices read of local directories: which read it is, the vertex of the directory, the directory.
fn local_reads(graph: &Graph) -> impl Iterator<Item = (ReadKey, VertexIx, &Local, StepReads<'_>)> {
    graph.iter().flat_map(move |(ix, vertex)| {
        let reads = reads(&vertex.op).into_iter().enumerate();
        reads.filter_map(move |(n, read)| {
            let input = vertex.inputs[read.input()];
            match &graph.get(input).op {
                Op::Local(local) => Some(((ix, n), input, local, read)),
                _ => None,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::{CopyAction, File, FileAction, Meta},
        oci::Platform,
        store::Store,
    };

    #[tokio::test]
    async fn what_can_be_read_is_answered_and_what_cannot_says_why() {
        let tmp = tempfile::tempdir().expect("a temporary folder");
        let context = tmp.path().join("context");
        std::fs::create_dir(&context).expect("the folder is writable");
        std::fs::write(context.join("a"), "a").expect("the folder is writable");
        let local = Local {
            folder: context.to_str().expect("UTF-8").to_owned(),
            name: "the build context".to_owned(),
            ignore: Vec::new(),
            ignore_file: None,
        };
        let mut graph = Graph::default();
        let mut add = |op, inputs| graph.add(op, inputs, Platform::host(), Meta::default());
        let base = add(Op::Scratch, Vec::new());
        let from = add(Op::Local(local.clone()), Vec::new());
        let actions =
            ["a", "missing"].map(|source| FileAction::Copy(Box::new(CopyAction::of_paths(source, "/")))).into();
        let step = add(Op::File(File { actions }), vec![base, from]);
        let contents = LocalContents::new(&graph);
        let locals = Locals::new(Store::open(&tmp.path().join("store")).expect("a new store"));
        let reads = reads(&graph.get(step).op);
        let found = contents.get((step, 0), &local, &reads[0], &graph, &locals).await;
        let again = locals.content(&local, &reads[0]).await;
        assert_eq!(found.expect("it is there"), again.expect("it is there"));
        let missing = contents.get((step, 1), &local, &reads[1], &graph, &locals).await;
        assert_eq!(missing.expect_err("it is not there").message, "source not found in the build context: missing");
    }
}
