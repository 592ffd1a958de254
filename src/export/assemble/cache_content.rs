//! What a shared cache holds, as a set of records: joined with what others wrote, and kept within bounds.
//!
//! Pure, and without the JSON of it (`cache_config`). Joining takes for each key the greater of two records, by the time of
//! last use and then by content, so that it does not matter who joins what first: several builds, processes and machines may
//! write one cache.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    export::{built::CacheRecord, pack::PackedLayer},
    oci::{DiffId, Digest},
};

/// Seconds after which a record that no build used or made again is left out.
pub(crate) const LONGEST_UNUSED: i64 = 30 * DAY;
/// Most records that a cache keeps.
const MOST_RECORDS: usize = 10_000;
/// Most layers that a cache keeps: registries take manifests of 4 MiB, and a descriptor is up to a KiB.
const MOST_LAYERS: usize = 2_000;
/// Seconds of a day: the time of last use is brought up to date when it is older, so that most builds write nothing.
const DAY: i64 = 24 * 60 * 60;

/// The records of a shared cache, by cache key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheContent {
    records: BTreeMap<Digest, CachedStep>,
}

/// The result of one step in a shared cache.
///
/// The order of two is that of their last use; of those used at the same time it is arbitrary, but always the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CachedStep {
    /// When it was last used or made: seconds since 1970.
    pub(crate) used: i64,
    /// The identity of the result.
    pub(crate) id: Digest,
    /// Lowest first; never empty.
    pub(crate) layers: Vec<CachedLayer>,
}

/// A layer in a shared cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CachedLayer {
    pub(crate) blob: Digest,
    pub(crate) diff_id: DiffId,
    /// Bytes of the blob.
    pub(crate) size: u64,
    pub(crate) media_type: String,
    /// Those that images have as well.
    pub(crate) annotations: BTreeMap<String, String>,
    /// RFC 3339; empty if it is not known.
    pub(crate) created: String,
}

impl CacheContent {
    /// The content of these records, used at `used` (seconds since 1970). `packed` has the layers of each record. `docker`
    /// names layers by Docker's media types. A result without layers is left out: making it costs less than asking for it.
    pub(crate) fn of(records: &[CacheRecord], packed: &[Vec<PackedLayer>], docker: bool, used: i64) -> Self {
        let mut content = Self::default();
        for (record, packed) in records.iter().zip(packed) {
            let layer = |(packed, layer): (&PackedLayer, &crate::export::built::LayerRef)| CachedLayer {
                blob: packed.digest,
                diff_id: packed.diff_id,
                size: packed.size,
                media_type: packed.codec.media_type(docker, false).to_owned(),
                annotations: packed.annotations.clone(),
                created: layer.created.clone(),
            };
            let layers: Vec<CachedLayer> = packed.iter().zip(&record.layers).map(layer).collect();
            content.add(record.key, CachedStep { used, id: record.id, layers });
        }
        content
    }

    /// Adds a record. Of two with one key the greater is kept; one without layers is left out.
    pub(crate) fn add(&mut self, key: Digest, step: CachedStep) {
        if step.layers.is_empty() {
            return;
        }
        let there = self.records.entry(key).or_insert_with(|| step.clone());
        if *there < step {
            *there = step;
        }
    }

    /// The records of both.
    pub(crate) fn joined(mut self, other: Self) -> Self {
        for (key, step) in other.records {
            self.add(key, step);
        }
        self
    }

    /// This content with the times of last use of `there` where these are good enough: less than a day older, for the same
    /// result. What was written today is then not written again.
    pub(crate) fn with_times_of(mut self, there: &Self) -> Self {
        for (key, step) in &mut self.records {
            if let Some(known) = there.records.get(key).filter(|known| step.is_as_good(known)) {
                step.used = known.used;
            }
        }
        self
    }

    /// What is kept by a build at `now` (seconds since 1970): records used within [`LONGEST_UNUSED`], and as many of them
    /// as a cache may have, those used last.
    pub(crate) fn trimmed(self, now: i64) -> Self {
        let mut newest: Vec<(Digest, CachedStep)> = self.records.into_iter().collect();
        newest.retain(|(_, step)| step.used >= now.saturating_sub(LONGEST_UNUSED));
        newest.sort_by(|(key, step), (other_key, other)| (other.used, key).cmp(&(step.used, other_key)));
        let mut layers = BTreeSet::new();
        let mut kept = BTreeMap::new();
        for (key, step) in newest {
            let blobs = step.layers.iter().map(|it| it.blob);
            let n_new = blobs.clone().filter(|blob| !layers.contains(blob)).count();
            if kept.len() < MOST_RECORDS && layers.len() + n_new <= MOST_LAYERS {
                layers.extend(blobs);
                kept.insert(key, step);
            }
        }
        Self { records: kept }
    }

    /// The records whose layers are all among those that `is_there` knows.
    pub(crate) fn present(mut self, is_there: impl Fn(&CachedLayer) -> bool) -> Self {
        self.records.retain(|_, step| step.layers.iter().all(&is_there));
        self
    }

    /// Only the records with keys of `other`.
    pub(crate) fn restricted_to(mut self, other: &Self) -> Self {
        self.records.retain(|key, _| other.records.contains_key(key));
        self
    }

