//! The division itself. It follows from its input alone, so that runners which make it each for themselves agree.
//!
//! 1. Targets that have a step in common, or are linked, are a *group*. A group goes to one runner, so that nothing is built
//!    twice; the largest go first, each to the runner that has least to do (longest processing time first).
//! 2. In a group that alone would take much longer than a fair share, short steps count no more: what only has those in
//!    common (`WORKDIR`, a small `COPY`) is a group of its own. Such steps may run on several runners; they are counted as
//!    repeated.
//! 3. A group that is still too large is divided in *waves*: first the targets that
//!    others are linked to, then those others, which find the first in a shared cache. Within a wave each target goes where it
//!    adds least.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::unionfind::UnionFind;

/// A target with the steps of its builds, by their indices; links too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardTarget {
    pub(crate) name: String,
    /// Those of linked targets are among them.
    pub(crate) steps: BTreeSet<usize>,
    /// The targets whose results it reads, by index; they come before it.
    pub(crate) links: Vec<usize>,
    /// Only others need it; it is built by itself only in a wave before them.
    pub(crate) is_linked: bool,
}

/// What one runner builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shard {
    /// The targets of each wave, by index, in the order of the input.
    pub(crate) waves: BTreeMap<usize, BTreeSet<usize>>,
    /// The sum of the times of its steps.
    pub(crate) weight: u64,
    /// The steps that it runs, unless a cache has them.
    steps: BTreeSet<usize>,
}

/// A division of targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// As many as were asked for; those at the end may be empty.
    pub(crate) shards: Vec<Shard>,
    /// Steps that more than one shard runs.
    pub(crate) repeated: BTreeSet<usize>,
}

/// A group is divided when it weighs more than this many hundredths of a fair share.
const OVERFULL: u64 = 130;

/// A step is short when it is less than this part of a fair share.
const SHORT: u64 = 50;

/// Divides targets among `n_shards` runners; `weights` are the times of the steps, in any unit.
///
/// Every target that is not only linked is in one shard and wave. *Cost:* targets × steps × shards in the worst case.
pub(crate) fn split(targets: &[ShardTarget], weights: &[u64], n_shards: usize) -> Split {
    let mut division = Division {
        targets,
        weights,
        fair: 1,
        found: Split { shards: vec![Shard::default(); n_shards.max(1)], repeated: BTreeSet::new() },
    };
    let all: Vec<usize> = (0..targets.len()).collect();
    division.fair = division.weigh(&division.steps_of(&all)).div_ceil(n_shards.max(1) as u64).max(1);
    division.place(&all, 0);
    division.found.count_repeated();
    division.found
}

impl Split {
    /// What several shards run, unless it is in an earlier wave of another.
    fn count_repeated(&mut self) {
        let mut times: BTreeMap<usize, usize> = BTreeMap::new();
        self.shards.iter().flat_map(|shard| &shard.steps).for_each(|step| *times.entry(*step).or_default() += 1);
        self.repeated = times.into_iter().filter(|(_, n)| *n > 1).map(|(step, _)| step).collect();
    }
}

struct Division<'a> {
    targets: &'a [ShardTarget],
    weights: &'a [u64],
    /// The weight of all steps, divided by the number of shards.
    fair: u64,
    found: Split,
}

impl Division<'_> {
    fn steps_of(&self, members: &[usize]) -> BTreeSet<usize> {
        members.iter().flat_map(|ix| self.targets[*ix].steps.iter().copied()).collect()
    }

    fn weigh(&self, steps: &BTreeSet<usize>) -> u64 {
        steps.iter().map(|step| self.weights[*step]).sum()
    }

    /// Places these targets in groups; steps that weigh less than `least_weight` join none.
    fn place(&mut self, members: &[usize], least_weight: u64) {
        let groups = groups_of(self.targets, members, &|step| self.weights[step] >= least_weight);
        let mut weighed: Vec<(u64, Vec<usize>)> =
            groups.into_iter().map(|group| (self.weigh(&self.steps_of(&group)), group)).collect();
        // Equal ones in the order of their first targets.
        weighed.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        for (weight, group) in weighed {
            let wanted: Vec<usize> = group.iter().copied().filter(|ix| !self.targets[*ix].is_linked).collect();
            let is_overfull = weight.saturating_mul(100) > self.fair.saturating_mul(OVERFULL);
            if wanted.len() < 2 || self.found.shards.len() < 2 || !is_overfull {
                let steps = self.steps_of(&group);
                let shard = least(&mut self.found.shards, |shard| shard.weight);
                shard.waves.entry(0).or_default().extend(wanted);
                shard.weight += weight;
                shard.steps.extend(steps);
            } else if least_weight == 0 {
                self.place(&group, self.fair.div_ceil(SHORT).max(1));
            } else {
                divide(self.targets, self.weights, &group, &mut self.found);
            }
        }
    }
}

/// Divides one group in waves.
fn divide(targets: &[ShardTarget], weights: &[u64], members: &[usize], found: &mut Split) {
    let mut waves: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut depth: BTreeMap<usize, usize> = BTreeMap::new();
    for ix in members {
        let of_links = targets[*ix].links.iter().filter_map(|link| depth.get(link)).max();
        let wave = of_links.map_or(0, |deepest| deepest + 1);
        depth.insert(*ix, wave);
        waves.entry(wave).or_default().push(*ix);
    }
    let mut cached: BTreeSet<usize> = BTreeSet::new();
    for (wave, mut in_wave) in waves {
        let mut taken: BTreeSet<usize> = BTreeSet::new();
        let own = |ix: &usize| -> u64 { targets[*ix].steps.difference(&cached).map(|step| weights[*step]).sum() };
        in_wave.sort_by_key(|ix| (std::cmp::Reverse(own(ix)), *ix));
        for ix in in_wave {
            let new = |shard: &Shard| -> BTreeSet<usize> {
                let steps = targets[ix].steps.difference(&cached);
                steps.filter(|step| !shard.steps.contains(step)).copied().collect()
            };
            let added = |shard: &Shard| new(shard).iter().map(|step| weights[*step]).sum::<u64>();
            let shard = least(&mut found.shards, |shard| shard.weight + added(shard));
            let (weight, steps) = (added(shard), new(shard));
            shard.weight += weight;
            taken.extend(&steps);
            shard.steps.extend(steps);
            shard.waves.entry(wave).or_default().insert(ix);
        }
        cached.extend(taken);
    }
}

/// The first of the shards for which `weigh` is least.
fn least(shards: &mut [Shard], weigh: impl Fn(&Shard) -> u64) -> &mut Shard {
    let place = (0..shards.len()).min_by_key(|place| weigh(&shards[*place])).expect("there is at least one");
    &mut shards[place]
}

/// Those of the members that have a step in common which `joins`, or are linked, together; in order.
fn groups_of(targets: &[ShardTarget], members: &[usize], joins: &dyn Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let mut joined = UnionFind::<usize>::new(targets.len());
    let mut first: BTreeMap<usize, usize> = BTreeMap::new();
    for ix in members.iter().copied() {
        for step in targets[ix].steps.iter().copied().filter(|step| joins(*step)) {
            joined.union(*first.entry(step).or_insert(ix), ix);
        }
        for link in &targets[ix].links {
            joined.union(*link, ix);
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for ix in members {
        groups.entry(joined.find(*ix)).or_default().push(*ix);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort();
    groups
}
