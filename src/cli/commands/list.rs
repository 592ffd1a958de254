//! `bake --list`: all targets or all variables.

use crate::{
    cli::{
        definition,
        exit::{write, write_json},
        settings::{ListWhat, Settings},
    },
    eval::{
        evaluate::{Listed, list_targets, list_variables},
        print::list,
    },
    oci::Platform,
    report::SourceMap,
    ui::masking,
};

/// Lists what a definition has.
pub(crate) fn run(settings: &Settings, what: ListWhat) -> u8 {
    let read = match definition::read(settings) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let platform = Platform::host().to_string();
    if what.variables {
        let listed = list_variables(&read.definition, &read.input, &platform);
        show(settings, &read.sources, listed, |all| {
            if what.json { write_json(&list::variables_json(&all)) } else { write(&list::variables_table(&all)) }
        })
    } else {
        let listed = list_targets(&read.definition, &read.input, &platform);
        show(settings, &read.sources, listed, |all| {
            let all = list::shown_targets(all);
            if what.json { write_json(&list::targets_json(&all)) } else { write(&list::targets_table(&all)) }
        })
    }
}

/// Shows what is wrong with the definition, then `write`s what it has.
fn show<T>(settings: &Settings, sources: &SourceMap, mut listed: Listed<T>, write: impl Fn(Vec<T>) -> u8) -> u8 {
    masking::hide(listed.hidden);
    match definition::check_all(settings, listed.diagnostics, &mut listed.unneeded_faults, sources) {
        Ok(()) => definition::concluding(&listed.unneeded_faults)(write(listed.all)),
        Err(code) => code,
    }
}
