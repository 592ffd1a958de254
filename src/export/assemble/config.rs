//! The image config of a result: diff ids and history of all layers (OCI image spec, "Image Configuration").
//!
//! With an epoch no time in it is later (<https://reproducible-builds.org/specs/source-date-epoch/>).

use jiff::Timestamp;

use super::{
    build_info::{BUILD_INFO, build_info},
    cache_config,
};
use crate::{
    export::{built::BuiltImage, pack::PackedLayer},
    oci::{ImageConfig, config::History},
    spec::output::BuildInfoDetail,
};

const EXPORTER: &str = "buildkit.exporter.image.v0";

/// Assembles the image config of a build: its own, with the diff ids and the history of all layers, and with as much build
/// information as `detail` says.
pub(crate) fn config(
    build: &BuiltImage,
    layers: &[PackedLayer],
    epoch: Option<i64>,
    detail: BuildInfoDetail,
) -> ImageConfig {
    let mut config = build.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|it| it.diff_id).collect();
    "layers".clone_into(&mut config.rootfs.kind);
    level_base_history(&mut config.history, build.base_layers.min(layers.len()));
    let clamp = |created: &str| match epoch {
        Some(epoch) => clamped(created, epoch),
        None => created.to_owned(),
    };
    let mut own = build.layers[build.base_layers.min(build.layers.len())..].iter().map(|it| clamp(&it.created));
    // A step without layer has the time of the layer before it; those before the first one, of the first.
    let of_base = config.history.iter().rev().find_map(|it| it.created.as_deref().map(clamp));
    let mut time = own.clone().next().or(of_base).or(epoch.map(rfc3339));
    for step in &build.steps {
        if !step.empty {
            time = own.next().or(time);
        }
        config.history.push(History {
            created: time.clone(),
            created_by: Some(step.created_by.clone()),
            author: step.author.clone(),
            comment: step.comment.clone(),
            empty_layer: step.empty,
        });
    }
    for created in own {
        config.history.push(History {
            created: Some(created),
            comment: Some(EXPORTER.to_owned()),
            ..History::default()
        });
    }
    let last = config.history.iter().rev().find_map(|it| it.created.clone());
    if let Some(records) = &build.inline_cache {
        config.rest.insert("moby.buildkit.cache.v0".to_owned(), cache_config::inline(records, layers).into());
    }
    // What the base image says is about its own build.
    config.rest.shift_remove(BUILD_INFO);
    if let Some(text) = build.build_info.as_ref().and_then(|info| build_info(info, detail)) {
        config.rest.insert(BUILD_INFO.to_owned(), text.into());
    }
    config.created = match (config.created.take().or(last), epoch) {
        (Some(created), Some(epoch)) => Some(clamped(&created, epoch)),
        (created, None) => created,
        (None, Some(epoch)) => Some(rfc3339(epoch)),
    };
    config
}

/// Makes the base's history have as many entries with a layer as it has layers.
fn level_base_history(history: &mut Vec<History>, layers: usize) {
    let mut with_layer = history.iter().filter(|it| !it.empty_layer).count();
    for entry in history.iter_mut().filter(|it| !it.empty_layer) {
        if with_layer <= layers {
            break;
        }
        entry.empty_layer = true;
        with_layer -= 1;
    }
    for _ in with_layer..layers {
        history.push(History { comment: Some(EXPORTER.to_owned()), ..History::default() });
    }
}

/// The earlier of a time and the epoch; a text that is no time becomes the epoch.
fn clamped(created: &str, epoch: i64) -> String {
    match created.parse::<Timestamp>() {
        Ok(time) if time.as_second() < epoch => created.to_owned(),
        _ => rfc3339(epoch),
    }
}

/// Formats seconds since 1970 as RFC 3339 in UTC.
pub(crate) fn rfc3339(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |it| it.to_string())
}
