//! What a code means, in words: the list of `docs/errors.md`, which a test holds complete.

/// The words about one code.
pub(super) struct RuleWords {
    pub(super) meaning: String,
    pub(super) example: String,
    pub(super) meaning_markdown: String,
    pub(super) example_markdown: String,
}

/// The list of all codes, one row of a table each: code, meaning, example.
const LIST: &str = include_str!("../../../docs/errors.md");

/// The words about a code.
pub(super) fn about(code: &str) -> RuleWords {
    let start = format!("| `{code}` | ");
    let row = LIST.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix(" |"));
    let (meaning, example) = row.and_then(|row| row.split_once(" | ")).unwrap_or((code, code));
    RuleWords {
        meaning: plain(meaning),
        example: plain(example),
        meaning_markdown: meaning.replace("\\|", "|"),
        example_markdown: example.replace("\\|", "|"),
    }
}

/// Text of a table cell without the marks of Markdown.
fn plain(cell: &str) -> String {
    cell.replace("\\|", "|").replace('`', "").trim().to_owned()
}
