//! `bake --print`, `bake build --print`: the resolved plan as JSON, or as a bake file in HCL or YAML to keep.

use crate::{
    cli::{
        args::PrintFormat,
        definition::{self, EvaluatedDefinition, Purpose},
        exit::{write, write_json},
        settings::Settings,
    },
    eval::print::{
        bake_file::{BakeFile, MaskedValue, masked_values},
        plan::PrintPlan,
    },
    report::Diagnostic,
    ui::output,
};

/// Prints what would be built.
pub(crate) fn run(settings: &Settings, format: PrintFormat) -> u8 {
    match definition::evaluated(settings, Purpose::Show) {
        Ok(EvaluatedDefinition { evaluated, sources, .. }) => {
            if let Err(code) = definition::warn_of_builds(settings, &evaluated, &sources) {
                return code;
            }
            let plan = PrintPlan::new(&evaluated);
            if format != PrintFormat::Json {
                let warnings: Vec<Diagnostic> = masked_values(&plan).into_iter().map(not_written).collect();
                output::diagnostics(&warnings, &sources, settings.color);
            }
            let printed = match format {
                PrintFormat::Json => write_json(&plan.to_json()),
                PrintFormat::Hcl => write(&BakeFile::of_plan(&plan).to_hcl()),
                PrintFormat::Yaml => write(&BakeFile::of_plan(&plan).to_yaml()),
            };
            let code = definition::concluding(&evaluated.unneeded_faults)(printed);
            // The process ends here: to free a large plan piece by piece would only take time.
            std::mem::forget(evaluated);
            code
        }
        Err(code) => code,
    }
}

/// The bake file is there to be kept, and what it has in place of a sensitive value is no value.
fn not_written(MaskedValue { path, variables }: MaskedValue) -> Diagnostic {
    let of = match variables.as_slice() {
        [] => String::new(),
        names => format!(" of `{}`", names.join("`, `")),
    };
    let message = format!("the sensitive value{of} is not written, `***` stands for it: {path}");
    let help = "declare a variable with `sensitive = true` in the bake file and refer to it there";
    Diagnostic::warning("bake::cli::masked_value", message).help(help)
}
