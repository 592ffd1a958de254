//! Which global names an expression mentions, without evaluating it.

use std::sync::Arc;

use crate::{
    definition::syntax::{Expr, ExprKind, TemplatePart, TraversalStep},
    report::Span,
};

/// A global name in an expression.
pub(in crate::eval) enum Mention<'e> {
    Name(&'e Arc<str>, Span),
    Call(&'e Arc<str>, Span),
}

fn visit_steps<'e>(steps: &'e [TraversalStep], local: &mut Vec<Arc<str>>, found: &mut dyn FnMut(Mention<'e>)) {
    for step in steps {
        match step {
            TraversalStep::Member(_) => (),
            TraversalStep::Index(index) => visit(index, local, found),
            TraversalStep::Splat(inner) => visit_steps(inner, local, found),
        }
    }
}

/// Calls `found` for each name that is none of `local`.
pub(in crate::eval) fn visit<'e>(expr: &'e Expr, local: &mut Vec<Arc<str>>, found: &mut dyn FnMut(Mention<'e>)) {
    match &expr.kind {
        ExprKind::Null | ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::String(_) => (),
        ExprKind::Variable(name) => {
            if !local.iter().any(|it| it == name) {
                found(Mention::Name(name, expr.at));
            }
        }
        ExprKind::Template(parts) => visit_parts(parts, local, found),
        ExprKind::Member { source, .. } | ExprKind::Parens(source) | ExprKind::Unary { operand: source, .. } => {
            visit(source, local, found);
        }
        ExprKind::Index { source, index } => {
            visit(source, local, found);
            visit(index, local, found);
        }
        ExprKind::Splat(it) => {
            visit(&it.source, local, found);
            visit_steps(&it.steps, local, found);
        }
        // `try` and `can` may name what is not there; the second argument of `convert` is a type.
        ExprKind::Call(it) if matches!(&*it.name.value, "try" | "can") => (),
        ExprKind::Call(it) => {
            found(Mention::Call(&it.name.value, it.name.at));
            let n = if &*it.name.value == "convert" { 1 } else { it.args.len() };
            it.args.iter().take(n).for_each(|arg| visit(arg, local, found));
        }
        ExprKind::Chain(it) => {
            visit(&it.first, local, found);
            it.rest.iter().for_each(|(_, operand)| visit(operand, local, found));
        }
        ExprKind::Conditional(it) => {
            [&it.condition, &it.then, &it.otherwise].into_iter().for_each(|it| visit(it, local, found));
        }
        ExprKind::Tuple(items) => items.iter().for_each(|item| visit(item, local, found)),
        ExprKind::Object(items) => items.iter().for_each(|(key, value)| {
            visit(key, local, found);
            visit(value, local, found);
        }),
        ExprKind::For(it) => {
            visit(&it.collection, local, found);
            let n = local.len();
            local.extend(it.key.clone());
            local.push(it.value.clone());
            for inner in it.result_key.iter().chain([&it.result]).chain(&it.condition) {
                visit(inner, local, found);
            }
            local.truncate(n);
        }
    }
}

fn visit_parts<'e>(parts: &'e [TemplatePart], local: &mut Vec<Arc<str>>, found: &mut dyn FnMut(Mention<'e>)) {
    for part in parts {
        match part {
            TemplatePart::Text(_) => (),
            TemplatePart::Interpolation(expr) => visit(expr, local, found),
            TemplatePart::If(it) => {
                visit(&it.condition, local, found);
                visit_parts(&it.then, local, found);
                visit_parts(&it.otherwise, local, found);
            }
            TemplatePart::For(it) => {
                visit(&it.collection, local, found);
                let n = local.len();
                local.extend(it.key.clone());
                local.push(it.value.clone());
                visit_parts(&it.body, local, found);
                local.truncate(n);
            }
        }
    }
}
