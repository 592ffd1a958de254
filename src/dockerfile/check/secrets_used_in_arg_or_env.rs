//! `SecretsUsedInArgOrEnv`: secrets do not go into ARG or ENV.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "SecretsUsedInArgOrEnv",
    code: "bake::check::secrets_used_in_arg_or_env",
    page: Some("secrets-used-in-arg-or-env"),
    experimental: false,
    check: None,
};

const SECRET: &[&str] =
    &["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS: &[&str] = &["public", "file", "version"];

/// Reports a variable of ARG or ENV whose name has a word for a secret (`TOKEN`, `PASSWORD`, …), unless another word
/// makes it harmless (`PUBLIC`, `FILE`, `VERSION`).
pub(crate) fn check_name(report: &mut CheckReport, instruction: &Instruction, name: &str) {
    let has = |words: &[&str]| name.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)));
    if has(SECRET) && !has(HARMLESS) {
        let keyword = instruction.keyword.to_uppercase();
        let message =
            format!("{keyword} is not for secrets, it is stored in the image; use `RUN --mount=type=secret`: {name}");
        report.fire(&RULE, &instruction.comments, instruction.at, message);
    }
}
