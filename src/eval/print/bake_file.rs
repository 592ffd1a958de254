//! Bake files that are written: in HCL or YAML, by `--print` of a plan and by `bake convert`.
//!
//! A plan that is printed reads back to the same plan. Nothing survives of the definition that evaluation has used up:
//! variables, functions, matrices and comments.

use std::fmt::Write as _;

use hcl::{
    Block, Body, Expression, Identifier,
    expr::{Heredoc, Object, ObjectKey, TemplateExpr},
    format::{Format as _, Formatter},
};
use serde_json::{Map, Value, json};

use super::plan::{PrintPlan, TemplateEscape};
use crate::{
    definition::{format, load::Format},
    report::{Hidden, SourceMap},
};

/// A bake file as its blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct BakeFile {
    pub(crate) blocks: Vec<BakeBlock>,
}

/// `kind "label" { attributes }`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BakeBlock {
    pub(crate) kind: &'static str,
    pub(crate) label: String,
    pub(crate) attributes: Vec<(String, BakeValue)>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BakeValue {
    Null,
    Bool(bool),
    /// As written.
    Number(serde_json::Number),
    Text(Vec<TextPart>),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TextPart {
    Literal(String),
    /// The value of a variable.
    Variable(String),
    /// `then` if a variable has a value that is not empty, else `otherwise`, or null.
    IfSet {
        variable: String,
        then: Vec<Self>,
        otherwise: Option<Vec<Self>>,
    },
}

impl BakeValue {
    /// A text without variables.
    pub(crate) fn literal(text: impl Into<String>) -> Self {
        Self::Text(vec![TextPart::Literal(text.into())])
    }
}

impl BakeFile {
    /// The bake file of a plan, without a group that says what its absence says.
    pub(crate) fn of_plan(plan: &PrintPlan<'_>) -> Self {
        let all = plan_value(plan, Some(plan.hidden()));
        let mut blocks = Vec::new();
        let is_trivial = all["group"] == json!({"default": {"targets": ["default"]}});
        for kind in ["group", "target"] {
            let named = all.get(kind).and_then(Value::as_object).into_iter().flatten();
            for (label, body) in named.filter(|_| kind == "target" || !is_trivial) {
                let attributes = body.as_object().into_iter().flatten();
                let attributes = attributes.map(|(key, value)| (key.clone(), from_json(value))).collect();
                blocks.push(BakeBlock { kind, label: label.clone(), attributes });
            }
        }
        Self { blocks }
    }

    /// The text in HCL as `bake fmt` lays it out, an empty line between blocks.
    pub(crate) fn to_hcl(&self) -> String {
        let texts: Vec<String> = self.blocks.iter().map(hcl_block).collect();
        let text = texts.join("\n");
        let source = SourceMap::default().add("docker-bake.hcl", text.as_str());
        // What the formatter refuses (more values than a file may have) is as good without its layout.
        format::format(Format::Hcl, source, &text).unwrap_or(text)
    }

    /// The text in YAML; blocks of one kind stand together.
    pub(crate) fn to_yaml(&self) -> String {
        let mut all = Map::new();
        for block in &self.blocks {
            let attributes = block.attributes.iter().map(|(key, value)| (key.clone(), to_json(value)));
            let kind = all.entry(block.kind).or_insert_with(|| json!({}));
            kind[block.label.as_str()] = Value::Object(attributes.collect());
        }
        serde_yaml::to_string(&all).expect("a bake file is text, numbers, lists and maps")
    }
}

/// A value of a plan that is written as `***`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MaskedValue {
    /// As in `target.web.args.TOKEN`.
    pub(crate) path: String,
    /// The sensitive variables that it has the values of, as far as they can be seen in it.
    pub(crate) variables: Vec<String>,
}

/// The values of a plan that its bake file does not have, because they are sensitive.
pub(crate) fn masked_values(plan: &PrintPlan<'_>) -> Vec<MaskedValue> {
    let mut found = Vec::new();
    if !plan.hidden().is_empty() {
        find_masked(&plan_value(plan, None), plan.hidden(), "", &mut found);
    }
    found
}

fn find_masked(value: &Value, hidden: &Hidden, path: &str, found: &mut Vec<MaskedValue>) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
        Value::String(text) if hidden.mask(text) != text.as_str() => {
            let variables = hidden.variables_in(text).into_iter().map(str::to_owned).collect();
            found.push(MaskedValue { path: path.to_owned(), variables });
        }
        Value::String(_) => (),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(ix, item)| find_masked(item, hidden, &format!("{path}[{ix}]"), found));
        }
        Value::Object(entries) => entries.iter().for_each(|(key, value)| {
            let key = hidden.mask(key);
            let path = if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") };
            find_masked(value, hidden, &path, found);
        }),
    }
}

fn plan_value(plan: &PrintPlan<'_>, hidden: Option<&Hidden>) -> Value {
    let text = plan.to_json_with(TemplateEscape::No, hidden);
    serde_json::from_str(&text).expect("what --print writes is JSON")
}

fn from_json(value: &Value) -> BakeValue {
    match value {
        Value::Null => BakeValue::Null,
        Value::Bool(flag) => BakeValue::Bool(*flag),
        Value::Number(number) => BakeValue::Number(number.clone()),
        Value::String(text) => BakeValue::literal(text.as_str()),
        Value::Array(items) => BakeValue::List(items.iter().map(from_json).collect()),
        Value::Object(entries) => {
            BakeValue::Map(entries.iter().map(|(key, value)| (key.clone(), from_json(value))).collect())
        }
    }
}

