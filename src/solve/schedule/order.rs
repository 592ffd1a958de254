//! What a vertex needs, and how much depends on it.

use crate::graph::{Graph, Op, VertexIx};

/// Weight of a process against a copy: it usually takes much longer.
const EXEC_WEIGHT: u64 = 100;

/// Lists all vertices that `result` needs, itself included, inputs before users.
pub(crate) fn reachable(graph: &Graph, result: VertexIx) -> Vec<VertexIx> {
    let mut seen = vec![false; graph.len()];
    let mut stack = vec![result];
    let mut found = Vec::new();
    while let Some(ix) = stack.pop() {
        if !std::mem::replace(&mut seen[ix.index()], true) {
            found.push(ix);
            stack.extend(&graph.get(ix).inputs);
        }
    }
    found.sort_unstable();
    found
}

/// Computes for each vertex the weight of the longest path from it to an end of the graph, its own weight not included.
pub(crate) fn heights(graph: &Graph) -> Vec<u64> {
    let mut heights = vec![0_u64; graph.len()];
    let vertices: Vec<_> = graph.iter().collect();
    for (ix, vertex) in vertices.into_iter().rev() {
        let own = heights[ix.index()] + if matches!(vertex.op, Op::Exec(_)) { EXEC_WEIGHT } else { 1 };
        for input in &vertex.inputs {
            let height = &mut heights[input.index()];
            *height = (*height).max(own);
        }
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::{Exec, File, Meta},
        oci::Platform,
    };

    fn exec(name: &str) -> Op {
        Op::Exec(Box::new(Exec::of_args(&[name])))
    }

    fn add(graph: &mut Graph, op: Op, inputs: &[VertexIx]) -> VertexIx {
        graph.add(op, inputs.to_vec(), Platform::host(), Meta::default())
    }

    #[test]
    fn only_what_a_result_needs_is_reached_and_inputs_come_first() {
        let mut graph = Graph::default();
        let base = add(&mut graph, Op::Scratch, &[]);
        let left = add(&mut graph, exec("left"), &[base]);
        let right = add(&mut graph, exec("right"), &[base]);
        let both = add(&mut graph, Op::Merge, &[left, right]);
        assert_eq!(reachable(&graph, right), [base, right]);
        assert_eq!(reachable(&graph, both), [base, left, right, both]);
    }

    #[test]
    fn a_long_chain_of_processes_is_higher_than_a_copy() {
        let mut graph = Graph::default();
        let base = add(&mut graph, Op::Scratch, &[]);
        let first = add(&mut graph, exec("first"), &[base]);
        let second = add(&mut graph, exec("second"), &[first]);
        let copy = add(&mut graph, Op::File(File { actions: Vec::new() }), &[base]);
        let heights = heights(&graph);
        assert_eq!(heights[second.index()], 0);
        assert_eq!(heights[first.index()], EXEC_WEIGHT);
        assert_eq!(heights[base.index()], 2 * EXEC_WEIGHT);
        assert_eq!(heights[copy.index()], 0);
    }
}
