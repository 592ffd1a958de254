//! Values of variables files: the expressions of each file are evaluated separately.

use std::collections::BTreeMap;

use crate::{
    definition::{load::Definition, var_file::VarFile},
    eval::{
        expression::scope::Scope,
        input::{FileValue, Input},
    },
    report::Diagnostic,
};

/// Evaluates the values of all variables files; those of later files win. Expressions may call functions and name
/// values of their own file.
pub(crate) fn values(
    files: Vec<VarFile>,
    input: &Input,
    local_platform: &str,
) -> (BTreeMap<String, FileValue>, Vec<Diagnostic>) {
    let mut values = BTreeMap::new();
    let mut diagnostics = Vec::new();
    for VarFile { body, is_text } in files {
        let definition = Definition { files: vec![body], ..Definition::default() };
        let scope = Scope::new(&definition, input, local_platform);
        for attribute in &definition.files[0].attributes {
            if let Some(value) = scope.attribute_now(attribute) {
                values.insert(attribute.name.value.to_string(), FileValue { value, at: attribute.expr.at, is_text });
            }
        }
        diagnostics.extend(scope.all_faults());
    }
    (values, diagnostics)
}