/// The value in the JSON profile, where every text is a template.
fn to_json(value: &BakeValue) -> Value {
    match value {
        BakeValue::Null => Value::Null,
        BakeValue::Bool(flag) => Value::Bool(*flag),
        BakeValue::Number(number) => Value::Number(number.clone()),
        BakeValue::Text(parts) => Value::String(template(parts, escaped)),
        BakeValue::List(items) => Value::Array(items.iter().map(to_json).collect()),
        BakeValue::Map(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
    }
}

/// The source of a template; `literal` writes the texts between its interpolations.
fn template(parts: &[TextPart], literal: impl Fn(&str) -> String) -> String {
    let mut source = String::new();
    for (ix, part) in parts.iter().enumerate() {
        match part {
            // A dollar sign in front of an interpolation would escape it.
            TextPart::Literal(text) if text.ends_with('$') && ix + 1 < parts.len() => {
                source.push_str(&literal(&text[..text.len() - 1]));
                source.push_str("${\"$\"}");
            }
            TextPart::Literal(text) => source.push_str(&literal(text)),
            part => {
                let written = write!(source, "${{{}}}", part_expression(part));
                debug_assert!(written.is_ok(), "a string takes all");
            }
        }
    }
    source
}

/// The source of an expression that has the value of a part.
fn part_expression(part: &TextPart) -> String {
    match part {
        TextPart::Literal(text) => format!("\"{}\"", quoted(text)),
        TextPart::Variable(name) => name.clone(),
        TextPart::IfSet { variable, then, otherwise } => {
            let otherwise = otherwise.as_ref().map_or_else(|| "null".to_owned(), |parts| text_expression(parts));
            format!("{variable} != \"\" ? {} : {otherwise}", text_expression(then))
        }
    }
}

/// The source of an expression that has the value of a text.
fn text_expression(parts: &[TextPart]) -> String {
    match parts {
        [TextPart::Variable(name)] => name.clone(),
        [part @ TextPart::IfSet { .. }] => format!("({})", part_expression(part)),
        parts => format!("\"{}\"", template(parts, quoted)),
    }
}

/// A text as a template without quotes.
fn escaped(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

/// A text as a template between quotes.
fn quoted(text: &str) -> String {
    let mut source = String::new();
    for c in escaped(text).chars() {
        match c {
            '"' => source.push_str("\\\""),
            '\\' => source.push_str("\\\\"),
            '\n' => source.push_str("\\n"),
            '\r' => source.push_str("\\r"),
            '\t' => source.push_str("\\t"),
            c if c.is_control() => {
                let written = write!(source, "\\u{:04x}", u32::from(c));
                debug_assert!(written.is_ok(), "a string takes all");
            }
            c => source.push(c),
        }
    }
    source
}

fn hcl_block(block: &BakeBlock) -> String {
    let attributes = block.attributes.iter().map(|(key, value)| (Identifier::sanitized(key), expression(key, value)));
    let built = Block::builder(Identifier::sanitized(block.kind));
    let built = built.add_label(block.label.as_str()).add_attributes(attributes).build();
    let mut formatter = Formatter::builder().prefer_ident_keys(true).build_vec();
    Body::from(vec![built]).format_string(&mut formatter).expect("writing into memory does not fail")
}

/// The value of an attribute. The text of a Dockerfile is a heredoc, so that it can be read.
fn expression(key: &str, value: &BakeValue) -> Expression {
    match value {
        BakeValue::Null => Expression::Null,
        BakeValue::Bool(flag) => Expression::Bool(*flag),
        BakeValue::Number(number) => hcl::to_expression(number).expect("numbers of JSON are numbers of HCL"),
        BakeValue::Text(parts) => match parts.as_slice() {
            [TextPart::Literal(text)] if key == "dockerfile-inline" && text.ends_with('\n') && !text.contains('\r') => {
                heredoc(text)
            }
            [] => Expression::String(String::new()),
            [TextPart::Literal(text)] => Expression::String(text.clone()),
            parts => Expression::from(TemplateExpr::QuotedString(template(parts, quoted))),
        },
        BakeValue::List(items) => Expression::Array(items.iter().map(|item| expression("", item)).collect()),
        BakeValue::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (ObjectKey::Expression(Expression::String(key.clone())), expression("", value)));
            Expression::Object(entries.collect::<Object<_, _>>())
        }
    }
}

fn heredoc(text: &str) -> Expression {
    let mut delimiter = "EOT".to_owned();
    while text.lines().any(|line| line.trim() == delimiter) {
        delimiter.push('_');
    }
    Expression::from(TemplateExpr::Heredoc(Heredoc::new(Identifier::sanitized(delimiter), escaped(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_where_the_format_wants_it() {
        let variable = |name: &str| TextPart::Variable(name.to_owned());
        let literal = |text: &str| TextPart::Literal(text.to_owned());
        let file = BakeFile {
            blocks: vec![BakeBlock {
                kind: "target",
                label: "a".to_owned(),
                attributes: vec![
                    (
                        "tags".to_owned(),
                        BakeValue::List(vec![BakeValue::Text(vec![literal("x:\"${y}\""), variable("V")])]),
                    ),
                    ("context".to_owned(), BakeValue::literal("${HOME}/%{x}")),
                    ("args".to_owned(), BakeValue::Map(vec![("A".to_owned(), BakeValue::literal("1"))])),
                    ("dockerfile-inline".to_owned(), BakeValue::literal("FROM ${X}\nRUN \"a\\b\"\n")),
                ],
            }],
        };
        let expected = r#"target "a" {
  tags = [
    "x:\"$${y}\"${V}"
  ]
  context = "$${HOME}/%%{x}"
  args = {
    A = "1"
  }
  dockerfile-inline = <<EOT
FROM $${X}
RUN "a\b"
EOT
}
"#;
        assert_eq!(file.to_hcl(), expected);
        assert!(file.to_yaml().contains("$${HOME}/%%{x}"), "{}", file.to_yaml());
    }
}
