//! Calls: built-in functions, functions of the bake file, and the forms that see their arguments unevaluated.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use super::{
    expr::{EvalResult, article, fault},
    scope::{Env, Scope, ScopeFrame, ScopeNode},
};
use crate::{
    definition::syntax::{Block, CallSyntax, Expr, ExprKind},
    eval::{
        fault::{Fail, gather},
        function::{self, Builtin},
        value::{
            convert::convert,
            types::{Type, Value},
        },
    },
    report::{Diagnostic, Span, Spanned, suggest},
};

impl<'a> Scope<'a> {
    pub(in crate::eval) fn call(&self, call: &'a CallSyntax, at: Span, env: Env<'_>) -> EvalResult<Value> {
        let CallSyntax { name, args, expand_last } = call;
        match &*name.value {
            "try" => return self.try_call(args, at, env),
            "can" => return self.can_call(args, at, env),
            "convert" => return self.convert_call(args, at, env),
            _ => (),
        }
        let builtin = self.builtin(&name.value, name.at);
        if builtin.is_none() && !self.namespace(name.at).functions.contains_key(&name.value) {
            return Err(Fail::of(self.unknown_function(&name.value, name.at)));
        }
        let values = self.arguments(args, *expand_last, env)?;
        match builtin {
            Some(builtin) => {
                if builtin.is_ours {
                    let source = name.at.source;
                    let origin = self.input.origins.get(&source).cloned().unwrap_or_default();
                    self.world.enter(self.folder(source), origin);
                }
                let value = function::call(builtin, &values, &self.world).map_err(|error| {
                    let place = error.argument.and_then(|i| argument_at(args, i)).unwrap_or(at);
                    let quoted = format!("`{}`", name.value);
                    let message = if error.message.contains(&quoted) {
                        error.message
                    } else {
                        format!("{quoted} failed: {}", error.message)
                    };
                    let seen = if error.argument.is_some() { "this argument" } else { "this call" };
                    Fail::of(
                        Diagnostic::error("bake::eval::function", message)
                            .at(place, seen)
                            .help(format!("it is called as `{}`", function::signature(builtin))),
                    )
                })?;
                self.limits.text_made(value.as_str().map_or(0, str::len), at)?;
                // The length of a secret is a number that says little, and hides much where it is hidden.
                if !matches!(value, Value::Number(_)) {
                    self.hide_derived(&value, &values);
                }
                Ok(value)
            }
            None => self.user_call(name, &values, args, at),
        }
    }

