//! How the layers of an image or a cache are compressed: the option `compression`, which outputs and caches share.

use super::options::OptionReader;

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Codec {
    Uncompressed,
    Gzip,
    Estargz,
    Zstd,
}

const CODECS: &[(&str, Codec)] =
    &[("uncompressed", Codec::Uncompressed), ("gzip", Codec::Gzip), ("estargz", Codec::Estargz), ("zstd", Codec::Zstd)];

impl Codec {
    /// The name in the option `compression`.
    pub(crate) fn name(self) -> &'static str {
        CODECS.iter().find(|(_, codec)| *codec == self).map_or("", |(name, _)| name)
    }
}

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
        let codec = options.choice("compression", CODECS, Codec::Gzip, "unsupported compression type");
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
    // The levels that the encoders take: https://pkg.go.dev/compress/gzip#pkg-constants, RFC 8878.
    let range = match codec {
        Codec::Uncompressed => {
            options.note(KEY, "compression-level has no effect with compression=uncompressed");
            return None;
        }
        Codec::Gzip | Codec::Estargz => -2..=9,
        Codec::Zstd => 0..=22,
    };
    if range.contains(&level) {
        return Some(level);
    }
    let help = format!("levels of {} go from {} to {}", codec.name(), range.start(), range.end());
    options.bad(KEY, text, format!("compression-level is out of range: {text}"), Some(help));
    None
}
