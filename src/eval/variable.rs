//! Values of variables: built-in, from `--var` or the environment, from a global attribute, or the default
//! (spec/bake-language.md §6).

use std::sync::Arc;

use super::{
    call::type_of_expr,
    convert::convert,
    expr::{Result, article, to_bool},
    fault::Fail,
    number::Number,
    scope::{Env, Scope},
    value::{Type, Value},
};
use crate::{
    definition::{
        json::{self, NodeKind},
        syntax::{Attribute, Block, Expr},
    },
    report::{Diagnostic, Span, suggest},
    spec::csv,
};

/// A `variable` block.
pub(super) struct VariableBlock<'a> {
    block: &'a Block,
}

/// A variable as `--list variables` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: Arc<str>,
    pub(crate) description: Option<Arc<str>>,
    /// Only if declared.
    pub(crate) ty: Option<Type>,
    pub(crate) value: Value,
    /// Its value is not to be shown.
    pub(crate) sensitive: bool,
}

/// Where a value from outside came from.
struct Given<'i> {
    text: &'i str,
    /// `environment variable TAG`.
    from: String,
}

const ATTRIBUTES: &[&str] = &["type", "default", "description", "sensitive", "validation"];

impl<'a> VariableBlock<'a> {
    pub(super) const fn new(block: &'a Block) -> Self {
        Self { block }
    }

    pub(super) const fn at(&self) -> Span {
        self.block.at
    }

    fn expr(&self, name: &str) -> Option<&'a Expr> {
        self.block.body.attribute(name).map(|it| &it.expr)
    }

    fn declared(&self) -> Result<Option<Type>> {
        match self.expr("type") {
            Some(expr) => type_of_expr(expr).map(Some).map_err(|fault| Fail::of(*fault)),
            None => Ok(None),
        }
    }
}

impl<'a> Scope<'a> {
    pub(super) fn variable_value(
        &self,
        name: &Arc<str>,
        variable: &VariableBlock<'a>,
        attribute: Option<&'a Attribute>,
    ) -> Result<Value> {
        let declared = variable.declared()?;
        self.warn_unknown(name, variable);
        let json_name = format!("{name}_JSON");
        let plain = self.given(name);
        let json = if self.is_variable(&json_name) || (declared.is_none() && plain.is_some()) {
            None
        } else {
            self.given(&json_name)
        };
        let env = Env::PLAIN;
        match (json, plain, &declared) {
            (Some(json), _, Some(ty)) => self.from_json(name, variable, &json, ty),
            (Some(given), None, None) | (_, Some(given), None) => {
                let default = match (attribute, variable.expr("default")) {
                    (Some(attribute), _) => self.attribute_value(attribute)?,
                    (None, Some(default)) => self.eval(default, env)?,
                    (None, None) => Value::NULL,
                };
                from_text(&given, &default.type_of(), true).map_err(|why| given.refuse(name, variable, &why))
            }
            (None, Some(given), Some(ty)) => {
                if *ty == Type::Dynamic {
                    return Ok(Value::string(given.text));
                }
                from_text(&given, ty, false).map_err(|why| given.refuse(name, variable, &why))
            }
            (None, None, _) => match (attribute, variable.expr("default")) {
                (Some(attribute), _) => self.attribute_value(attribute),
                (None, Some(default)) => {
                    let value = self.eval(default, env)?;
                    let ty = declared.unwrap_or(Type::Dynamic);
                    convert(&value, &ty).map_err(|error| {
                        Fail::of(
                            Diagnostic::error(
                                "bake::eval::bad_default",
                                format!("the default of variable `{name}` has the wrong type: {error}"),
                            )
                            .at(default.at, error.to_string())
                            .at(variable.block.at, format!("the variable has the type {ty}")),
                        )
                    })
                }
                (None, None) => Ok(declared.map_or_else(|| Value::string(""), Value::Null)),
            },
        }
    }

