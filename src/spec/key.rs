//! Which fields of options are part of keys: all of them, or the reason why not stands beside the field.
//!
//! A field that is added to one of these types does not compile before it is named here.

use super::{
    CallMethod, Entitlement, ImageTag, ResourceLimits, Secret, Ssh, Ulimit, UlimitName,
    annotation::{Annotation, AnnotationLevel},
    attest::{Attestations, ProvenanceMode, ProvenanceOptions, SbomOptions, SlsaVersion, WantedProvenance},
    call::Method,
    compression::LayerCompression,
    context::ContextSource,
    dockerfile::DockerfileInput,
    hosts::ExtraHost,
    local::{FileOwner, LocalAccess, SpecialFiles},
    network::NetworkMode,
    options::OptionItem,
    output::{BuildInfoDetail, ExportEpoch, ImageOptions, TreeExtent},
    policy::UnnamedPolicies,
    resources::SwapLimit,
};
use crate::oci::{
    digest::FieldHasher,
    key::{KeyField, key_fields, key_words},
};

key_words!(AnnotationLevel { Manifest = 0, ManifestDescriptor = 1, Index = 2, IndexDescriptor = 3 });
key_words!(ProvenanceMode { Min = 0, Max = 1 });
key_words!(SlsaVersion { V02 = 0, V1 = 1 });
key_words!(NetworkMode { Default = 0, None = 1, Host = 2 });
key_words!(SpecialFiles { Drop = 0, Keep = 1 });
key_words!(BuildInfoDetail { Nothing = 0, Sources = 1, Attributes = 2 });
key_words!(TreeExtent { Whole = 0, Added = 1 });
key_words!(UnnamedPolicies { All = 0, BuiltIn = 1, None = 2 });
key_words!(Method { Build = 0, Check = 1, Outline = 2, Targets = 3 });

key_fields!(Annotation { level, platform, key, value });
key_fields!(Attestations { provenance, sbom });
key_fields!(CallMethod { method, json, ignore_status });
key_fields!(ExtraHost { name, address });
// As it is written it is shown in the metadata; the reference is the same, parsed.
key_fields!(ImageTag { text } - reference);
key_fields!(FileOwner { uid, gid });
key_fields!(LayerCompression { codec, level, force });
key_fields!(LocalAccess { special, chmod, chown });
key_fields!(ProvenanceOptions { mode, version, builder_id, filename, reproducible, inline_only });
key_fields!(ResourceLimits { memory, memory_swap, cpu_shares, cpu_period, cpu_quota, cpuset_cpus, cpuset_mems });
key_fields!(SbomOptions { generator, parameters });
key_fields!(Secret { id, src, env });
key_fields!(Ssh { id, paths });
key_fields!(Ulimit { name, soft, hard });
key_words!(UlimitName {
    Core = 0,
    Cpu = 1,
    Data = 2,
    Fsize = 3,
    Locks = 4,
    Memlock = 5,
    Msgqueue = 6,
    Nice = 7,
    Nofile = 8,
    Nproc = 9,
    Rss = 10,
    Rtprio = 11,
    Rttime = 12,
    Sigpending = 13,
    Stack = 14
});
key_fields!(WantedProvenance { options, by_default });
// `names` are left out: those that count are the export's, which may be the tags of the target. `source` decides which build
// is exported, and builds have keys of their own.
key_fields!(
    ImageOptions {
        compression,
        oci_mediatypes,
        oci_artifact,
        attestation_inline,
        prefer_nondist_layers,
        rewrite_timestamp,
        build_info,
        epoch,
        annotations,
    } - names
        - source
);
// The value and the faults come of the text.
impl<T> KeyField for OptionItem<T> {
    fn add_to(&self, hasher: &mut FieldHasher) {
        self.texts().add_to(hasher);
    }
}

impl KeyField for ExportEpoch {
    fn add_to(&self, hasher: &mut FieldHasher) {
        match self {
            Self::Build => 0_u64.add_to(hasher),
            Self::Unset => 1_u64.add_to(hasher),
            Self::At(epoch) => (2_u64, *epoch).add_to(hasher),
        }
    }
}

impl KeyField for SwapLimit {
    fn add_to(&self, hasher: &mut FieldHasher) {
        match self {
            Self::Unlimited => None,
            Self::Bytes(bytes) => Some(*bytes),
        }
        .add_to(hasher);
    }
}

impl KeyField for Entitlement {
    fn add_to(&self, hasher: &mut FieldHasher) {
        match self {
            Self::NetworkHost => 0_u64.add_to(hasher),
            Self::SecurityInsecure => 1_u64.add_to(hasher),
            Self::Device(name) => (2_u64, name.clone()).add_to(hasher),
        }
    }
}

impl KeyField for DockerfileInput {
    fn add_to(&self, hasher: &mut FieldHasher) {
        match self {
            Self::Inline(text) => (0_u64, text),
            Self::InContext(path) => (1_u64, path),
            Self::Local(path) => (2_u64, path),
            Self::Http(url) => (3_u64, url),
        }
        .add_to(hasher);
    }
}

impl KeyField for ContextSource {
    fn add_to(&self, hasher: &mut FieldHasher) {
        match self {
            Self::Target(name) => ("target", name).add_to(hasher),
            Self::Image(reference) => ("image", reference).add_to(hasher),
            Self::OciLayout { path, tag, digest } => ("layout", path, (tag.as_ref(), digest.as_ref())).add_to(hasher),
            Self::Git(url) => ("git", url).add_to(hasher),
            Self::Http(url) => ("http", url).add_to(hasher),
            Self::Local(path) => ("local", path).add_to(hasher),
            Self::Stdin => "stdin".add_to(hasher),
            Self::Archive(digest) => ("archive", digest).add_to(hasher),
            Self::Built(name) => ("built", name).add_to(hasher),
        }
    }
}