    /// The built-in function that a call means. Of those that the peer does not have, a function of the file wins.
    pub(in crate::eval) fn builtin(&self, name: &str, at: Span) -> Option<&'static Builtin> {
        let is_defined = || self.namespace(at).functions.contains_key(name);
        function::lookup(name).filter(|it| !it.is_ours || !is_defined())
    }

    fn arguments(&self, args: &'a [Expr], expand_last: bool, env: Env<'_>) -> EvalResult<Vec<Value>> {
        let mut values = gather(args.iter().map(|arg| self.eval(arg, env)), args.len())?;
        if expand_last && let (Some(last), Some(arg)) = (values.pop(), args.last()) {
            let Some(items) = last.items() else {
                return fault(
                    "bake::eval::no_expansion",
                    format!("`...` expands a list, not {}", article(&last.kind())),
                    arg.at,
                    format!("this is {}", article(&last.kind())),
                );
            };
            values.extend(items.iter().cloned());
        }
        Ok(values)
    }

    fn try_call(&self, args: &'a [Expr], at: Span, env: Env<'_>) -> EvalResult<Value> {
        let mut last = None;
        for arg in args {
            match self.eval(arg, env) {
                Ok(value) => return Ok(value),
                Err(fatal @ Fail::Fatal(_)) => return Err(fatal),
                Err(fail) => last = Some(fail),
            }
        }
        let Some(last) = last else {
            return fault("bake::eval::function", "`try` needs at least one expression", at, "no argument");
        };
        let reason = last.text().map_or_else(String::new, |text| format!("; the last said: {text}"));
        fault("bake::eval::function", format!("`try` failed: no expression succeeded{reason}"), at, "all of these fail")
    }

    fn can_call(&self, args: &'a [Expr], at: Span, env: Env<'_>) -> EvalResult<Value> {
        match args {
            [arg] => match self.eval(arg, env) {
                Err(fatal @ Fail::Fatal(_)) => Err(fatal),
                result => Ok(Value::Bool(result.is_ok())),
            },
            _ => fault("bake::eval::function", format!("`can` takes one expression, not {}", args.len()), at, "here"),
        }
    }

    fn convert_call(&self, args: &'a [Expr], at: Span, env: Env<'_>) -> EvalResult<Value> {
        let [value, ty] = args else {
            return fault(
                "bake::eval::function",
                format!("`convert` takes a value and a type, not {} arguments", args.len()),
                at,
                "here",
            );
        };
        let ty = type_of_expr(ty).map_err(|diagnostic| Fail::of(*diagnostic))?;
        let given = self.eval(value, env)?;
        convert(&given, &ty).map_err(|error| {
            Fail::of(
                Diagnostic::error("bake::eval::function", format!("`convert` failed: {error}"))
                    .at(value.at, error.to_string()),
            )
        })
    }

    pub(in crate::eval) fn unknown_function(&self, name: &str, at: Span) -> Diagnostic {
        let diagnostic = Diagnostic::error("bake::eval::unknown_function", format!("no function is called `{name}`"))
            .at(at, "not a function");
        if self.namespace(at).globals.get(name).is_some_and(|it| it.variable.is_some()) {
            return diagnostic.help(format!("`{name}` is a variable: write `{name}` without brackets"));
        }
        let known = function::names();
        let known = known.iter().copied().chain(self.namespace(at).functions.keys().map(|name| &**name));
        diagnostic.help(
            suggest::nearest(name, known)
                .map(|near| format!("did you mean: {near:?}"))
                .unwrap_or_else(|| format!("define it with `function \"{name}\" {{ … }}`")),
        )
    }

    fn user_call(&self, name: &Spanned<Arc<str>>, values: &[Value], args: &[Expr], at: Span) -> EvalResult<Value> {
        let namespace = self.namespace_ix(name.at);
        let Some((ix, _, function)) = self.namespaces[namespace].functions.get_full(&name.value) else {
            return Err(Fail::Recorded(None));
        };
        let body = match &function.body {
            Some(body) if !function.is_broken.get() => body,
            _ => return Err(Fail::Recorded(None)),
        };
        let names = bind(name, function, body, values, args, at)?;
        if function.is_busy.get() {
            return Err(self.cycle(ScopeNode::Function(namespace, ix), name.at));
        }
        function.is_busy.set(true);
        let frame = ScopeFrame { names: &names, parent: None };
        let env = Env { frame: Some(&frame), references: false };
        let value = self.within(ScopeNode::Function(namespace, ix), name.at, || self.eval(body.result, env));
        function.is_busy.set(false);
        value.map_err(|fail| fail.with_call(&name.value, at))
    }

    /// Reads a `function` block; errors in it are recorded.
    pub(in crate::eval) fn user_function(&self, block: &'a Block) -> UserFunction<'a> {
        UserFunction {
            body: self.function_body(block),
            at: block.at,
            is_broken: Cell::new(false),
            is_busy: Cell::new(false),
        }
    }

    fn function_body(&self, block: &'a Block) -> Option<FunctionBody<'a>> {
        let label = &block.labels[0];
        let missing = |name: &str| {
            self.record_fault(
                None,
                Diagnostic::error(
                    "bake::eval::missing_attribute",
                    format!("function `{}` has no `{name}`", label.value),
                )
                .at(block.at, format!("`{name}` is missing"))
                .help(format!("a function has `params = [a, b]` and `result = …`; write `{name}`")),
            );
        };
        if function::lookup(&label.value).is_some_and(|it| !it.is_ours) {
            self.record_fault(
                None,
                Diagnostic::warning(
                    "bake::eval::shadowed",
                    format!("`{}` is a built-in function, which is called instead", label.value),
                )
                .at(label.at, "never called")
                .help("choose another name"),
            );
        }
        let params = match block.body.attribute("params").map(|it| &it.expr) {
            Some(Expr { kind: ExprKind::Tuple(items), .. }) => {
                items.iter().map(|item| self.parameter(item)).collect::<Option<Vec<_>>>()
            }
            Some(other) => {
                self.record_fault(
                    None,
                    Diagnostic::error("bake::eval::bad_parameter", "`params` is a list of names")
                        .at(other.at, "not a list")
                        .help("write `params = [a, b]`"),
                );
                None
            }
            None => {
                missing("params");
                None
            }
        };
        let result = block.body.attribute("result").map(|it| &it.expr);
        if result.is_none() {
            missing("result");
        }
        let variadic = match block.body.attribute("variadic_params") {
            Some(attribute) => Some(self.parameter(&attribute.expr)?),
            None => None,
        };
        Some(FunctionBody { params: params?, variadic, result: result? })
    }

    fn parameter(&self, expr: &'a Expr) -> Option<Arc<str>> {
        if let ExprKind::Variable(name) = &expr.kind {
            return Some(name.clone());
        }
        let fault =
            Diagnostic::error("bake::eval::bad_parameter", "a parameter is a plain name").at(expr.at, "not a name");
        self.record_fault(
            None,
            match &expr.kind {
                ExprKind::String(text) => fault.help(format!("write it without quotes: {text}")),
                _ => fault.help("write `params = [a, b]`"),
            },
        );
        None
    }
}

/// Where an argument stands; those of an expanded list all stand where the list does.
fn argument_at(args: &[Expr], index: usize) -> Option<Span> {
    args.get(index).or(args.last()).map(|arg| arg.at)
}

/// The parameters of a call with their values.
fn bind(
    name: &Spanned<Arc<str>>,
    function: &UserFunction<'_>,
    body: &FunctionBody<'_>,
    values: &[Value],
    args: &[Expr],
    at: Span,
) -> EvalResult<Vec<(Arc<str>, Value)>> {
    let n = body.params.len();
    if values.len() < n || (values.len() > n && body.variadic.is_none()) {
        let least = if body.variadic.is_some() { "at least " } else { "" };
        let plural = if n == 1 { "" } else { "s" };
        let missing = body.params.get(values.len()).map_or_else(String::new, |it| format!(", missing: {it:?}"));
        let (place, seen) = if values.len() < n {
            (at, "too few arguments")
        } else {
            (argument_at(args, n).unwrap_or(at), "one too many")
        };
        return Err(Fail::of(
            Diagnostic::error(
                "bake::eval::function",
                format!("`{}` takes {least}{n} argument{plural}, not {}{missing}", name.value, values.len()),
            )
            .at(place, seen)
            .at(function.at, "defined here")
            .help(format!("it is called as `{}`", body.signature(&name.value))),
        ));
    }
    let mut names = Vec::with_capacity(n + 1);
    for (i, value) in values.iter().enumerate() {
        let Some(param) = body.params.get(i).or(body.variadic.as_ref()) else { break };
        if value.is_null() {
            return Err(Fail::of(
                Diagnostic::error(
                    "bake::eval::function",
                    format!("the argument `{param}` of `{}` must not be null", name.value),
                )
                .at(argument_at(args, i).unwrap_or(at), "this is null")
                .help(format!("it is called as `{}`", body.signature(&name.value))),
            ));
        }
        if i < n {
            names.push((param.clone(), value.clone()));
        }
    }
    if let Some(variadic) = &body.variadic {
        names.push((variadic.clone(), Value::tuple(values[n..].to_vec())));
    }
    Ok(names)
}

/// A function of the bake file.
pub(in crate::eval) struct UserFunction<'a> {
    /// `None` if it has an error, which is recorded.
    pub(in crate::eval) body: Option<FunctionBody<'a>>,
    pub(in crate::eval) at: Span,
    /// It calls itself or has an error; that is recorded.
    pub(in crate::eval) is_broken: Cell<bool>,
    is_busy: Cell<bool>,
}