    /// `--var`, else the environment.
    fn given(&self, name: &str) -> Option<Given<'a>> {
        if let Some(text) = self.input.vars.get(name) {
            return Some(Given { text, from: format!("`--var {name}`") });
        }
        let text = self.input.env.get(name)?;
        Some(Given { text, from: format!("the environment variable `{name}`") })
    }

    fn from_json(&self, name: &str, variable: &VariableBlock<'a>, given: &Given<'_>, ty: &Type) -> Result<Value> {
        let refuse = |why: &str| given.refuse(name, variable, why);
        let at = variable.block.at;
        let tree = json::tree(at.source, given.text).map_err(|fault| refuse(&format!("it is no JSON: {fault}")))?;
        convert(&from_node(&tree.kind), ty).map_err(|error| refuse(&error.to_string()))
    }

    fn warn_unknown(&self, name: &str, variable: &VariableBlock<'a>) {
        let body = &variable.block.body;
        let unknown = body.attributes.iter().map(|it| (&it.name.value, it.name.at));
        let unknown = unknown.chain(body.blocks.iter().map(|it| (&it.kind.value, it.kind.at)));
        for (attribute, at) in unknown.filter(|(it, _)| !ATTRIBUTES.contains(&&***it)) {
            let warning = Diagnostic::warning(
                "bake::eval::unknown_attribute",
                format!("variable `{name}` has no attribute `{attribute}`"),
            )
            .at(at, "ignored");
            self.tell(
                None,
                match suggest::did_you_mean(attribute, ATTRIBUTES.iter().copied()) {
                    Some(help) => warning.help(help),
                    None => warning.help(format!("known are {}", ATTRIBUTES.join(", "))),
                },
            );
        }
    }

    /// Runs the validations of a variable.
    pub(super) fn validate(&self, name: &Arc<str>, variable: &VariableBlock<'a>) {
        for block in variable.block.body.blocks.iter().filter(|it| &*it.kind.value == "validation") {
            if let Err(fail) = self.validation(name, variable, block) {
                self.faults.settle(&None, fail);
            }
        }
    }

    fn validation(&self, name: &Arc<str>, variable: &VariableBlock<'a>, block: &'a Block) -> Result<()> {
        let env = Env::PLAIN;
        let Some(condition) = block.body.attribute("condition") else {
            return Err(Fail::of(
                Diagnostic::error(
                    "bake::eval::bad_validation",
                    format!("a validation of variable `{name}` has no `condition`"),
                )
                .at(block.at, "`condition` is missing"),
            ));
        };
        let value = self.eval(&condition.expr, env)?;
        if value.is_null() {
            return Err(Fail::of(
                Diagnostic::error("bake::eval::bad_validation", format!("the condition of variable `{name}` is null"))
                    .at(condition.expr.at, "this must be a bool"),
            ));
        }
        if to_bool(&value, condition.expr.at, "the condition of a validation")? {
            return Ok(());
        }
        let message = match block.body.attribute("error_message") {
            None => None,
            Some(attribute) => {
                let value = self.eval(&attribute.expr, env)?;
                match value.to_text() {
                    Some(text) => Some(text),
                    None if value.is_null() => None,
                    None => {
                        return Err(Fail::of(
                            Diagnostic::error(
                                "bake::eval::bad_validation",
                                "the message of a validation must be a string",
                            )
                            .at(attribute.expr.at, format!("this is {}", article(&value.kind()))),
                        ));
                    }
                }
            }
        };
        let current = self.variable_now(name, variable);
        let shown = match &current {
            _ if self.is_sensitive(variable) => "***".to_owned(),
            Some(value) => value.to_text().map_or_else(|| value.to_json_text(false), |text| text.to_string()),
            None => String::new(),
        };
        let message = message.unwrap_or_else(|| "the condition is false".into());
        Err(Fail::of(
            Diagnostic::error("bake::eval::validation", format!("variable `{name}` is not valid: {message}"))
                .at(condition.expr.at, format!("this is false; the value is: {shown}"))
                .at(variable.block.at, "declared here"),
        ))
    }

    fn is_sensitive(&self, variable: &VariableBlock<'a>) -> bool {
        let env = Env::PLAIN;
        let value = variable.expr("sensitive").map(|expr| self.eval(expr, env));
        matches!(value, Some(Ok(Value::Bool(true))))
    }

    /// All variables with their values, sorted by name; those that failed are left out.
    pub(crate) fn variables(&self) -> Vec<Variable> {
        let mut list = Vec::new();
        let env = Env::PLAIN;
        for (name, variable) in self.declared() {
            let Some(value) = self.variable_now(name, variable) else { continue };
            let description = variable.expr("description").and_then(|expr| self.eval(expr, env).ok()?.to_text());
            list.push(Variable {
                name: name.clone(),
                description: description.filter(|text| !text.is_empty()),
                ty: variable.declared().ok().flatten(),
                value,
                sensitive: self.is_sensitive(variable),
            });
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }
}

