//! Sources: a commit of a git repository, or a file of a server; each is asked for once in a run.
//!
//! Images are not here: their layers are pulled when a step looks inside (`solve::base`).

use std::sync::PoisonError;

use super::{git, http};
use crate::{
    graph::{Op, Vertex},
    report::event::StepId,
    solve::{
        failure::SolveFailure,
        tree::{LayerTree, SolvedTree},
        world::{FetchedSource, SolveWorld},
    },
};
pub(crate) use http::{is_stored_archive, record_archive, stored_archive};

/// Fetches the source that a vertex stands for, a git commit or a download; equal vertices are fetched once a run.
///
/// For other ops it returns the empty tree. Failures have the place of the instruction.
pub(crate) async fn fetch(world: &SolveWorld, vertex: &Vertex, id: StepId) -> Result<SolvedTree, SolveFailure> {
    let cell = {
        let mut fetched = world.sources.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.entry(vertex.digest).or_default().clone()
    };
    let found = cell
        .get_or_try_init(|| async {
            match &vertex.op {
                Op::Git(git) => git::checkout(world, git).await,
                Op::Http(http) => http::download(world, http, id).await,
                Op::Scratch | Op::Image(_) | Op::Local(_) | Op::Exec(_) | Op::File(_) | Op::Merge => {
                    Ok(FetchedSource {
                        tree: SolvedTree::Cached(LayerTree::scratch()),
                        pin: String::new(),
                        modified: None,
                    })
                }
            }
        })
        .await;
    found.map(|source| source.tree.clone()).map_err(|failure| failure.at_instruction(vertex))
}
