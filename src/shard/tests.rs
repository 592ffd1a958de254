//! What the division holds for all inputs, and a few divisions in full.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{ShardTarget, Split, split};

fn target(name: &str, steps: &[usize], links: &[usize], is_linked: bool) -> ShardTarget {
    ShardTarget { name: name.to_owned(), steps: steps.iter().copied().collect(), links: links.to_vec(), is_linked }
}

/// `0: a b | c`: a shard a line, waves with a bar between them.
fn shown(targets: &[ShardTarget], found: &Split) -> String {
    let of_wave =
        |wave: &BTreeSet<usize>| wave.iter().map(|ix| targets[*ix].name.as_str()).collect::<Vec<_>>().join(" ");
    let of_shard = |(n, shard): (usize, &super::Shard)| {
        let waves: Vec<String> = shard.waves.iter().map(|(wave, it)| format!("{wave}:{}", of_wave(it))).collect();
        format!("{n} ({}) {}\n", shard.weight, waves.join(" "))
    };
    found.shards.iter().enumerate().map(of_shard).collect()
}

#[test]
fn what_has_steps_in_common_stays_together_and_the_longest_go_first() {
    let targets = [
        target("a", &[0, 1], &[], false),
        target("b", &[2], &[], false),
        target("c", &[1, 3], &[], false),
        target("d", &[4], &[], false),
    ];
    let found = split(&targets, &[1, 2, 4, 1, 3], 2);
    assert_eq!(shown(&targets, &found), "0 (7) 0:a c d\n1 (4) 0:b\n", "{found:?}");
    assert!(found.repeated.is_empty());
}

#[test]
fn a_group_that_is_too_large_is_divided_in_waves_behind_what_it_is_linked_to() {
    let targets = [
        target("base", &[0], &[], true),
        target("a", &[0, 1], &[0], false),
        target("b", &[0, 2], &[0], false),
        target("c", &[0, 3], &[0], false),
    ];
    let found = split(&targets, &[5, 5, 5, 5], 3);
    assert_eq!(shown(&targets, &found), "0 (10) 0:base 1:c\n1 (5) 1:a\n2 (5) 1:b\n");
    assert!(found.repeated.is_empty(), "the base is in the cache");
    // One that fits is not divided, and what is only linked is built with those that need it.
    assert_eq!(shown(&targets, &split(&targets, &[5, 5, 5, 5], 1)), "0 (20) 0:a b c\n");
}

#[test]
fn short_steps_hold_nothing_together_where_that_would_be_too_much() {
    let targets =
        [target("a", &[0, 1], &[], false), target("b", &[0, 2], &[], false), target("c", &[0, 2, 3], &[], false)];
    let found = split(&targets, &[1, 90, 60, 30], 2);
    assert_eq!(shown(&targets, &found), "0 (91) 0:a\n1 (91) 0:b c\n");
    assert_eq!(found.repeated, [0].into());
}

#[test]
fn steps_that_two_runners_have_are_told() {
    let targets =
        [target("a", &[0, 1], &[], false), target("b", &[0, 2], &[], false), target("c", &[0, 3], &[], false)];
    let found = split(&targets, &[1, 50, 50, 50], 3);
    assert_eq!(shown(&targets, &found), "0 (51) 0:a\n1 (51) 0:b\n2 (51) 0:c\n");
    assert_eq!(found.repeated, [0].into());
}

/// Targets with a few steps of few, each linked to some before it.
fn targets() -> impl Strategy<Value = Vec<ShardTarget>> {
    let one = (proptest::collection::btree_set(0_usize..12, 0..4), any::<[bool; 3]>(), any::<bool>());
    proptest::collection::vec(one, 1..12).prop_map(|drawn| {
        let mut made: Vec<ShardTarget> = Vec::new();
        for (n, (mut steps, links, is_linked)) in drawn.into_iter().enumerate() {
            let links: Vec<usize> = (0..n.min(3)).filter(|ix| links[*ix]).collect();
            links.iter().for_each(|ix| steps.extend(made[*ix].steps.clone()));
            made.push(ShardTarget { name: format!("t{n}"), steps, links, is_linked });
        }
        let needed: BTreeSet<usize> = made.iter().flat_map(|it| it.links.clone()).collect();
        made.iter_mut().enumerate().for_each(|(n, it)| it.is_linked &= needed.contains(&n));
        made
    })
}

proptest! {
    #[test]
    fn every_wanted_target_is_in_one_place_behind_its_links(
        targets in targets(), weights in proptest::collection::vec(0_u64..100, 12), n in 1_usize..6
    ) {
        let found = split(&targets, &weights, n);
        prop_assert_eq!(&found, &split(&targets, &weights, n));
        prop_assert_eq!(found.shards.len(), n);
        let mut places = vec![Vec::new(); targets.len()];
        for (shard, waves) in found.shards.iter().enumerate() {
            for (wave, members) in &waves.waves {
                members.iter().for_each(|ix| places[*ix].push((shard, *wave)));
            }
        }
        for (ix, target) in targets.iter().enumerate() {
            prop_assert!(places[ix].len() == 1 || target.is_linked && places[ix].is_empty(), "{ix}: {:?}", places[ix]);
            for link in &target.links {
                if let ([(shard, wave)], [(of_link, before)]) = (&*places[ix], &*places[*link]) {
                    prop_assert!(before < wave || shard == of_link && before == wave);
                }
            }
        }
        // Whatever the weights are, one runner does all, and repeats nothing.
        let alone = split(&targets, &weights, 1);
        prop_assert!(alone.repeated.is_empty());
    }
}
