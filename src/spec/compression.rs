//! How the layers of an image or a cache are compressed: the option `compression`, which outputs and caches share.

use super::options::OptionReader;
use crate::oci::Codec;

/// The options `compression`, `compression-level` and `force-compression`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerCompression {
    pub(crate) codec: Codec,
    /// In the scale of the codec; `None` is its default.
    pub(crate) level: Option<i32>,
    /// Layers that are compressed otherwise are converted, those of the base image included.
    pub(crate) force: bool,
}

impl LayerCompression {
    /// Reads the three options.
    pub(super) fn read(options: &mut OptionReader<'_>) -> Self {
        let all = Codec::ALL.map(|codec| (codec.name(), codec));
        let codec = options.choice("compression", &all, Codec::Gzip, "unsupported compression type");
        let (level, force) = (level(options, codec), options.flag("force-compression", false));
        Self { codec, level, force }
    }
}

fn level(options: &mut OptionReader<'_>, codec: Codec) -> Option<i32> {
    const KEY: &str = "compression-level";
    let text = options.text(KEY)?;
    let Ok(level) = text.parse::<i32>() else {
        options.bad(KEY, text, format!("compression-level is not a whole number: {text}"), None);
        return None;
    };
    let Some(range) = codec.levels() else {
        options.note(KEY, format!("compression-level has no effect with compression={}", codec.name()));
        return None;
    };
    if range.contains(&level) {
        return Some(level);
    }
    let help = format!("levels of {} go from {} to {}", codec.name(), range.start(), range.end());
    options.bad(KEY, text, format!("compression-level is out of range: {text}"), Some(help));
    None
}
