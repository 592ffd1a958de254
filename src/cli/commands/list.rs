//! `bake --list`: all targets or all variables.

use crate::{
    cli::{
        definition,
        settings::{ListWhat, Settings},
        write,
    },
    eval::{
        evaluate::{list_targets, list_variables},
        list,
    },
    oci::Platform,
};

/// Lists what a definition has.
pub(crate) fn run(settings: &Settings, what: ListWhat) -> u8 {
    let read = match definition::read(settings) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let platform = Platform::host().to_string();
    let (text, diagnostics, aside) = if what.variables {
        let (all, diagnostics, aside) = list_variables(&read.definition, &read.input, &platform);
        (if what.json { list::variables_json(&all) } else { list::variables_table(&all) }, diagnostics, aside)
    } else {
        let (all, diagnostics, aside) = list_targets(&read.definition, &read.input, &platform);
        let all = list::shown_targets(all);
        (if what.json { list::targets_json(&all) } else { list::targets_table(&all) }, diagnostics, aside)
    };
    let told = definition::check(settings, diagnostics, &read.sources)
        .and_then(|()| definition::tell_aside(settings, &aside, &read.sources));
    match told {
        Ok(()) => definition::concluding(&aside)(write(&text)),
        Err(code) => code,
    }
}
