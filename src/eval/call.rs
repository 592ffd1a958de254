//! Calls: built-in functions, functions of the bake file, and the forms that see their arguments unevaluated.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    convert::convert,
    expr::{Result, article, fault},
    function,
    scope::{Env, Fail, Frame, Node, Scope},
    value::{Type, Value},
};
use crate::{
    definition::syntax::{Expr, ExprKind},
    report::{Diagnostic, Span, Spanned, suggest},
};

impl<'a> Scope<'a> {
    pub(super) fn call(
        &self,
        name: &'a Spanned<Arc<str>>,
        args: &'a [Expr],
        expand_last: bool,
        at: Span,
        env: Env<'a, '_>,
    ) -> Result<Value> {
        match &*name.value {
            "try" => return self.try_call(args, at, env),
            "can" => return self.can_call(args, at, env),
            "convert" => return self.convert_call(args, at, env),
            _ => (),
        }
        let builtin = function::lookup(&name.value);
        if builtin.is_none() && !self.functions.contains_key(&name.value) {
            return Err(Fail::of(self.unknown_function(name)));
        }
        let (values, places) = self.arguments(args, expand_last, env)?;
        match builtin {
            Some(builtin) => function::call(builtin, &values, &self.world).map_err(|error| {
                let place = error.argument.and_then(|i| places.get(i).copied()).unwrap_or(at);
                Fail::of(
                    Diagnostic::error("bake::eval::function", format!("`{}` failed: {}", name.value, error.message))
                        .at(place, error.message)
                        .help(format!("it is called as `{}`", function::signature(builtin))),
                )
            }),
            None => self.user_call(name, &values, &places, at),
        }
    }

    fn arguments(&self, args: &'a [Expr], expand_last: bool, env: Env<'a, '_>) -> Result<(Vec<Value>, Vec<Span>)> {
        let mut values = Vec::with_capacity(args.len());
        let mut places = Vec::with_capacity(args.len());
        for (i, arg) in args.iter().enumerate() {
            let value = self.eval(arg, env)?;
            if expand_last && i + 1 == args.len() {
                let Some(items) = value.items() else {
                    return fault(
                        "bake::eval::no_expansion",
                        format!("`...` expands a list, not {}", article(&value.kind())),
                        arg.at,
                        format!("this is {}", article(&value.kind())),
                    );
                };
                places.extend(items.iter().map(|_| arg.at));
                values.extend(items.iter().cloned());
            } else {
                values.push(value);
                places.push(arg.at);
            }
        }
        Ok((values, places))
    }

    fn try_call(&self, args: &'a [Expr], at: Span, env: Env<'a, '_>) -> Result<Value> {
        let mut last = None;
        for arg in args {
            match self.quietly(|| self.eval(arg, env)) {
                Ok(value) => return Ok(value),
                Err(fail) => last = Some(fail),
            }
        }
        match last {
            None => fault("bake::eval::function", "`try` needs at least one expression", at, "no argument"),
            Some(Fail::Fault(reason)) => Err(Fail::of(
                Diagnostic::error(
                    "bake::eval::function",
                    format!("`try` failed: no expression succeeded; the last said: {reason}"),
                )
                .at(at, "all of these fail"),
            )),
            Some(Fail::Told) => {
                fault("bake::eval::function", "`try` failed: no expression succeeded", at, "all of these fail")
            }
        }
    }

    fn can_call(&self, args: &'a [Expr], at: Span, env: Env<'a, '_>) -> Result<Value> {
        match args {
            [arg] => Ok(Value::Bool(self.quietly(|| self.eval(arg, env)).is_ok())),
            _ => fault("bake::eval::function", format!("`can` takes one expression, not {}", args.len()), at, "here"),
        }
    }

    fn convert_call(&self, args: &'a [Expr], at: Span, env: Env<'a, '_>) -> Result<Value> {
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

    fn unknown_function(&self, name: &Spanned<Arc<str>>) -> Diagnostic {
        let diagnostic =
            Diagnostic::error("bake::eval::unknown_function", format!("no function is called `{}`", name.value))
                .at(name.at, "not a function");
        let known = function::names();
        let known = known.iter().copied().chain(self.functions.keys().map(|name| &**name));
        diagnostic.help(
            suggest::did_you_mean(&name.value, known)
                .unwrap_or_else(|| format!("define it with `function \"{}\" {{ … }}`", name.value)),
        )
    }

    fn user_call(&self, name: &Spanned<Arc<str>>, args: &[Value], places: &[Span], at: Span) -> Result<Value> {
        let Some(Ok(function)) = self.functions.get(&name.value) else {
            return Err(Fail::Told);
        };
        let n = function.params.len();
        if args.len() < n || (args.len() > n && function.variadic.is_none()) {
            let least = if function.variadic.is_some() { "at least " } else { "" };
            return Err(Fail::of(
                Diagnostic::error(
                    "bake::eval::function",
                    format!(
                        "`{}` takes {least}{n} argument{}, not {}",
                        name.value,
                        if n == 1 { "" } else { "s" },
                        args.len()
                    ),
                )
                .at(
                    places.get(n).copied().unwrap_or(at),
                    if args.len() < n { "too few arguments" } else { "one too many" },
                )
                .at(function.at, "defined here")
                .help(format!("it is called as `{}`", function.signature(&name.value))),
            ));
        }
        let mut names = Vec::with_capacity(n + 1);
        for (i, (param, value)) in function.params.iter().zip(args).enumerate() {
            if value.is_null() {
                return fault(
                    "bake::eval::function",
                    format!("the argument `{param}` of `{}` must not be null", name.value),
                    places[i],
                    "this is null",
                );
            }
            names.push((param.clone(), value.clone()));
        }
        if let Some(variadic) = &function.variadic {
            names.push((variadic.clone(), Value::tuple(args[n..].to_vec())));
        }
        let _busy = self.enter(Node::Function(name.value.clone()), name.at)?;
        let frame = Frame { names: &names, parent: None };
        self.eval(function.result, Env { frame: Some(&frame), references: false, owner: None })
            .map_err(|fail| fail.seen_from(name, at))
    }
}

/// A function of the bake file.
pub(super) struct UserFunction<'a> {
    pub(super) params: Vec<Arc<str>>,
    pub(super) variadic: Option<Arc<str>>,
    pub(super) result: &'a Expr,
    pub(super) at: Span,
}

impl UserFunction<'_> {
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
pub(super) fn type_of_expr(expr: &Expr) -> std::result::Result<Type, Box<Diagnostic>> {
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
        ExprKind::Parens(inner) => type_of_expr(inner),
        ExprKind::Call { name, args, expand_last: false } => {
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
            ExprKind::Call { name, args, .. } if &*name.value == "optional" && !args.is_empty() && args.len() <= 2 => {
                (type_of_expr(&args[0])?, true)
            }
            _ => (type_of_expr(ty)?, false),
        };
        attributes.insert(name.clone(), (ty, optional));
    }
    Ok(Type::Object(Arc::new(attributes)))
}