    /// Whether each record of `other` is here, or a newer one in its place.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other
            .records
            .iter()
            .all(|(key, step)| self.records.get(key).is_some_and(|known| known >= step || step.is_as_good(known)))
    }

    /// The records, those with fewer layers first: a document of the same records is the same.
    pub(crate) fn in_order(&self) -> Vec<(&Digest, &CachedStep)> {
        let mut all: Vec<_> = self.records.iter().collect();
        all.sort_by_key(|(key, step)| (step.layers.len(), **key));
        all
    }

    /// Every layer once.
    pub(crate) fn layers(&self) -> Vec<&CachedLayer> {
        let mut seen = BTreeSet::new();
        let all = self.in_order().into_iter().flat_map(|(_, step)| &step.layers);
        all.filter(|layer| seen.insert(layer.blob)).collect()
    }
}

impl CachedStep {
    /// Whether `known`, which was used less than a day before, says the same.
    fn is_as_good(&self, known: &Self) -> bool {
        let Self { used, id, layers } = self;
        (*id, layers) == (known.id, &known.layers) && (0..DAY).contains(&used.saturating_sub(known.used))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layer(n: u8) -> CachedLayer {
        CachedLayer {
            blob: Digest::of(&[n]),
            diff_id: DiffId(Digest::of(&[n, n])),
            size: u64::from(n),
            media_type: "a/b".to_owned(),
            annotations: BTreeMap::new(),
            created: String::new(),
        }
    }

    fn step(used: i64, id: u8, layers: &[u8]) -> CachedStep {
        CachedStep { used, id: Digest::of(&[id]), layers: layers.iter().map(|n| layer(*n)).collect() }
    }

    fn content(records: &[(u8, CachedStep)]) -> CacheContent {
        let mut content = CacheContent::default();
        for (key, step) in records {
            content.add(Digest::of(&[*key]), step.clone());
        }
        content
    }

    /// Few keys, times and layers, so that most of what is joined meets.
    fn any_content() -> impl Strategy<Value = CacheContent> {
        let one = (0..6_u8, 0..4_i64, 0..3_u8, proptest::collection::vec(0..4_u8, 1..4));
        let all = proptest::collection::vec(one, 0..8);
        all.prop_map(|all| {
            let all: Vec<_> = all.into_iter().map(|(key, used, id, layers)| (key, step(used, id, &layers))).collect();
            content(&all)
        })
    }

    proptest! {
        #[test]
        fn joining_does_not_depend_on_who_joins_what_first(
            a in any_content(), b in any_content(), c in any_content()
        ) {
            let both = a.clone().joined(b.clone());
            prop_assert_eq!(&both, &b.clone().joined(a.clone()));
            prop_assert_eq!(&both, &both.clone().joined(a.clone()));
            prop_assert_eq!(&a, &a.clone().joined(a.clone()));
            prop_assert_eq!(both.clone().joined(c.clone()), a.clone().joined(b.clone().joined(c.clone())));
            for part in [&a, &b] {
                prop_assert!(both.covers(part));
            }
            prop_assert_eq!(both.records.len(), a.records.keys().chain(b.records.keys()).collect::<BTreeSet<_>>().len());
        }

        #[test]
        fn trimming_takes_no_more_the_second_time(a in any_content(), now in 0..LONGEST_UNUSED + 5) {
            let once = a.clone().trimmed(now);
            prop_assert_eq!(&once.clone().trimmed(now), &once);
            prop_assert!(a.covers(&once));
        }
    }

    #[test]
    fn a_record_that_nobody_used_for_long_goes_and_others_stay() {
        let now = 100 * DAY;
        let all = content(&[(1, step(now - LONGEST_UNUSED - 1, 1, &[1])), (2, step(now - LONGEST_UNUSED, 2, &[2]))]);
        assert_eq!(all.trimmed(now), content(&[(2, step(now - LONGEST_UNUSED, 2, &[2]))]));
    }

    #[test]
    fn too_many_records_are_cut_at_the_oldest() {
        let many = |n: usize| {
            let mut all = CacheContent::default();
            for i in 0..n {
                let used = i64::try_from(i).expect("few");
                all.add(Digest::of(&i.to_le_bytes()), step(used, 0, &[1]));
            }
            all
        };
        let kept = many(MOST_RECORDS + 5).trimmed(0);
        assert_eq!(kept.records.len(), MOST_RECORDS);
        assert_eq!(kept.records.values().map(|it| it.used).min(), Some(5));
    }

    #[test]
    fn what_was_used_today_is_not_written_again_and_newer_results_are() {
        let there = content(&[(1, step(10, 1, &[1])), (2, step(10, 2, &[2]))]);
        let mine = content(&[(1, step(20, 1, &[1])), (2, step(20, 3, &[2]))]).with_times_of(&there);
        let joined = there.joined(mine);
        assert_eq!(joined, content(&[(1, step(10, 1, &[1])), (2, step(20, 3, &[2]))]));
        let late = content(&[(1, step(10 + DAY, 1, &[1]))]);
        assert_eq!(late.clone().with_times_of(&joined), late);
        assert!(!joined.covers(&late));
    }
}
