//! What an export asks of another engine: in which form the result is to come, and the options of its exporter.

use std::collections::BTreeMap;

use crate::{
    export::{
        options::{ExportPlan, ImageTo, TreeTo},
        prepare::PreparedExport,
        repository::ImageRepository,
    },
    spec::{
        annotation::{Annotation, AnnotationLevel},
        local::LocalAccess,
    },
};

/// The form in which another engine hands over a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RemoteForm {
    /// It builds, and that is all.
    Nothing,
    /// An image that stays there, under these names.
    Kept { names: Vec<String> },
    /// An image that it pushes without a tag; tags are set here.
    Pushed { repositories: Vec<ImageRepository>, insecure: bool },
    /// An image, blob by blob, of which only what is not here travels.
    Image { docker: bool },
    /// An image for a container engine, which is that of the other engine itself if it has none named.
    Loaded { names: Vec<String>, context: Option<String> },
    /// A tree of files, with what is kept of their modes. `is_incremental`: what the folder has already need not come.
    Folder { access: LocalAccess, is_incremental: bool },
    /// A tree of files as one archive.
    Tar,
}

/// Options of outputs that are ours to carry out, whoever builds.
const OURS: [&str; 17] = [
    "type",
    "dest",
    "tar",
    "push",
    "push-by-digest",
    "name",
    "tag",
    "context",
    "append",
    "source",
    "registry.insecure",
    "special",
    "chown",
    "chmod",
    "buildinfo",
    "buildinfo-attrs",
    "mode",
];

impl PreparedExport {
    /// The form in which the result is wanted.
    pub(crate) fn remote_form(&self) -> RemoteForm {
        match &self.plan {
            ExportPlan::Nothing => RemoteForm::Nothing,
            ExportPlan::Tree(_, TreeTo::Folder { delete, access, folder: _ }) => {
                let is_incremental = !delete && access.chmod.is_none() && access.chown.is_none();
                RemoteForm::Folder { access: access.clone(), is_incremental }
            }
            ExportPlan::Tree(_, TreeTo::Archive { .. }) => RemoteForm::Tar,
            ExportPlan::Image(_, ImageTo::Archive { docker, .. } | ImageTo::Layout { docker, .. }) => {
                RemoteForm::Image { docker: *docker }
            }
            ExportPlan::Image(_, ImageTo::Store) => RemoteForm::Kept { names: self.full_names() },
            ExportPlan::Image(_, ImageTo::Daemon { context }) => {
                RemoteForm::Loaded { names: self.full_names(), context: context.clone() }
            }
            ExportPlan::Image(plan, ImageTo::Registry { by_digest, insecure }) => {
                let repositories = ImageRepository::of_names(&plan.names, *by_digest);
                RemoteForm::Pushed { repositories, insecure: *insecure }
            }
        }
    }

    /// The options of the exporter as the user wrote them, without those that are carried out here, and the annotations of the
    /// target under the names that the exporter has for them.
    pub(crate) fn remote_options(&self) -> BTreeMap<String, String> {
        let texts = self.output.item.texts().iter();
        let mut options: BTreeMap<String, String> = texts
            .filter(|(name, _)| !OURS.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let ExportPlan::Image(plan, _) = &self.plan {
            // Daemons of different age have different defaults.
            options.insert("oci-mediatypes".to_owned(), (!plan.is_docker()).to_string());
            for annotation in &self.subject.annotations {
                // Those of the output overrule those of the target.
                options.entry(annotation_option(annotation)).or_insert_with(|| annotation.value.clone());
            }
        }
        if let ExportPlan::Tree(plan, TreeTo::Archive { .. }) = &self.plan
            && plan.several
        {
            options.remove("platform-split");
        }
        options
    }

    /// Whether provenance that nobody asked for is part of the result.
    pub(crate) fn has_default_provenance(&self) -> bool {
        match &self.plan {
            ExportPlan::Nothing => false,
            ExportPlan::Tree(plan, _) => plan.provenance.is_some(),
            ExportPlan::Image(plan, _) => plan.provenance.is_some(),
        }
    }

    fn full_names(&self) -> Vec<String> {
        self.names().iter().map(ToString::to_string).collect()
    }
}

/// `annotation[-LEVEL][[PLATFORM]].KEY`.
fn annotation_option(it: &Annotation) -> String {
    let level = match it.level {
        AnnotationLevel::Manifest => "",
        AnnotationLevel::ManifestDescriptor => "-manifest-descriptor",
        AnnotationLevel::Index => "-index",
        AnnotationLevel::IndexDescriptor => "-index-descriptor",
    };
    let platform = it.platform.as_ref().map(|platform| format!("[{platform}]")).unwrap_or_default();
    format!("annotation{level}{platform}.{}", it.key)
}
