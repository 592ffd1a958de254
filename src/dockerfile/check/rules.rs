//! The list of all rules; a new rule is one file and one line here.

use super::{
    consistent_instruction_casing, copy_ignored_file, duplicate_stage_name, expose_invalid_format, expose_proto_casing,
    from_as_casing, from_platform_flag_const_disallowed, invalid_base_image_platform, invalid_default_arg_in_from,
    invalid_definition_description, json_args_recommended, legacy_key_value_format, maintainer_deprecated,
    malformed_json_array, multiple_instructions_disallowed, no_empty_continuation, redundant_target_platform,
    report::{CheckReport, CheckRule},
    reserved_stage_name, secrets_used_in_arg_or_env, stage_name_casing, undefined_arg_in_from, undefined_var,
    workdir_relative_path,
};
use crate::dockerfile::instruction::ParsedDockerfile;

/// All rules.
static RULES: &[&CheckRule] = &[
    &consistent_instruction_casing::RULE,
    &copy_ignored_file::RULE,
    &duplicate_stage_name::RULE,
    &expose_invalid_format::RULE,
    &expose_proto_casing::RULE,
    &from_as_casing::RULE,
    &from_platform_flag_const_disallowed::RULE,
    &invalid_base_image_platform::RULE,
    &invalid_default_arg_in_from::RULE,
    &invalid_definition_description::RULE,
    &json_args_recommended::RULE,
    &legacy_key_value_format::RULE,
    &maintainer_deprecated::RULE,
    &malformed_json_array::RULE,
    &multiple_instructions_disallowed::RULE,
    &no_empty_continuation::RULE,
    &redundant_target_platform::RULE,
    &reserved_stage_name::RULE,
    &secrets_used_in_arg_or_env::RULE,
    &stage_name_casing::RULE,
    &undefined_arg_in_from::RULE,
    &undefined_var::RULE,
    &workdir_relative_path::RULE,
];

/// Runs the rules that need the text alone.
pub(crate) fn run_static(file: &ParsedDockerfile, report: &mut CheckReport) {
    for check in RULES.iter().filter_map(|rule| rule.check) {
        check(file, report);
    }
}
