//! Links between the targets of a script: a Dockerfile that is `FROM` the image of an earlier command reads the target of it.

use super::{target::ScriptTarget, token::ConvertNote};
use crate::{
    definition::{
        attribute::Id,
        kept::{KeptVariables, has_reference},
    },
    dockerfile::{
        self,
        expand::{ExpandMode, Vars, expand},
        instruction::{InstructionKind, Stage},
    },
    eval::print::bake_file::BakeValue,
    oci::Reference,
    report::SourceMap,
    spec::csv,
};

/// Gives the text of a Dockerfile, or why it cannot be read.
pub(crate) type DockerfileReader<'r> = dyn Fn(&str) -> Result<String, String> + 'r;

/// Where the Dockerfile of a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DockerfilePlace {
    /// A file; the path is relative to the folder that the script runs in.
    File(String),
    Text(String),
    /// In what is downloaded.
    Remote,
}

/// Links each target to the earlier ones whose images it is made from. What cannot be known is noted.
pub(super) fn link(
    targets: &mut [ScriptTarget],
    kept: &KeptVariables,
    read: &DockerfileReader<'_>,
) -> Vec<ConvertNote> {
    let mut notes = Vec::new();
    for ix in 1..targets.len() {
        let (before, rest) = targets.split_at_mut(ix);
        let target = &mut rest[0];
        if before.iter().all(|target| target.tags.is_empty()) {
            continue;
        }
        let line = target.line;
        let mut note = |text: String| notes.push(ConvertNote { line, text });
        let text = match &target.dockerfile {
            DockerfilePlace::Remote => continue,
            DockerfilePlace::Text(text) => Ok(text.clone()),
            DockerfilePlace::File(path) if has_reference(path) => Err("its path has a variable".to_owned()),
            DockerfilePlace::File(path) => read(path),
        };
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                let name = &target.label;
                note(format!(
                    "the Dockerfile of `{name}` is not read, {why}: if it is FROM an image of this script, give `{name}` \
                     its target: contexts = {{ IMAGE = \"target:NAME\" }}"
                ));
                continue;
            }
        };
        for image in images(&text, &target.args) {
            let Some(base) = before.iter().rev().find(|target| target.has_tag(&image)) else { continue };
            if has_reference(&image) {
                let (name, base, image) = (&target.label, &base.label, kept.shown(&image));
                note(format!(
                    "`{name}` is made from `{image}`, the image of `{base}`: give `{name}` the context \"target:{base}\" \
                     under that name"
                ));
                continue;
            }
            target.add_context(&image, &format!("target:{}", base.label));
        }
    }
    notes
}

/// An image name in its full form; a text that is none as it is.
pub(super) fn image_name(text: &str) -> String {
    Reference::parse(text).map_or_else(|_| text.to_owned(), |reference| reference.to_string())
}

/// The names that a Dockerfile reads images by, with the values of build arguments that decide them.
fn images(text: &str, args: &[(String, String)]) -> Vec<String> {
    let source = SourceMap::default().add("Dockerfile", text);
    let (file, _) = dockerfile::parse(source, text);
    let mut vars = Vars::new();
    for global in &file.globals {
        let InstructionKind::Arg(defs) = &global.kind else { continue };
        for def in defs {
            let given = args.iter().find(|(name, _)| *name == def.name).map(|(_, value)| value.clone());
            let default = def.default.as_deref().map(|text| expanded(text, &vars, file.escape));
            if let Some(value) = given.or(default) {
                vars.insert(def.name.clone(), value);
            }
        }
    }
    let mut names = Vec::new();
    let mut stages: Vec<String> = Vec::new();
    for stage in &file.stages {
        let mut found = vec![expanded(&stage.image.value, &vars, file.escape)];
        found.extend(read_from(stage).map(|text| expanded(&text, &vars, file.escape)));
        found.retain(|name| !stages.contains(&name.to_ascii_lowercase()) && !names.contains(name));
        names.extend(found);
        stages.extend(stage.name.as_ref().map(|name| name.value.clone()));
    }
    names
}

/// What the instructions of a stage read from: `COPY --from`, `RUN --mount=from=`.
fn read_from(stage: &Stage) -> impl Iterator<Item = String> {
    stage.instructions.iter().flat_map(|instruction| match &instruction.kind {
        InstructionKind::Copy(copy) => copy.from.iter().map(|from| from.value.clone()).collect(),
        InstructionKind::Run(run) => {
            let from = |mount: &str| {
                let fields = csv::fields(mount).unwrap_or_default();
                fields.iter().find_map(|field| field.strip_prefix("from=").map(str::to_owned))
            };
            run.mounts.iter().filter_map(|mount| from(&mount.value)).collect::<Vec<_>>()
        }
        _ => Vec::new(),
    })
}

/// The text with its variables replaced; what is no word of a Dockerfile names no image.
fn expanded(text: &str, vars: &Vars, escape: char) -> String {
    expand(text, vars, escape, ExpandMode::Word).map(|word| word.text).unwrap_or_default()
}

impl ScriptTarget {
    /// Whether the command gives its image this name.
    pub(super) fn has_tag(&self, name: &str) -> bool {
        let name = image_name(name);
        self.tags.iter().any(|tag| image_name(tag) == name)
    }

    /// Gives the image another name.
    pub(super) fn add_tag(&mut self, name: &str) {
        self.tags.push(name.to_owned());
        self.add_to_list(Id::Tags, BakeValue::literal(name));
    }

    /// Adds an item to an attribute that is a list.
    pub(super) fn add_to_list(&mut self, id: Id, item: BakeValue) {
        match self.attributes.iter_mut().find(|(known, _)| *known == id) {
            Some((_, BakeValue::List(items))) => items.push(item),
            _ => self.attributes.push((id, BakeValue::List(vec![item]))),
        }
    }

    /// Adds a context, unless the command has one of this name.
    fn add_context(&mut self, name: &str, context: &str) {
        let entry = (name.to_owned(), BakeValue::literal(context));
        match self.attributes.iter_mut().find(|(known, _)| *known == Id::Contexts) {
            Some((_, BakeValue::Map(entries))) => {
                if entries.iter().all(|(known, _)| image_name(known) != image_name(name)) {
                    entries.push(entry);
                }
            }
            _ => self.attributes.push((Id::Contexts, BakeValue::Map(vec![entry]))),
        }
    }
}
