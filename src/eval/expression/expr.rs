//! Expressions ─► values, by the rules of HCL
//! (<https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#expressions>).
//!
//! An evaluation returns a value or an error; the caller decides whether the error is recorded (`try` and `can` drop
//! it).

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use super::scope::{Env, Scope, ScopeFrame};
use crate::{
    definition::syntax::{BinaryOp, Conditional, Expr, ExprKind, For, TemplatePart, TraversalStep, UnaryOp},
    eval::{
        fault::{Fail, gather},
        value::{
            convert::{convert, unify},
            number::Number,
            types::{Type, Value},
        },
    },
    report::{Diagnostic, Span, Spanned},
};

pub(in crate::eval) type EvalResult<T> = std::result::Result<T, Fail>;

pub(in crate::eval) fn fault<T>(
    code: &'static str,
    message: impl Into<String>,
    at: Span,
    seen: impl Into<String>,
) -> EvalResult<T> {
    Err(Fail::of(Diagnostic::error(code, message).at(at, seen)))
}

impl<'a> Scope<'a> {
    /// The value of an expression.
    pub(in crate::eval) fn eval(&self, expr: &'a Expr, env: Env<'_>) -> EvalResult<Value> {
        // What is a value already needs no count.
        match &expr.kind {
            ExprKind::String(text) => return Ok(Value::string(text.clone())),
            ExprKind::Bool(value) => return Ok(Value::Bool(*value)),
            _ => (),
        }
        self.limits.step(expr.at, || self.eval_kind(expr, env))
    }

    fn eval_kind(&self, expr: &'a Expr, env: Env<'_>) -> EvalResult<Value> {
        match &expr.kind {
            ExprKind::Null => Ok(Value::NULL),
            ExprKind::Bool(value) => Ok(Value::Bool(*value)),
            ExprKind::Number(text) => match Number::parse(text) {
                Some(number) => Ok(Value::Number(number)),
                None => fault("bake::eval::bad_number", "a number cannot be represented", expr.at, "out of range"),
            },
            ExprKind::String(text) => Ok(Value::string(text.clone())),
            ExprKind::Template(parts) => self.template(parts, expr.at, env),
            ExprKind::Variable(name) => self.variable(name, expr.at, env),
            ExprKind::Member { source, name } => self.member(expr, source, name, env),
            ExprKind::Index { source, index } => {
                // `target.NAME["ATTRIBUTE"]` is `target.NAME.ATTRIBUTE`.
                if let (ExprKind::Member { .. }, ExprKind::String(name)) = (&source.kind, &index.kind) {
                    let name = Spanned { value: name.clone(), at: index.at };
                    if let Some(value) = self.block_reference(expr, source, &name, env) {
                        return value;
                    }
                }
                let container = self.eval(source, env)?;
                let key = self.eval(index, env)?;
                index_value(&container, &key, source.at, index.at)
            }
            ExprKind::Splat(it) => self.splat(&it.source, &it.steps, env),
            ExprKind::Call(it) => self.call(it, expr.at, env),
            ExprKind::Unary { op, operand } => self.unary(*op, operand, env),
            ExprKind::Chain(it) => self.chain(&it.first, &it.rest, env),
            ExprKind::Conditional(it) => self.conditional(it, env),
            ExprKind::Tuple(items) => {
                gather(items.iter().map(|item| self.eval(item, env)), items.len()).map(Value::tuple)
            }
            ExprKind::Object(items) => self.object(items, env),
            ExprKind::For(it) => self.for_expr(it, env),
            ExprKind::Parens(inner) => self.eval(inner, env),
        }
    }

    fn template(&self, parts: &'a [TemplatePart], at: Span, env: Env<'_>) -> EvalResult<Value> {
        if let [TemplatePart::Interpolation(expr)] = parts {
            return self.eval(expr, env);
        }
        let mut text = String::new();
        let hides = self.render(parts, env, &mut text)?;
        self.limits.text_made(text.len(), at)?;
        let value = Value::string(text);
        if hides {
            self.hide(&value);
        }
        Ok(value)
    }

