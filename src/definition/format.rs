//! A bake file's text ─► the same text laid out. HCL is laid out in `hcl`, JSON here; YAML is refused.
//!
//! The result has the same meaning as the input; that is checked on every run. Files are neither read nor written.

use super::{
    hcl,
    json::{self, JsonNode, JsonNodeKind},
    load::Format,
    shape::DefinitionShape,
    syntax::Body,
};
use crate::report::{Diagnostic, SourceId};

/// Lays out a text of this format; it is what `source` holds.
///
/// # Errors All errors of the text; a text with errors is not formatted.
pub(crate) fn format(format: Format, source: SourceId, text: &str) -> Result<String, Vec<Diagnostic>> {
    match format {
        Format::Hcl => hcl(source, text),
        Format::Json => json(source, text),
        Format::Yaml => Err(vec![
            Diagnostic::error("bake::definition::format_yaml", "YAML is not formatted, only HCL and JSON are")
                .help("write the definition in HCL, or use a formatter for YAML"),
        ]),
    }
}

fn hcl(source: SourceId, text: &str) -> Result<String, Vec<Diagnostic>> {
    let before = shape(hcl::parse(source, text))?;
    let laid = hcl::format::layout(text, &before.strings);
    let after = shape(hcl::parse(source, &laid)).map_err(|_| vec![changed()])?;
    let is_same = before.words == after.words
        && hcl::format::comments(text, &before.strings) == hcl::format::comments(&laid, &after.strings)
        && hcl::format::layout(&laid, &after.strings) == laid;
    if is_same { Ok(laid) } else { Err(vec![changed()]) }
}

fn json(source: SourceId, text: &str) -> Result<String, Vec<Diagnostic>> {
    let before = shape(json::parse(source, text))?;
    let root = json::tree(source, text).map_err(|fault| vec![*fault])?;
    let mut laid = String::with_capacity(text.len() * 2);
    write(&root, text, 0, &mut laid);
    laid.push('\n');
    let after = shape(json::parse(source, &laid)).map_err(|_| vec![changed()])?;
    if before.words == after.words { Ok(laid) } else { Err(vec![changed()]) }
}

/// Writes a value with one member or item a line; texts and numbers stay as they are written.
fn write(node: &JsonNode, text: &str, depth: usize, laid: &mut String) {
    let written = |at: crate::report::Span| &text[at.start as usize..at.end as usize];
    let line = |depth: usize, laid: &mut String| {
        laid.push('\n');
        laid.extend(std::iter::repeat_n("  ", depth));
    };
    match &node.kind {
        JsonNodeKind::Array(items) if !items.is_empty() => {
            for (ix, item) in items.iter().enumerate() {
                laid.push(if ix == 0 { '[' } else { ',' });
                line(depth + 1, laid);
                write(item, text, depth + 1, laid);
            }
            line(depth, laid);
            laid.push(']');
        }
        JsonNodeKind::Object(members) if !members.is_empty() => {
            for (ix, (name, value)) in members.iter().enumerate() {
                laid.push(if ix == 0 { '{' } else { ',' });
                line(depth + 1, laid);
                laid.push_str(written(name.at));
                laid.push_str(": ");
                write(value, text, depth + 1, laid);
            }
            line(depth, laid);
            laid.push('}');
        }
        JsonNodeKind::Array(_) => laid.push_str("[]"),
        JsonNodeKind::Object(_) => laid.push_str("{}"),
        JsonNodeKind::Null | JsonNodeKind::Bool(_) | JsonNodeKind::Number(_) | JsonNodeKind::Text { .. } => {
            laid.push_str(written(node.at));
        }
    }
}

/// The shape of what was read, if all of it could be.
fn shape((body, faults): (Body, Vec<Diagnostic>)) -> Result<DefinitionShape, Vec<Diagnostic>> {
    if faults.iter().any(Diagnostic::is_error) { Err(faults) } else { Ok(DefinitionShape::of(&body)) }
}

