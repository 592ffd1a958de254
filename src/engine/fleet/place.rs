//! Which node builds what: pure.
//!
//! Nodes that the builder names for a platform go before those that are of it, and these before those that emulate it. A platform
//! that no node runs goes to any: what copies files, or compiles for another platform on its own, needs no program of it. Builds of
//! the same content go to the same node in every run, by rendezvous hashing, as long as no node gets more than a quarter over
//! its share.

use crate::oci::{Digest, Platform};

/// What is known of a node before work is given to it.
#[derive(Clone, Debug, Default)]
pub(super) struct PlaceNode {
    pub(super) name: String,
    /// Platforms that the builder names for it.
    pub(super) named: Vec<Platform>,
    /// Platforms of its processors.
    pub(super) native: Vec<Platform>,
    /// Platforms that it has an emulator for.
    pub(super) emulated: Vec<Platform>,
    /// Builds that run on it already, of whomever.
    pub(super) load: usize,
}

/// What is to be placed.
#[derive(Clone, Debug)]
pub(super) struct PlaceBuild {
    /// Its platform, and those of the builds whose results it reads.
    pub(super) platforms: Vec<Platform>,
    /// Equal for builds that share their cache.
    pub(super) affinity: String,
}

/// How well a node fits a platform; smaller is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Named,
    Native,
    Emulated,
    /// It runs no program of the platform.
    Foreign,
}

/// The nodes that can do each build, the one that is to do it first. Empty only without nodes.
pub(super) fn place(nodes: &[PlaceNode], builds: &[PlaceBuild]) -> Vec<Vec<usize>> {
    let mut given: Vec<usize> = nodes.iter().map(|node| node.load).collect();
    let mut placed = Vec::with_capacity(builds.len());
    for build in builds {
        let mut fitting: Vec<(Fit, usize)> =
            nodes.iter().enumerate().map(|(ix, node)| (fit_all(node, build), ix)).collect();
        // One that runs its programs may not lose a build to one that does not.
        if fitting.iter().any(|(fit, _)| *fit != Fit::Foreign) {
            fitting.retain(|(fit, _)| *fit != Fit::Foreign);
        }
        fitting.sort_by_key(|(fit, ix)| (*fit, std::cmp::Reverse(weight(&nodes[*ix], build))));
        let Some((best, _)) = fitting.first().copied() else {
            placed.push(Vec::new());
            continue;
        };
        // Those that fit as well as the best share the builds.
        let equal: Vec<usize> = fitting.iter().filter(|(fit, _)| *fit == best).map(|(_, ix)| *ix).collect();
        let all: usize = equal.iter().map(|ix| given[*ix]).sum::<usize>() + 1;
        // A quarter over the mean, and at least the mean.
        let most = (all * 5 / (equal.len() * 4)).max(all.div_ceil(equal.len()));
        let chosen = equal.iter().copied().find(|ix| given[*ix] < most).unwrap_or(equal[0]);
        given[chosen] += 1;
        let others = fitting.into_iter().map(|(_, ix)| ix).filter(|ix| *ix != chosen);
        placed.push([chosen].into_iter().chain(others).collect());
    }
    placed
}

/// How well a node fits the worst of a build's platforms.
fn fit_all(node: &PlaceNode, build: &PlaceBuild) -> Fit {
    build.platforms.iter().map(|platform| fit(node, platform)).max().unwrap_or(Fit::Native)
}

fn fit(node: &PlaceNode, platform: &Platform) -> Fit {
    let fits = [(&node.named, Fit::Named), (&node.native, Fit::Native), (&node.emulated, Fit::Emulated)];
    fits.into_iter().find(|(platforms, _)| platforms.contains(platform)).map_or(Fit::Foreign, |(_, fit)| fit)
}

impl PlaceNode {
    /// Whether it builds for a platform when it is told none.
    pub(super) fn runs_at_first(&self, platform: &Platform) -> bool {
        self.native.first() == Some(platform)
    }

    /// Whether it runs programs of a platform.
    pub(super) fn runs(&self, platform: &Platform) -> bool {
        fit(self, platform) != Fit::Foreign
    }
}

fn weight(node: &PlaceNode, build: &PlaceBuild) -> Digest {
    Digest::of(format!("{}\n{}", node.name, build.affinity).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).expect("a platform")
    }

    /// The first of its platforms is native.
    fn node(name: &str, named: &[&str], platforms: &[&str]) -> PlaceNode {
        let all = |texts: &[&str]| texts.iter().map(|it| platform(it)).collect();
        let (native, emulated) = (all(&platforms[..1]), all(&platforms[1..]));
        PlaceNode { name: name.to_owned(), named: all(named), native, emulated, load: 0 }
    }

    fn builds(n: usize, of: &str) -> Vec<PlaceBuild> {
        (0..n).map(|ix| PlaceBuild { platforms: vec![platform(of)], affinity: ix.to_string() }).collect()
    }

    #[test]
    fn named_goes_before_native_before_emulated() {
        let nodes = [
            node("emulates", &[], &["linux/amd64", "linux/arm64"]),
            node("native", &[], &["linux/arm64"]),
            node("named", &["linux/arm64"], &["linux/amd64"]),
        ];
        assert_eq!(place(&nodes, &builds(1, "linux/arm64")), [[2, 1, 0]]);
    }

    #[test]
    fn what_no_node_runs_goes_to_any() {
        let nodes = [node("a", &[], &["linux/amd64"]), node("b", &[], &["linux/amd64"])];
        let placed = place(&nodes, &builds(8, "linux/riscv64"));
        assert!(placed.iter().all(|it| it.len() == 2) && placed.iter().any(|it| it[0] == 0), "{placed:?}");
        assert!(placed.iter().any(|it| it[0] == 1) && !nodes[0].runs(&platform("linux/riscv64")), "{placed:?}");
        assert!(place(&[], &builds(1, "linux/amd64"))[0].is_empty());
    }

    #[test]
    fn equal_nodes_get_their_share_and_keep_what_they_had() {
        let nodes = [node("a", &[], &["linux/amd64"]), node("b", &[], &["linux/amd64"])];
        let placed = place(&nodes, &builds(20, "linux/amd64"));
        let first = placed.iter().filter(|it| it[0] == 0).count();
        assert!((8..=12).contains(&first), "{first}");
        assert_eq!(placed, place(&nodes, &builds(20, "linux/amd64")));
    }

    #[test]
    fn one_folder_for_all_targets_does_not_put_them_on_one_node() {
        let nodes = [node("a", &[], &["linux/amd64"]), node("b", &[], &["linux/amd64"])];
        let same = vec![PlaceBuild { platforms: vec![platform("linux/amd64")], affinity: String::new() }; 20];
        let first = place(&nodes, &same).iter().filter(|it| it[0] == 0).count();
        assert!((8..=12).contains(&first), "{first}");
    }

    #[test]
    fn a_busy_node_gets_less() {
        let busy = PlaceNode { load: 30, ..node("a", &[], &["linux/amd64"]) };
        let placed = place(&[busy, node("b", &[], &["linux/amd64"])], &builds(10, "linux/amd64"));
        assert!(placed.iter().filter(|it| it[0] == 1).count() >= 9);
    }
}