    /// Writes the parts of a template; gives whether something hidden is among them.
    fn render(&self, parts: &'a [TemplatePart], env: Env<'_>, out: &mut String) -> EvalResult<bool> {
        let mut hides = false;
        for part in parts {
            match part {
                TemplatePart::Text(text) => out.push_str(text),
                TemplatePart::Interpolation(expr) => {
                    let value = self.eval(expr, env)?;
                    match value.to_text() {
                        Some(text) => out.push_str(&text),
                        None => return not_a_text(&value, expr.at),
                    }
                    hides |= self.is_hidden(&value);
                    self.limits.growing_text(out.len(), expr.at)?;
                }
                TemplatePart::If(it) => {
                    let branch = if self.bool(&it.condition, env, "the condition")? { &it.then } else { &it.otherwise };
                    hides |= self.render(branch, env, out)?;
                }
                TemplatePart::For(it) => {
                    let body = |inner: Env<'_>| {
                        hides |= self.render(&it.body, inner, out)?;
                        Ok(())
                    };
                    self.each(&it.collection, it.key.as_ref(), &it.value, env, body)?;
                }
            }
        }
        Ok(hides)
    }

    fn bool(&self, expr: &'a Expr, env: Env<'_>, what: &str) -> EvalResult<bool> {
        let value = self.eval(expr, env)?;
        to_bool(&value, expr.at, what)
    }

    /// Runs `body` for each element of a collection, in its order, with the names bound to it; a set's keys are its values.
    fn each(
        &self,
        collection: &'a Expr,
        key: Option<&Arc<str>>,
        value: &Arc<str>,
        env: Env<'_>,
        mut body: impl FnMut(Env<'_>) -> EvalResult<()>,
    ) -> EvalResult<()> {
        let all = self.eval(collection, env)?;
        let mut names = Vec::with_capacity(2);
        names.push((value.clone(), Value::NULL));
        names.extend(key.map(|key| (key.clone(), Value::NULL)));
        let mut run = |element: &Value, key: &dyn Fn() -> Value| {
            names[0].1 = element.clone();
            if let Some(bound) = names.get_mut(1) {
                bound.1 = key();
            }
            let frame = ScopeFrame { names: &names, parent: env.frame };
            body(Env { frame: Some(&frame), ..env })
        };
        match &all {
            Value::List { items, .. } | Value::Tuple(items) => {
                let index = |i: usize| Value::Number(Number::from_usize(i));
                items.iter().enumerate().try_for_each(|(i, item)| run(item, &|| index(i)))
            }
            Value::Set { items, .. } => items.iter().try_for_each(|item| run(item, &|| item.clone())),
            Value::Map { entries, .. } | Value::Object(entries) => {
                entries.iter().try_for_each(|(key, item)| run(item, &|| Value::String(key.clone())))
            }
            other => fault(
                "bake::eval::no_collection",
                format!("a `for` goes over a list or a map, not over {}", article(&other.kind())),
                collection.at,
                format!("this is {}", article(&other.kind())),
            ),
        }
    }

    fn for_expr(&self, it: &'a For, env: Env<'_>) -> EvalResult<Value> {
        let mut tuple = Vec::new();
        let mut object: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        let mut groups: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
        self.each(&it.collection, it.key.as_ref(), &it.value, env, |inner| {
            if let Some(condition) = &it.condition
                && !self.bool(condition, inner, "the condition of a `for`")?
            {
                return Ok(());
            }
            self.limits.element(it.result.at)?;
            let Some(key_expr) = &it.result_key else {
                tuple.push(self.eval(&it.result, inner)?);
                return Ok(());
            };
            let key = self.key(key_expr, inner)?;
            let value = self.eval(&it.result, inner)?;
            if it.group {
                groups.entry(key).or_default().push(value);
                return Ok(());
            }
            match object.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                    Ok(())
                }
                Entry::Occupied(entry) => Err(Fail::of(
                    Diagnostic::error(
                        "bake::eval::repeated_key",
                        format!("a `for` makes the key `{}` twice", entry.key()),
                    )
                    .at(key_expr.at, "not distinct")
                    .help("write `...` after the value to collect the values of equal keys in lists"),
                )),
            }
        })?;
        Ok(match (&it.result_key, it.group) {
            (None, _) => Value::tuple(tuple),
            (Some(_), false) => Value::object(object),
            (Some(_), true) => Value::object(groups.into_iter().map(|(k, v)| (k, Value::tuple(v))).collect()),
        })
    }

    /// The key of an object item.
    fn key(&self, expr: &'a Expr, env: Env<'_>) -> EvalResult<Arc<str>> {
        let value = self.eval(expr, env)?;
        match value.to_text() {
            Some(text) => Ok(text),
            None => fault(
                "bake::eval::bad_key",
                format!("the key of an object must be a string, not {}", article(&value.kind())),
                expr.at,
                format!("this is {}", article(&value.kind())),
            ),
        }
    }

    fn object(&self, items: &'a [(Expr, Expr)], env: Env<'_>) -> EvalResult<Value> {
        let entries = items.iter().map(|(key, value)| match (self.key(key, env), self.eval(value, env)) {
            (Ok(key), Ok(value)) => Ok((key, value)),
            (Err(fail), Ok(_)) | (Ok(_), Err(fail)) => Err(fail),
            (Err(fail), Err(other)) => Err(fail.and(other)),
        });
        // The last of several equal keys counts.
        Ok(Value::object(gather(entries, items.len())?.into_iter().collect()))
    }

    fn member(&self, whole: &'a Expr, source: &'a Expr, name: &Spanned<Arc<str>>, env: Env<'_>) -> EvalResult<Value> {
        if let Some(value) = self.block_reference(whole, source, name, env) {
            return value;
        }
        if let Some(value) = self.local_value(source, name, env) {
            return value;
        }
        let container = self.eval(source, env)?;
        member_value(&container, name, source.at)
    }

    fn splat(&self, source: &'a Expr, steps: &'a [TraversalStep], env: Env<'_>) -> EvalResult<Value> {
        let value = self.eval(source, env)?;
        self.splat_of(&value, source, steps, env)
    }

    /// The steps taken from each element of `value`; `source` is where it came from.
    fn splat_of(&self, value: &Value, source: &'a Expr, steps: &'a [TraversalStep], env: Env<'_>) -> EvalResult<Value> {
        let items: Vec<Value> = match value {
            Value::Null(_) => return Ok(Value::tuple(Vec::new())),
            Value::List { items, .. } | Value::Set { items, .. } | Value::Tuple(items) => items.to_vec(),
            other => vec![other.clone()],
        };
        let was_list = matches!(value, Value::List { .. } | Value::Set { .. });
        let mut results = Vec::with_capacity(items.len());
        for mut item in items {
            for step in steps {
                item = match step {
                    TraversalStep::Member(name) => member_value(&item, name, source.at)?,
                    TraversalStep::Index(index) => {
                        let key = self.eval(index, env)?;
                        index_value(&item, &key, source.at, index.at)?
                    }
                    TraversalStep::Splat(inner) => self.splat_of(&item, source, inner, env)?,
                };
            }
            results.push(item);
        }
        match results.first().map(Value::type_of) {
            Some(element) if was_list && results.iter().all(|item| item.type_of() == element) => {
                Ok(Value::list(element, results))
            }
            _ => Ok(Value::tuple(results)),
        }
    }

    fn unary(&self, op: UnaryOp, operand: &'a Expr, env: Env<'_>) -> EvalResult<Value> {
        match op {
            UnaryOp::Not => Ok(Value::Bool(!self.bool(operand, env, "the operand of `!`")?)),
            UnaryOp::Negate => {
                let value = self.eval(operand, env)?;
                Ok(Value::Number(to_number(&value, operand.at, "-")?.neg()))
            }
        }
    }

    fn chain(&self, first: &'a Expr, rest: &'a [(Spanned<BinaryOp>, Expr)], env: Env<'_>) -> EvalResult<Value> {
        let mut left = self.eval(first, env)?;
        let mut left_at = first.at;
        for (op, right) in rest {
            left = self.binary(left, left_at, op, right, env)?;
            left_at = left_at.to(right.at);
        }
        Ok(left)
    }

    fn binary(
        &self,
        left: Value,
        left_at: Span,
        op: &Spanned<BinaryOp>,
        right: &'a Expr,
        env: Env<'_>,
    ) -> EvalResult<Value> {
        let word = op.value.text();
        match op.value {
            BinaryOp::And | BinaryOp::Or => {
                let what = format!("the operand of `{word}`");
                let left = to_bool(&left, left_at, &what)?;
                // The right side is not looked at when the left one decides.
                if left == (op.value == BinaryOp::Or) {
                    return Ok(Value::Bool(left));
                }
                self.bool(right, env, &what).map(Value::Bool)
            }
            BinaryOp::Equal => Ok(Value::Bool(left.same(&self.eval(right, env)?))),
            BinaryOp::NotEqual => Ok(Value::Bool(!left.same(&self.eval(right, env)?))),
            _ => {
                let right_value = self.eval(right, env)?;
                let a = to_number(&left, left_at, word)?;
                let b = to_number(&right_value, right.at, word)?;
                let made = arithmetic(op, &a, &b, right.at)?;
                self.hide_derived(&made, [&left, &right_value]);
                Ok(made)
            }
        }
    }

    fn conditional(&self, it: &'a Conditional, env: Env<'_>) -> EvalResult<Value> {
        let Conditional { condition, then, otherwise } = it;
        let chosen = self.bool(condition, env, "the condition")?;
        let (value, other) = if chosen {
            (self.eval(then, env)?, self.eval(otherwise, env))
        } else {
            (self.eval(otherwise, env)?, self.eval(then, env))
        };
        let other = match other {
            Ok(other) => other,
            Err(fatal @ Fail::Fatal(_)) => return Err(fatal),
            // An arm that fails but is not chosen has no say in the type.
            Err(_) => return Ok(value),
        };
        if value.type_of() == other.type_of() {
            return Ok(value);
        }
        let types = [value.type_of(), other.type_of()];
        let unified = match (&value, &other) {
            (Value::Null(Type::Dynamic), _) => Some(types[1].clone()),
            (_, Value::Null(Type::Dynamic)) => return Ok(value),
            _ => unify(&types),
        };
        match unified.and_then(|ty| convert(&value, &ty).ok()) {
            Some(value) => Ok(value),
            None => {
                let (a, b) = if chosen { (&value, &other) } else { (&other, &value) };
                Err(Fail::of(
                    Diagnostic::error(
                        "bake::eval::different_arms",
                        "the two arms of a conditional have different types",
                    )
                    .at(then.at, format!("this is {}", article(&a.kind())))
                    .at(otherwise.at, format!("this is {}", article(&b.kind())))
                    .help("give both arms the same type, for instance with `convert(value, type)`"),
                ))
            }
        }
    }
}

