//! How the blob of a layer is compressed: one row a compression, with its name in options, its levels and its media types.
//! The encoders themselves are in `layer::encode`.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{key::key_words, media};

/// The annotation of an estargz blob: the digest of its table of contents
/// (<https://github.com/containerd/stargz-snapshotter/blob/main/docs/estargz.md>).
pub(crate) const ESTARGZ_TOC: &str = "containerd.io/snapshot/stargz/toc.digest";

/// The compression of a layer's blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Codec {
    Uncompressed,
    Gzip,
    /// Gzip with a table of contents, by which single files can be fetched.
    Estargz,
    Zstd,
}

key_words!(Codec { Uncompressed = 0, Gzip = 1, Estargz = 2, Zstd = 3 });

/// All that is known of one compression.
struct CodecRow {
    name: &'static str,
    /// `None`: it has no levels.
    levels: Option<RangeInclusive<i32>>,
    /// How the media types of its layers end; empty for the one that stands for all others.
    ending: &'static str,
    oci: MediaTypes,
    docker: MediaTypes,
}

/// Media types of layers: of ordinary ones, and of those that must not be distributed.
struct MediaTypes {
    usual: &'static str,
    nondist: &'static str,
}

impl Codec {
    /// All of them, in the order in which help texts name them.
    pub(crate) const ALL: [Self; 4] = [Self::Uncompressed, Self::Gzip, Self::Estargz, Self::Zstd];

    // Levels: https://pkg.go.dev/compress/gzip#pkg-constants, RFC 8878. Media types: OCI image spec, "Image Layer
    // Filesystem Changeset", and https://distribution.github.io/distribution/spec/manifest-v2-2/.
    const fn row(self) -> CodecRow {
        match self {
            Self::Uncompressed => CodecRow {
                name: "uncompressed",
                levels: None,
                ending: "",
                oci: MediaTypes {
                    usual: media::OCI_LAYER,
                    nondist: "application/vnd.oci.image.layer.nondistributable.v1.tar",
                },
                docker: MediaTypes {
                    usual: media::DOCKER_LAYER,
                    nondist: "application/vnd.docker.image.rootfs.foreign.diff.tar",
                },
            },
            Self::Gzip => CodecRow {
                name: "gzip",
                levels: Some(-2..=9),
                ending: "gzip",
                oci: MediaTypes {
                    usual: media::OCI_LAYER_GZIP,
                    nondist: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                },
                docker: MediaTypes {
                    usual: media::DOCKER_LAYER_GZIP,
                    nondist: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                },
            },
            Self::Estargz => CodecRow { name: "estargz", ..Self::Gzip.row() },
            Self::Zstd => CodecRow {
                name: "zstd",
                levels: Some(0..=22),
                ending: "zstd",
                oci: MediaTypes {
                    usual: media::OCI_LAYER_ZSTD,
                    nondist: "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
                },
                docker: MediaTypes {
                    usual: media::DOCKER_LAYER_ZSTD,
                    // Docker has no such type for zstd; engines look at the first bytes.
                    nondist: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                },
            },
        }
    }

    /// The name in the option `compression`.
    pub(crate) const fn name(self) -> &'static str {
        self.row().name
    }

    /// The levels that the option `compression-level` may name; `None` where it has no effect.
    pub(crate) const fn levels(self) -> Option<RangeInclusive<i32>> {
        self.row().levels
    }

    /// The media type of a layer, in the words of OCI or of Docker; `nondist`: one that must not be distributed.
    pub(crate) const fn media_type(self, docker: bool, nondist: bool) -> &'static str {
        let CodecRow { oci, docker: of_docker, .. } = self.row();
        let types = if docker { of_docker } else { oci };
        if nondist { types.nondist } else { types.usual }
    }

    /// The compression of a published layer by its media type and annotations.
    pub(crate) fn of_layer(media_type: &str, annotations: &BTreeMap<String, String>) -> Self {
        if annotations.contains_key(ESTARGZ_TOC) {
            return Self::Estargz;
        }
        let is_it = |codec: &Self| !codec.row().ending.is_empty() && media_type.ends_with(codec.row().ending);
        Self::ALL.into_iter().find(is_it).unwrap_or(Self::Uncompressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_tells_its_codec() {
        let none = BTreeMap::new();
        let toc = BTreeMap::from([(ESTARGZ_TOC.to_owned(), String::new())]);
        for codec in Codec::ALL {
            for docker in [false, true] {
                let annotations = if codec == Codec::Estargz { &toc } else { &none };
                assert_eq!(Codec::of_layer(codec.media_type(docker, false), annotations), codec);
            }
        }
        assert_eq!(Codec::of_layer(Codec::Zstd.media_type(false, true), &none), Codec::Zstd);
    }
}