impl Given<'_> {
    fn refuse(&self, name: &str, variable: &VariableBlock<'_>, why: &str) -> Fail {
        Fail::of(
            Diagnostic::error(
                "bake::eval::bad_override",
                format!("the value of {} does not fit variable `{name}`: {why}", self.from),
            )
            .at(variable.block.at, "declared here")
            .help(format!("the value is: {}", if self.text.is_empty() { "(empty)" } else { self.text })),
        )
    }
}

/// The text of an override as a value of a type; the error says what is wanted.
fn from_text(given: &Given<'_>, ty: &Type, untyped: bool) -> std::result::Result<Value, String> {
    let text = given.text;
    match ty {
        Type::String | Type::Dynamic => Ok(Value::string(text)),
        Type::Bool => match text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => Err("a bool is wanted: true or false".to_owned()),
        },
        Type::Number => number(text).ok_or_else(|| "a number is wanted".to_owned()),
        _ if untyped => {
            Err("it has no `type` and a default that is a collection; declare the type, such as list(string)"
                .to_owned())
        }
        Type::List(element) | Type::Set(element) if element.is_primitive() => {
            let items = csv_values(given, |_| Some((**element).clone()))?;
            let list = Value::list((**element).clone(), items);
            convert(&list, ty).map_err(|error| error.to_string())
        }
        Type::Tuple(types) if types.iter().all(Type::is_primitive) => {
            let items = csv_values(given, |i| types.get(i).cloned())?;
            if items.len() != types.len() {
                return Err(format!("{} values are wanted, separated by commas, not {}", types.len(), items.len()));
            }
            Ok(Value::tuple(items))
        }
        Type::Map(element) if element.is_primitive() => map_from_text(given, element),
        _ => Err(format!("a value of type {ty} is given as JSON, in a variable whose name ends in `_JSON`")),
    }
}

fn csv_values(given: &Given<'_>, ty: impl Fn(usize) -> Option<Type>) -> std::result::Result<Vec<Value>, String> {
    if given.text.is_empty() {
        return Ok(Vec::new());
    }
    let fields = csv::fields(given.text).map_err(|fault| fault.message)?;
    let mut values = Vec::with_capacity(fields.len());
    for (i, field) in fields.iter().enumerate() {
        let ty = ty(i).unwrap_or(Type::String);
        let part = Given { text: field, from: String::new() };
        values.push(from_text(&part, &ty, false).map_err(|why| format!("value {} is `{field}`: {why}", i + 1))?);
    }
    Ok(values)
}

fn map_from_text(given: &Given<'_>, element: &Type) -> std::result::Result<Value, String> {
    let mut entries = std::collections::BTreeMap::new();
    if given.text.is_empty() {
        return Ok(Value::map(element.clone(), entries));
    }
    for field in csv::fields(given.text).map_err(|fault| fault.message)? {
        let Some((key, value)) = field.split_once(':').filter(|(_, value)| !value.contains(':')) else {
            return Err(format!("`key:value` pairs are wanted, separated by commas; this is none: {field}"));
        };
        let part = Given { text: value, from: String::new() };
        let value = from_text(&part, element, false).map_err(|why| format!("the value of `{key}`: {why}"))?;
        entries.insert(key.into(), value);
    }
    Ok(Value::map(element.clone(), entries))
}

fn number(text: &str) -> Option<Value> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    plain.then(|| Number::parse(text).map(Value::Number)).flatten()
}

/// A JSON value as it is: lists become tuples, objects objects.
fn from_node(node: &NodeKind) -> Value {
    match node {
        NodeKind::Null => Value::NULL,
        NodeKind::Bool(value) => Value::Bool(*value),
        NodeKind::Number(text) => Number::parse(text).map_or(Value::NULL, Value::Number),
        NodeKind::Text { text, .. } => Value::string(text.clone()),
        NodeKind::Array(items) => Value::tuple(items.iter().map(|item| from_node(&item.kind)).collect()),
        NodeKind::Object(items) => {
            Value::object(items.iter().map(|(key, value)| (key.value.clone(), from_node(&value.kind))).collect())
        }
    }
}