fn arithmetic(op: &Spanned<BinaryOp>, a: &Number, b: &Number, right_at: Span) -> EvalResult<Value> {
    use std::cmp::Ordering;
    let ordering = || a.cmp(b);
    let number = |result: std::result::Result<Number, crate::eval::value::number::NumberError>| match result {
        Ok(number) => Ok(Value::Number(number)),
        Err(error) => fault(
            "bake::eval::arithmetic",
            format!("`{}` has no result: {error}", op.value.text()),
            right_at,
            error.to_string(),
        ),
    };
    match op.value {
        BinaryOp::Add => number(a.add(b)),
        BinaryOp::Subtract => number(a.sub(b)),
        BinaryOp::Multiply => number(a.mul(b)),
        BinaryOp::Divide => number(a.div(b)),
        BinaryOp::Remainder => number(a.rem(b)),
        BinaryOp::Less => Ok(Value::Bool(ordering() == Ordering::Less)),
        BinaryOp::LessOrEqual => Ok(Value::Bool(ordering() != Ordering::Greater)),
        BinaryOp::Greater => Ok(Value::Bool(ordering() == Ordering::Greater)),
        _ => Ok(Value::Bool(ordering() != Ordering::Less)),
    }
}

/// `a` or `an` before the name of a kind.
pub(in crate::eval) fn article(kind: &str) -> String {
    match kind.chars().next() {
        _ if kind == "null" => kind.to_owned(),
        Some('a' | 'e' | 'i' | 'o' | 'u') => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

fn not_a_text<T>(value: &Value, at: Span) -> EvalResult<T> {
    let diagnostic =
        Diagnostic::error("bake::eval::no_text", format!("{} cannot be part of a text", article(&value.kind())))
            .at(at, format!("this is {}", article(&value.kind())));
    Err(Fail::of(match value {
        Value::Null(_) => diagnostic.help("give it a value, or use `coalesce(x, \"\")`"),
        _ => diagnostic.help("use `join(\",\", x)` or `jsonencode(x)`"),
    }))
}

pub(in crate::eval) fn to_bool(value: &Value, at: Span, what: &str) -> EvalResult<bool> {
    if let Value::Bool(value) = value {
        return Ok(*value);
    }
    match convert(value, &Type::Bool) {
        Ok(Value::Bool(value)) => Ok(value),
        _ => fault(
            "bake::eval::no_bool",
            format!("{what} must be a bool, not {}", article(&value.kind())),
            at,
            format!("this is {}", article(&value.kind())),
        ),
    }
}

fn to_number<'v>(value: &'v Value, at: Span, op: &str) -> EvalResult<Cow<'v, Number>> {
    if let Value::Number(number) = value {
        return Ok(Cow::Borrowed(number));
    }
    match convert(value, &Type::Number) {
        Ok(Value::Number(number)) => Ok(Cow::Owned(number)),
        _ => {
            let seen = match value {
                Value::String(text) => format!("this is the string {text:?}"),
                other => format!("this is {}", article(&other.kind())),
            };
            let diagnostic = Diagnostic::error(
                "bake::eval::no_number",
                format!("the operand of `{op}` must be a number, not {}", article(&value.kind())),
            )
            .at(at, seen);
            let help = match value {
                _ if op != "+" => None,
                Value::String(_) => Some("texts are put together in a template: \"${a}${b}\""),
                Value::Map { .. } | Value::Object(_) => Some("maps are put together by `merge(a, b)`"),
                other => other.items().is_some().then_some("lists are put together by `concat(a, b)`"),
            };
            Err(Fail::of(match help {
                Some(help) => diagnostic.help(help),
                None => diagnostic,
            }))
        }
    }
}

