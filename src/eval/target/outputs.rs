//! What is wrong with an output because of the rest of its target: tags, platforms, attestations, annotations.
//!
//! What is wrong with its options alone is found where they are parsed.

use super::typed::Target;
use crate::{
    oci::Platform,
    spec::{
        OptionFault, OptionItem, Output,
        annotation::AnnotationLevel,
        output::{ArchiveForm, DockerOutput, ImageOptions, ImageOutput},
    },
};

/// Finds the faults of one output of a target. `host`: the platform of a target that names none.
pub(super) fn faults(output: &OptionItem<Output>, target: &Target, host: &Platform) -> Vec<OptionFault> {
    let Some(image) = output.value.image() else { return Vec::new() };
    let host = std::slice::from_ref(host);
    let platforms = if target.platforms.is_empty() { host } else { target.platforms.as_slice() };
    let attestations = &target.attestations;
    let is_attested = attestations.provenance(image.attestation_inline).is_some() || attestations.sbom.is_some();
    let mut faults = Vec::new();
    if !image.oci_mediatypes && is_attested && attestations.is_explicit() {
        let fault = OptionFault::new("attestations conflicts with oci-mediatypes=false");
        faults.push(fault.of("oci-mediatypes", "false"));
    }
    let has_index = target.multi_platform || is_attested && image.oci_mediatypes;
    annotations(image, target, platforms, has_index, &mut faults);
    match &output.value {
        // Without a name that could be read there is another fault already.
        Output::Image(image) | Output::Registry(image) if image.push && output.faults.is_empty() => {
            names(image, target, &mut faults);
        }
        Output::Docker(it) => docker(it, target, &mut faults),
        _ => (),
    }
    faults
}

/// Annotations of the target and of the output must have an image, or an index, that carries them.
fn annotations(
    image: &ImageOptions,
    target: &Target,
    platforms: &[Platform],
    has_index: bool,
    faults: &mut Vec<OptionFault>,
) {
    for it in target.annotations.iter().chain(&image.annotations) {
        let mut fault = |message: String| {
            faults.push(OptionFault { part: it.key.clone(), ..OptionFault::new(message) });
        };
        if let Some(platform) = it.platform.as_ref().filter(|platform| !platforms.contains(platform)) {
            let built: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            fault(format!("no platform {platform} found in source, it has {}", built.join(", ")));
        }
        if it.level.is_of_index() && !has_index {
            let why = "index annotations are not supported for a single platform: there is no index";
            fault(format!("{why}: {}", it.key));
        }
        if it.level != AnnotationLevel::Manifest && !image.oci_mediatypes {
            fault(format!("annotations beside the manifest's want oci-mediatypes=true: {}", it.key));
        }
    }
}

/// What is pushed has a name, and by digest alone no tag.
fn names(output: &ImageOutput, target: &Target, faults: &mut Vec<OptionFault>) {
    let has_tags = target.fields.texts(super::typed::Id::Tags).iter().any(|tag| !tag.is_empty());
    if !has_tags && output.image.names.is_empty() {
        let help = "add tags = [\"registry/name:tag\"] to the target, or name= to the output";
        faults.push(OptionFault::new("a tag is needed when pushing").help(help));
    }
    if !output.push_by_digest {
        return;
    }
    let tags = target.tags.iter().map(|tag| &tag.reference);
    let names = output.image.names.iter().filter(|_| !has_tags);
    for name in tags.chain(names).filter(|name| name.tag.is_some()) {
        let fault = OptionFault::new(format!("can't push tagged ref by digest: {}", name.familiar()));
        let help = format!("write {} or drop push-by-digest", name.familiar_name());
        faults.push(fault.help(help).of("push-by-digest", "true"));
    }
}

/// An archive for `docker load` holds one image; a container engine may take more.
fn docker(output: &DockerOutput, target: &Target, faults: &mut Vec<OptionFault>) {
    let is_archive = output.archive.dest.is_some() || output.archive.form == ArchiveForm::Layout;
    let several = target.multi_platform;
    if is_archive && (several || target.attestations.is_explicit()) {
        let what = if several { "several platforms (a manifest list)" } else { "attestations" };
        let fault = OptionFault::new(format!("a docker archive cannot hold {what}"));
        faults.push(fault.help("use type=oci"));
    }
}
