//! Values of variables: built-in, from `--var` or the environment, from a global attribute, or the default
//! (<https://docs.docker.com/build/bake/variables/>).

use std::sync::Arc;

use crate::{
    definition::{
        json::{self, JsonNode, JsonNodeKind},
        syntax::{AttributeSyntax, Block, Expr},
    },
    eval::{
        expression::{
            call::type_of_expr,
            expr::{EvalResult, article, fault, to_bool},
            namespace::Namespace,
            scope::{Env, Scope},
        },
        fault::Fail,
        input::FileValue,
        value::{
            convert::convert,
            number::Number,
            types::{Type, Value},
        },
    },
    report::{Diagnostic, Span, Spanned},
    spec::{boolean, csv},
};

/// A `variable` block.
pub(in crate::eval) struct VariableBlock<'a> {
    block: &'a Block,
}

/// One variable with its final value, as `--list variables` shows it.
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

/// A value from outside.
struct Given<'n> {
    /// As the user knows it: `--var web.TAG`, `the environment variable TAG_JSON`.
    name: String,
    is_flag: bool,
    /// In a variables file.
    at: Option<Span>,
    what: VariableUse<'n>,
}

enum VariableUse<'n> {
    Text(&'n str),
    Json(&'n str),
    Value(&'n Value),
}

impl<'a> VariableBlock<'a> {
    pub(in crate::eval) const fn new(block: &'a Block) -> Self {
        Self { block }
    }

    pub(in crate::eval) const fn at(&self) -> Span {
        self.block.at
    }

    fn expr(&self, name: &str) -> Option<&'a Expr> {
        self.block.body.attribute(name).map(|it| &it.expr)
    }

    fn declared(&self) -> EvalResult<Option<Type>> {
        match self.expr("type") {
            Some(expr) => type_of_expr(expr).map(Some).map_err(|fault| Fail::of(*fault)),
            None => Ok(None),
        }
    }
}

impl<'a> Scope<'a> {
    pub(in crate::eval) fn variable_value(
        &self,
        name: &Arc<str>,
        variable: &VariableBlock<'a>,
        attribute: Option<&'a AttributeSyntax>,
    ) -> EvalResult<Value> {
        let declared = variable.declared()?;
        let Some(given) = self.given(name, variable, declared.is_some()) else {
            return self.value_of_files(name, variable, attribute, declared);
        };
        // Without a type the default decides what a text is read as.
        let (ty, is_untyped) = match declared {
            Some(ty) => (ty, false),
            None => {
                let default = match (attribute, variable.expr("default")) {
                    (Some(attribute), _) => self.attribute_value(attribute)?,
                    (None, Some(default)) => self.eval(default, Env::PLAIN)?,
                    (None, None) => Value::NULL,
                };
                (default.type_of(), true)
            }
        };
        let refuse = |why: &str| self.refuse(name, variable, &given, &ty, why);
        match given.what {
            VariableUse::Json(text) if !is_untyped => self.json_value(variable, text, &ty).map_err(|why| refuse(&why)),
            VariableUse::Text(text) if !is_untyped && ty == Type::Dynamic => Ok(Value::string(text)),
            VariableUse::Text(text) | VariableUse::Json(text) => {
                from_text(text, &ty, is_untyped).map_err(|why| refuse(&why))
            }
            VariableUse::Value(it) => convert(it, &ty).map_err(|error| refuse(&error.to_string())),
        }
    }

    /// The value when none comes from outside: that of the including file, of a global attribute, or the default.
    fn value_of_files(
        &self,
        name: &str,
        variable: &VariableBlock<'a>,
        attribute: Option<&'a AttributeSyntax>,
        declared: Option<Type>,
    ) -> EvalResult<Value> {
        let default = variable.expr("default");
        let (expr, what) = match (self.namespace(variable.at()).given_var(name), attribute, default) {
            (Some(given), _, _) => (given, "the value given to"),
            (None, Some(attribute), _) => return self.attribute_value(attribute),
            (None, None, Some(default)) => (default, "the default of"),
            (None, None, None) => return Ok(declared.map_or_else(|| Value::string(""), Value::Null)),
        };
        let value = self.eval(expr, Env::PLAIN)?;
        let ty = declared.unwrap_or(Type::Dynamic);
        convert(&value, &ty).map_err(|error| {
            Fail::of(
                Diagnostic::error(
                    "bake::eval::bad_default",
                    format!("{what} variable `{name}` has the wrong type: {error}"),
                )
                .at(expr.at, error.to_string())
                .at(variable.block.at, format!("the variable has the type {ty}")),
            )
        })
    }

    /// The value given to a variable from outside: `--var`, then a variables file, then the environment. As text, or as
    /// JSON under `NAME_JSON` for a variable with a type or when there is no text.
    fn given(&self, name: &str, variable: &VariableBlock<'a>, is_typed: bool) -> Option<Given<'_>> {
        let namespace = self.namespace(variable.at());
        let json_name = format!("{name}_JSON");
        let plain = self.given_text(name, namespace);
        let has_json = namespace.globals.get(json_name.as_str()).is_none_or(|it| it.variable.is_none())
            && (is_typed || plain.is_none());
        let json = if has_json { self.given_text(&json_name, namespace) } else { None };
        let json = json.map(|given| match given.what {
            VariableUse::Text(text) => Given { what: VariableUse::Json(text), ..given },
            _ => given,
        });
        if let Some((file_name, value)) = self.given_value(name, namespace) {
            let flag = json.filter(|it| it.is_flag).or(plain.filter(|it| it.is_flag));
            let what = match value.value.as_str() {
                Some(text) if value.is_text => VariableUse::Text(text),
                _ => VariableUse::Value(&value.value),
            };
            return flag.or(Some(Given { name: file_name, is_flag: false, at: Some(value.at), what }));
        }
        json.or(plain)
    }

    /// Hides the value given to a sensitive variable from outside, even if it cannot be converted.
    pub(in crate::eval) fn hide_outside_value(&self, name: &str, variable: &VariableBlock<'a>) {
        if let Some(Given { what: VariableUse::Text(text) | VariableUse::Json(text), .. }) =
            self.given(name, variable, true)
        {
            self.hidden.borrow_mut().insert(&text.into());
        }
    }

    /// `--var`, else the environment. A variable of an included file is also known by its name outside.
    fn given_text<'n>(&'n self, name: &str, namespace: &Namespace<'_>) -> Option<Given<'n>> {
        let (vars, env) = (&self.input.vars, &self.input.env);
        let flag = |name: &str| {
            let text = vars.get(name)?;
            Some(Given { name: format!("`--var {name}`"), is_flag: true, at: None, what: VariableUse::Text(text) })
        };
        if let Some(included) = namespace.included
            && let Some(given) = flag(&format!("{}.{name}", included.name))
        {
            return Some(given);
        }
        flag(name).or_else(|| {
            let text = env.get(name)?;
            let name = format!("the environment variable `{name}`");
            Some(Given { name, is_flag: false, at: None, what: VariableUse::Text(text) })
        })
    }

    /// The value of a variables file.
    fn given_value<'n>(&'n self, name: &str, namespace: &Namespace<'_>) -> Option<(String, &'n FileValue)> {
        let values = &self.input.var_values;
        if values.is_empty() {
            return None;
        }
        let outside = namespace.included.and_then(|it| values.get(&format!("{}.{name}", it.name)));
        outside.or_else(|| values.get(name)).map(|it| (format!("`{name}` of a variables file"), it))
    }

    fn json_value(&self, variable: &VariableBlock<'a>, text: &str, ty: &Type) -> std::result::Result<Value, String> {
        let tree = json::tree(variable.at().source, text).map_err(|fault| format!("it is no JSON: {fault}"))?;
        let value = from_node(&tree.kind).ok_or("a number in the JSON is out of range")?;
        if let Some(extra) = undeclared(&value, ty) {
            return Err(format!("its type has no attribute `{extra}`"));
        }
        convert(&value, ty).map_err(|error| error.to_string())
    }

    /// The error for a value from outside: where it came from, and how to write it.
    fn refuse(&self, name: &str, variable: &VariableBlock<'a>, given: &Given<'_>, ty: &Type, why: &str) -> Fail {
        let is_json = matches!(given.what, VariableUse::Json(_));
        let how = match ty {
            _ if is_json => format!("write JSON of type {ty}"),
            Type::Bool => "write true or false".to_owned(),
            Type::Number => "write a number, as in 1.5".to_owned(),
            Type::List(element) | Type::Set(element) if element.is_primitive() => {
                "write the values separated by commas".to_owned()
            }
            Type::Map(element) if element.is_primitive() => "write key:value, separated by commas".to_owned(),
            _ if variable.expr("type").is_none() => "declare its `type`, as in `type = list(string)`".to_owned(),
            Type::Tuple(types) if types.iter().all(Type::is_primitive) => {
                format!("write {} values separated by commas", types.len())
            }
            _ => format!("give the value as JSON in `{name}_JSON`"),
        };
        let is_sensitive = self.is_sensitive(variable);
        let why = if is_sensitive { "it cannot be converted" } else { why };
        let fault = Diagnostic::error(
            "bake::eval::bad_override",
            format!("the value of {} does not fit variable `{name}`: {why}", given.name),
        );
        let fault = match given.at {
            Some(at) => fault.at(at, "given here"),
            None => fault,
        };
        let fault = match &given.what {
            VariableUse::Value(_) => fault.at(variable.block.at, "declared here"),
            VariableUse::Text(text) | VariableUse::Json(text) => {
                let shown = match *text {
                    _ if is_sensitive => "***",
                    "" => "(empty)",
                    text => text,
                };
                fault.at(variable.block.at, "declared here").help(format!("{how}; the value is: {shown}"))
            }
        };
        let decides = variable.expr("type").or_else(|| variable.expr("default"));
        Fail::of(match decides {
            Some(expr) => fault.at(expr.at, format!("hence it is of type {ty}")),
            None => fault,
        })
    }

    /// Runs the validations of a variable.
    pub(in crate::eval) fn validate(&self, name: &Arc<str>, variable: &VariableBlock<'a>) {
        for block in variable.block.body.blocks.iter().filter(|it| &*it.kind.value == "validation") {
            if let Err(fail) = self.validation(name, variable, block) {
                self.faults.record(&None, fail);
            }
        }
    }

    fn validation(&self, name: &Arc<str>, variable: &VariableBlock<'a>, block: &'a Block) -> EvalResult<()> {
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
        let is_typed = variable.declared()?.is_some();
        let given = self.given(name, variable, is_typed);
        let given = given.map_or_else(String::new, |given| format!("; the value is from {}", given.name));
        let text = message.as_deref().unwrap_or("the condition is false");
        let fault = Diagnostic::error("bake::eval::validation", format!("variable `{name}` is not valid: {text}"))
            .at(condition.expr.at, format!("this is false; the value is: {shown}"))
            .at(variable.block.at, format!("declared here{given}"));
        Err(Fail::of(match message {
            Some(_) => fault,
            None => fault.help("add an `error_message` that says what is wanted"),
        }))
    }

    /// Evaluates the descriptive attributes of a variable.
    pub(in crate::eval) fn check_words(&self, name: &str, variable: &VariableBlock<'a>) {
        for (attribute, is_bool) in [("description", false), ("sensitive", true)] {
            let Some(expr) = variable.expr(attribute) else { continue };
            let checked = self.eval(expr, Env::PLAIN).and_then(|value| match value {
                Value::Null(_) => Ok(()),
                value if is_bool => to_bool(&value, expr.at, &format!("`sensitive` of variable `{name}`")).map(drop),
                value if value.to_text().is_some() => Ok(()),
                value => fault(
                    "bake::eval::bad_description",
                    format!("the description of variable `{name}` must be a string"),
                    expr.at,
                    format!("this is {}", article(&value.kind())),
                ),
            });
            if let Err(fail) = checked {
                self.faults.record(&None, fail);
            }
        }
    }

    /// Anything but a plain `false` hides the value.
    pub(in crate::eval) fn is_sensitive(&self, variable: &VariableBlock<'a>) -> bool {
        let value = variable.expr("sensitive").map(|expr| self.eval(expr, Env::PLAIN));
        match value {
            None => false,
            Some(Ok(Value::Null(_))) => false,
            Some(Ok(value)) => to_bool(&value, variable.block.at, "").unwrap_or(true),
            Some(Err(_)) => true,
        }
    }

    /// Names of all variables, those of included files also as they are called outside.
    pub(in crate::eval) fn variable_names(&self) -> impl Iterator<Item = Arc<str>> {
        self.declared().flat_map(|(name, variable)| [name.clone(), self.namespace(variable.at()).shown_name(name)])
    }

    /// All variables with their values, sorted by name; those that failed are left out.
    pub(crate) fn variables(&self) -> Vec<Variable> {
        let mut list = Vec::new();
        let env = Env::PLAIN;
        for (name, variable) in self.declared() {
            let Some(value) = self.variable_now(name, variable) else { continue };
            let description = variable.expr("description").and_then(|expr| self.eval(expr, env).ok()?.to_text());
            list.push(Variable {
                name: self.namespace(variable.at()).shown_name(name),
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

/// A name in an object of `value` for which `ty` has no attribute. Converting drops it; given on purpose, it is a mistake.
fn undeclared(value: &Value, ty: &Type) -> Option<Arc<str>> {
    match (value, ty) {
        (Value::Object(entries), Type::Object(known)) => {
            entries.iter().find_map(|(name, item)| match known.get(name) {
                Some((ty, _)) => undeclared(item, ty),
                None => Some(name.clone()),
            })
        }
        (Value::Object(entries), Type::Map(element)) => entries.values().find_map(|item| undeclared(item, element)),
        (Value::Tuple(items), Type::List(element) | Type::Set(element)) => {
            items.iter().find_map(|item| undeclared(item, element))
        }
        (Value::Tuple(items), Type::Tuple(types)) => {
            items.iter().zip(types.iter()).find_map(|(item, ty)| undeclared(item, ty))
        }
        _ => None,
    }
}

/// The text of an override as a value of a type; the error says what is wanted.
fn from_text(text: &str, ty: &Type, is_untyped: bool) -> std::result::Result<Value, String> {
    match ty {
        Type::String | Type::Dynamic => Ok(Value::string(text)),
        Type::Bool => boolean(text).map(Value::Bool).map_err(|_| "a bool is wanted".to_owned()),
        Type::Number => number(text).ok_or_else(|| "a number is wanted".to_owned()),
        _ if is_untyped => Err("it has no `type`, and a default that is a collection".to_owned()),
        Type::List(element) | Type::Set(element) if element.is_primitive() => {
            let list = Value::list((**element).clone(), csv_values(text, |_| element)?);
            convert(&list, ty).map_err(|error| error.to_string())
        }
        Type::Tuple(types) if types.iter().all(Type::is_primitive) => {
            let items = csv_values(text, |i| types.get(i).unwrap_or(&Type::String))?;
            if items.len() != types.len() {
                return Err(format!("{} values are wanted, not {}", types.len(), items.len()));
            }
            Ok(Value::tuple(items))
        }
        Type::Map(element) if element.is_primitive() => map_from_text(text, element),
        _ => Err(format!("a value of type {ty} can be given as JSON only")),
    }
}

fn csv_values<'t>(text: &str, ty: impl Fn(usize) -> &'t Type) -> std::result::Result<Vec<Value>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let fields = csv::fields(text).map_err(|fault| fault.message)?;
    let value = |(i, field): (usize, &String)| {
        from_text(field, ty(i), false).map_err(|why| format!("value {} is `{field}`: {why}", i + 1))
    };
    fields.iter().enumerate().map(value).collect()
}

fn map_from_text(text: &str, element: &Type) -> std::result::Result<Value, String> {
    let mut entries = std::collections::BTreeMap::new();
    if text.is_empty() {
        return Ok(Value::map(element.clone(), entries));
    }
    for field in csv::fields(text).map_err(|fault| fault.message)? {
        let Some((key, value)) = field.split_once(':').filter(|(_, value)| !value.contains(':')) else {
            return Err(format!("`key:value` pairs are wanted; this is none: {field}"));
        };
        let value = from_text(value, element, false).map_err(|why| format!("the value of `{key}`: {why}"))?;
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

/// A JSON value as it is: lists become tuples, objects objects. None if it holds a number that is out of range.
fn from_node(node: &JsonNodeKind) -> Option<Value> {
    Some(match node {
        JsonNodeKind::Null => Value::NULL,
        JsonNodeKind::Bool(value) => Value::Bool(*value),
        JsonNodeKind::Number(text) => Value::Number(Number::parse(text)?),
        JsonNodeKind::Text { text, .. } => Value::string(text.clone()),
        JsonNodeKind::Array(items) => {
            Value::tuple(items.iter().map(|item| from_node(&item.kind)).collect::<Option<_>>()?)
        }
        JsonNodeKind::Object(items) => {
            let entry =
                |(key, value): &(Spanned<Arc<str>>, JsonNode)| Some((key.value.clone(), from_node(&value.kind)?));
            Value::object(items.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}
