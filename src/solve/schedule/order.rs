//! What a vertex needs, and how much depends on it.

use std::{collections::HashMap, time::Duration};

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

/// Finds the critical path of a run: of the chains of vertices that wait for one another, the one that took longest, lowest
/// first. `took` has the times of the vertices that ran.
pub(crate) fn critical_path(graph: &Graph, took: &HashMap<VertexIx, Duration>) -> Vec<VertexIx> {
    let mut ends = vec![Duration::ZERO; graph.len()];
    let mut before: Vec<Option<VertexIx>> = vec![None; graph.len()];
    for (ix, vertex) in graph.iter() {
        let longest = vertex.inputs.iter().max_by_key(|input| ends[input.index()]).copied();
        let waited = longest.map_or(Duration::ZERO, |input| ends[input.index()]);
        before[ix.index()] = longest;
        ends[ix.index()] = waited + took.get(&ix).copied().unwrap_or_default();
    }
    let mut next = took.keys().max_by_key(|ix| (ends[ix.index()], **ix)).copied();
    let mut path = Vec::new();
    while let Some(ix) = next {
        if took.contains_key(&ix) {
            path.push(ix);
        }
        next = before[ix.index()];
    }
    path.reverse();
    path
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
    fn the_critical_path_is_the_chain_that_took_longest() {
        let mut graph = Graph::default();
        let base = add(&mut graph, Op::Scratch, &[]);
        let long = add(&mut graph, exec("long"), &[base]);
        let quick = add(&mut graph, exec("quick"), &[base]);
        let cached = add(&mut graph, exec("cached"), &[quick]);
        let last = add(&mut graph, exec("last"), &[cached, long]);
        let other = add(&mut graph, exec("other"), &[base]);
        let seconds = [(long, 5), (quick, 2), (last, 1), (other, 4)];
        let took = seconds.into_iter().map(|(ix, n)| (ix, Duration::from_secs(n))).collect();
        assert_eq!(critical_path(&graph, &took), [long, last]);
        let took = [(quick, 3), (last, 1)].into_iter().map(|(ix, n)| (ix, Duration::from_secs(n))).collect();
        assert_eq!(critical_path(&graph, &took), [quick, last]);
        assert!(critical_path(&graph, &HashMap::new()).is_empty());
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