fn changed() -> Diagnostic {
    Diagnostic::error(
        "bake::definition::format_unsafe",
        "formatting would change what the file says, it stays as it is",
    )
    .help("this is a bug of bake: please report it with the file")
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;
    use crate::report::SourceMap;

    fn laid(format_of: Format, text: &str) -> Result<String, Vec<String>> {
        let source = SourceMap::default().add("file", text);
        format(format_of, source, text).map_err(|all| all.into_iter().map(|it| it.message).collect())
    }

    fn check(text: &str, expected: &str) {
        let found = laid(Format::Hcl, text).unwrap_or_else(|faults| panic!("{faults:?} of:\n{text}"));
        assert_eq!(found, expected, "of:\n{text}");
        assert_eq!(laid(Format::Hcl, expected).as_deref(), Ok(expected), "again");
    }

    #[test]
    fn attributes_are_indented_and_aligned() {
        check(
            "target   \"a\"{\n context=\".\"\n\t  dockerfile  =  \"x\"#one\n tags=[\"a\",\n\"b\" ,\n]\n\n\n\n  pull=true // p\n}",
            "target \"a\" {\n  context    = \".\"\n  dockerfile = \"x\" #one\n  tags = [\"a\",\n    \"b\",\n  ]\n\n  pull = true // p\n}\n",
        );
        check("x=1#a\nlonger=22#b\n\ny=1\n# c\nlong=2\n", "x      = 1  #a\nlonger = 22 #b\n\ny = 1\n# c\nlong = 2\n");
        check("a={x=1\n  y :2,\n\"long\"=3}\n", "a = { x = 1\n  y : 2,\n  \"long\" = 3 }\n");
    }

    #[test]
    fn expressions_have_one_blank_between_their_parts() {
        for (text, expected) in [
            ("a=b==c?-1:! d", "a = b == c ? -1 : !d"),
            ("a=f (x ,y ... )", "a = f(x, y...)"),
            ("a=[ for k ,v in m:v if(v!=k) ]", "a = [for k, v in m : v if (v != k)]"),
            ("a={for k,v in [1]:k=>v...}", "a = { for k, v in [1] : k => v... }"),
            ("a=b [ 0 ] . c [ * ].d", "a = b[0].c[*].d"),
            ("a=b.*.c*2-3", "a = b.*.c * 2 - 3"),
            ("a=b[*] .c", "a = b[*] .c"),
            ("a=1 .5", "a = 1 .5"),
            ("a=b.0.1.c", "a = b.0.1.c"),
            ("a=x- - -1", "a = x- - -1"),
            ("a=x - -1", "a = x - -1"),
            ("a=( 1 )", "a = (1)"),
            ("a={ }", "a = {}"),
            ("a=\"${ x }$${\"", "a = \"${ x }$${\""),
            ("a=x::y(1)", "a = x::y(1)"),
            ("a=/* b */1/* c */", "a = /* b */ 1 /* c */"),
            ("a=f(/* b */1/* c */)", "a = f(/* b */ 1 /* c */)"),
            ("target \"a\"\"b\" { }", "target \"a\" \"b\" {}"),
            ("target a{x=1}", "target a { x = 1 }"),
        ] {
            check(text, &format!("{expected}\n"));
        }
    }

    #[test]
    fn brackets_close_under_the_line_that_opens_them() {
        check("a=[{\nb=1\n},{\nb=2\n}]\n", "a = [{\n  b = 1\n}, {\n  b = 2\n}]\n");
        check("a=f([\n1,\n],{\nb=f(\n2)\n})\n", "a = f([\n  1,\n], {\n  b = f(\n    2)\n})\n");
    }

    #[test]
    fn texts_and_line_breaks_stay_byte_for_byte() {
        check("a=<<-EOT\n x \n\n\n\n   EOT \nb=1\n", "a = <<-EOT\n x \n\n\n\n   EOT \nb = 1\n");
        check(
            "\u{feff}\r\na=1\r\n\r\n\r\n#c \r\nb=<<E\r\n x \r\nE\r\n",
            "\u{feff}a = 1\r\n\r\n#c \r\nb = <<E\r\n x \r\nE\r\n",
        );
        check("a=\"${f(\n  1)}\"#c\n", "a = \"${f(\n  1)}\" #c\n");
        check("/* x\n  y */a=1\n", "/* x\n  y */ a = 1\n");
        check("a=1\r\n#c", "a = 1\r\n#c\r\n");
        check("\n\n", "");
        check("", "");
    }

    #[test]
    fn what_has_faults_is_not_laid_out() {
        assert_eq!(laid(Format::Hcl, "a = [\n"), Err(vec!["a list is not closed".to_owned()]));
        let yaml = "YAML is not formatted, only HCL and JSON are";
        assert_eq!(laid(Format::Yaml, "a: 1\n"), Err(vec![yaml.to_owned()]));
    }

    #[test]
    fn json_keeps_order_repeats_and_numbers() {
        let text = "\u{feff}{\"target\":{\"b\":{\"args\":{\"N\":1.50e+1,\"s\":\"\\u0041\\/\"},\"tags\":[]},\"a\":{}},\r\n\"target\" : {\"c\":{\"tags\":[\"x\",null]}}}";
        let expected = r#"{
  "target": {
    "b": {
      "args": {
        "N": 1.50e+1,
        "s": "\u0041\/"
      },
      "tags": []
    },
    "a": {}
  },
  "target": {
    "c": {
      "tags": [
        "x",
        null
      ]
    }
  }
}
"#;
        assert_eq!(laid(Format::Json, text).as_deref(), Ok(expected));
        assert_eq!(laid(Format::Json, expected).as_deref(), Ok(expected));
    }

    fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the corpus is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                files(&path, extension, found);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }

    fn corpus(extension: &str) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        for folder in ["tests/corpus", "examples"] {
            files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), extension, &mut found);
        }
        let read = |path: PathBuf| fs::read_to_string(&path).ok().map(|text| (path, text));
        found.into_iter().filter_map(read).collect()
    }

    /// `format` itself refuses what would change meaning, comments or a second time: it must not come to that.
    #[test]
    fn every_file_of_the_corpus_that_parses_is_laid_out() {
        for (format_of, extension, at_least) in [(Format::Hcl, "hcl", 1000), (Format::Json, "json", 50)] {
            let mut n_laid = 0;
            for (path, text) in corpus(extension) {
                match laid(format_of, &text) {
                    Ok(after) => {
                        n_laid += 1;
                        // A second opinion on whether it still says the same; values are compared, not blanks.
                        if let Ok(theirs) = text.parse::<hcl_edit::structure::Body>() {
                            assert_eq!(after.parse().as_ref(), Ok(&theirs), "{}", path.display());
                        }
                    }
                    Err(faults) => {
                        assert!(faults.iter().all(|it| *it != changed().message), "{}: {faults:?}", path.display());
                    }
                }
            }
            assert!(n_laid > at_least, "only {n_laid} files ending in {extension} were laid out");
        }
    }
}
