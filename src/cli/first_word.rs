//! Whether the first word of the command line is a command or a target of the same name.
//!
//! The rule, the same for every command: a word that is the name of a target or group of the definition means that, alone or
//! together with other targets. A path, a URL, `-`, or a flag that only the command has means the command.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
};

use clap::Parser as _;

use super::{
    args::{Bake, COMMANDS},
    definition,
    settings::{Settings, is_url},
};
use crate::{
    eval::{
        evaluate::{Listed, list_targets},
        target::pattern,
    },
    oci::Platform,
};

/// A command line whose first word is the name of a command and is meant as a target.
pub(crate) struct MeantTarget {
    pub(crate) bake: Bake,
    /// Says what the word means, and how the command is called.
    pub(crate) note: String,
}

/// The arguments, read as targets, if their first word is a command's name and means a target. Reads the definition then,
/// so it wants a large stack.
pub(crate) fn as_targets(arguments: &[OsString], env: &BTreeMap<String, String>) -> Option<MeantTarget> {
    let word = arguments.get(1)?.to_str()?;
    let (word, explicit) = COMMANDS.iter().find(|(name, _)| *name == word)?;
    let bake = Bake::try_parse_from(arguments).ok()?;
    let is_elsewhere = |text: &String| text == "-" || is_url(text);
    if bake.plan.files.iter().any(|file| file == "-") || bake.plan.targets.iter().any(is_elsewhere) {
        return None;
    }
    let settings = Settings::new(bake.plan.clone(), None, env.clone()).ok()?;
    let (read, _) = definition::load(&settings);
    let Listed { all, .. } = list_targets(&read.definition, &read.input, &Platform::host().to_string());
    let names: HashSet<&str> = all.iter().map(|it| &*it.name).collect();
    let is_target = |text: &String| {
        let text = text.strip_prefix('!').unwrap_or(text).replace('.', "_");
        let matches = |name: &&str| pattern::matches(&text, name).unwrap_or(false);
        names.contains(text.as_str()) || (pattern::is_pattern(&text) && names.iter().any(matches))
    };
    if !names.contains(word) || !bake.plan.targets.iter().all(is_target) {
        return None;
    }
    let note = format!("`{word}` is a target of this definition, and is taken for that; the command is `{explicit}`\n");
    Some(MeantTarget { bake, note })
}