/// `container[key]`.
pub(in crate::eval) fn index_value(
    container: &Value,
    key: &Value,
    container_at: Span,
    key_at: Span,
) -> EvalResult<Value> {
    match container {
        Value::List { items, .. } | Value::Tuple(items) => {
            let Ok(Value::Number(wanted)) = convert(key, &Type::Number) else {
                return fault(
                    "bake::eval::bad_index",
                    format!("the index of a list is a number, not {}", article(&key.kind())),
                    key_at,
                    format!("this is {}", article(&key.kind())),
                );
            };
            let found = wanted.to_i64().and_then(|i| usize::try_from(i).ok()).and_then(|i| items.get(i));
            match found {
                Some(item) => Ok(item.clone()),
                None => fault(
                    "bake::eval::index_out_of_range",
                    format!("the list has no element with the index {wanted}"),
                    key_at,
                    format!(
                        "the list has {} element{}, counted from 0",
                        items.len(),
                        if items.len() == 1 { "" } else { "s" }
                    ),
                ),
            }
        }
        Value::Map { entries, .. } | Value::Object(entries) => match key.to_text() {
            Some(name) => match entries.get(&*name) {
                Some(value) => Ok(value.clone()),
                None => missing_key(entries, &name, key_at),
            },
            None => fault(
                "bake::eval::bad_index",
                format!("the key of a map is a string, not {}", article(&key.kind())),
                key_at,
                format!("this is {}", article(&key.kind())),
            ),
        },
        other => fault(
            "bake::eval::no_elements",
            format!("{} has no elements", article(&other.kind())),
            container_at,
            format!("this is {}", article(&other.kind())),
        ),
    }
}

