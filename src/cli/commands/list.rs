//! `bake --list`: all targets or all variables.

use crate::{
    cli::{
        definition,
        settings::{ListWhat, Settings},
        write,
    },
    eval::{
        evaluate::{Listed, list_targets, list_variables},
        print::list,
    },
    oci::Platform,
    report::SourceMap,
    ui::output,
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
        let form = if what.json { list::variables_json } else { list::variables_table };
        show(settings, &read.sources, listed, |all| form(&all))
    } else {
        let listed = list_targets(&read.definition, &read.input, &platform);
        let form = if what.json { list::targets_json } else { list::targets_table };
        show(settings, &read.sources, listed, |all| form(&list::shown_targets(all)))
    }
}

fn show<T>(settings: &Settings, sources: &SourceMap, mut listed: Listed<T>, form: impl Fn(Vec<T>) -> String) -> u8 {
    output::hide(listed.hidden);
    match definition::check_all(settings, listed.diagnostics, &mut listed.unneeded_faults, sources) {
        Ok(()) => definition::concluding(&listed.unneeded_faults)(write(&form(listed.all))),
        Err(code) => code,
    }
}