pub(in crate::eval) struct FunctionBody<'a> {
    pub(in crate::eval) params: Vec<Arc<str>>,
    pub(in crate::eval) variadic: Option<Arc<str>>,
    pub(in crate::eval) result: &'a Expr,
}

impl FunctionBody<'_> {
    fn signature(&self, name: &str) -> String {
        let mut params: Vec<String> = self.params.iter().map(|it| it.to_string()).collect();
        params.extend(self.variadic.iter().map(|it| format!("{it}...")));
        format!("{name}({})", params.join(", "))
    }
}

const PRIMITIVES: &[(&str, Type)] =
    &[("string", Type::String), ("number", Type::Number), ("bool", Type::Bool), ("any", Type::Dynamic)];
const CONSTRUCTORS: &[&str] = &["list", "set", "map", "tuple", "object", "optional"];

/// A type expression: `list(string)`, `object({name = string, size = optional(number)})`.
pub(in crate::eval) fn type_of_expr(expr: &Expr) -> std::result::Result<Type, Box<Diagnostic>> {
    let bad = |at: Span, seen: String| {
        Box::new(Diagnostic::error("bake::eval::bad_type", "this is not a type").at(at, seen).help(
            "types are string, number, bool, any, list(T), set(T), map(T), tuple([T, …]) and object({name = T, …})",
        ))
    };
    match &expr.kind {
        ExprKind::Variable(name) => match PRIMITIVES.iter().find(|(known, _)| *known == &**name) {
            Some((_, ty)) => Ok(ty.clone()),
            None => {
                let known = PRIMITIVES.iter().map(|(known, _)| *known).chain(CONSTRUCTORS.iter().copied());
                Err(match suggest::did_you_mean(name, known) {
                    _ if CONSTRUCTORS.contains(&&**name) => {
                        bad(expr.at, format!("`{name}` needs an argument: `{name}(…)`"))
                    }
                    Some(help) => Box::new(bad(expr.at, "no type of this name".to_owned()).help(help)),
                    None => bad(expr.at, "no type of this name".to_owned()),
                })
            }
        },
        ExprKind::String(text) if PRIMITIVES.iter().any(|(known, _)| *known == &**text) => {
            Err(Box::new(bad(expr.at, "a string".to_owned()).help(format!("write it without quotes: {text}"))))
        }
        ExprKind::Parens(inner) => type_of_expr(inner),
        ExprKind::Call(call) if !call.expand_last => {
            let CallSyntax { name, args, .. } = &**call;
            let [arg] = args.as_slice() else {
                return Err(bad(expr.at, format!("`{}` takes one argument", name.value)));
            };
            match (&*name.value, &arg.kind) {
                ("list", _) => Ok(Type::list(type_of_expr(arg)?)),
                ("set", _) => Ok(Type::set(type_of_expr(arg)?)),
                ("map", _) => Ok(Type::map(type_of_expr(arg)?)),
                ("tuple", ExprKind::Tuple(items)) => {
                    Ok(Type::tuple(items.iter().map(type_of_expr).collect::<std::result::Result<_, _>>()?))
                }
                ("object", ExprKind::Object(items)) => object_type(items, &bad),
                ("tuple" | "object", _) => {
                    Err(bad(arg.at, format!("`{}` takes a list or object of types", name.value)))
                }
                ("optional", _) => Err(bad(expr.at, "`optional` stands only inside `object`".to_owned())),
                _ => Err(bad(name.at, "no type of this name".to_owned())),
            }
        }
        _ => Err(bad(expr.at, "an expression that is no type".to_owned())),
    }
}

fn object_type(
    items: &[(Expr, Expr)],
    bad: &dyn Fn(Span, String) -> Box<Diagnostic>,
) -> std::result::Result<Type, Box<Diagnostic>> {
    let mut attributes = BTreeMap::new();
    for (key, ty) in items {
        let ExprKind::String(name) = &key.kind else {
            return Err(bad(key.at, "the name of an attribute is a plain word".to_owned()));
        };
        let (ty, optional) = match &ty.kind {
            ExprKind::Call(call) if &*call.name.value == "optional" => match call.args.as_slice() {
                [of] => (type_of_expr(of)?, true),
                [_, default, ..] => {
                    let why = "`optional` takes one argument, the type; there are no defaults";
                    return Err(bad(default.at, why.to_owned()));
                }
                [] => return Err(bad(ty.at, "`optional` needs an argument: `optional(…)`".to_owned())),
            },
            _ => (type_of_expr(ty)?, false),
        };
        attributes.insert(name.clone(), (ty, optional));
    }
    Ok(Type::Object(Arc::new(attributes)))
}