fn member_value(container: &Value, name: &Spanned<Arc<str>>, container_at: Span) -> EvalResult<Value> {
    match container {
        Value::Map { entries, .. } | Value::Object(entries) => match entries.get(&*name.value) {
            Some(value) => Ok(value.clone()),
            None => missing_key(entries, &name.value, name.at),
        },
        other => {
            let fault = Diagnostic::error(
                "bake::eval::no_attributes",
                format!("{} has no attributes, hence no `{}`", article(&other.kind()), name.value),
            )
            .at(name.at, "not an attribute")
            .at(container_at, format!("this is {}", article(&other.kind())));
            Err(Fail::of(if other.items().is_some() {
                fault.help(format!("write `[*].{}` for that attribute of each element", name.value))
            } else {
                fault
            }))
        }
    }
}

fn missing_key<T>(entries: &BTreeMap<Arc<str>, Value>, name: &str, at: Span) -> EvalResult<T> {
    let keys: Vec<&str> = entries.keys().map(|key| &**key).collect();
    let known = match keys.len() {
        0 => "it is empty".to_owned(),
        n if n > 12 => format!("it has {} and {} more", keys[..12].join(", "), n - 12),
        _ => format!("it has {}", keys.join(", ")),
    };
    let fault = Diagnostic::error("bake::eval::missing_key", format!("there is no key `{name}`")).at(at, known);
    Err(Fail::of(match crate::report::suggest::did_you_mean(name, keys) {
        Some(help) => fault.help(help),
        None => fault,
    }))
}
