//! Finds where a part of a value was written: follows a path like `[1].id` into an expression, as far as that is a
//! literal.

use crate::{
    definition::syntax::{Expr, ExprKind},
    report::Span,
};

/// The place of the part at `path`, or of the innermost literal around it if the part is computed.
pub(in crate::eval) fn within(expr: &Expr, path: &str) -> Span {
    match &expr.kind {
        ExprKind::Parens(inner) => within(inner, path),
        ExprKind::Tuple(items) => element(path)
            .and_then(|(ix, rest)| Some((items.get(ix)?, rest)))
            .map_or(expr.at, |(item, rest)| within(item, rest)),
        // The last of several equal keys counts.
        ExprKind::Object(items) => items
            .iter()
            .rev()
            .find_map(|(key, value)| Some((value, member(key, path)?)))
            .map_or(expr.at, |(value, rest)| within(value, rest)),
        _ => expr.at,
    }
}

/// The index at the start of a path, and the rest.
fn element(path: &str) -> Option<(usize, &str)> {
    let (ix, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((ix.parse().ok()?, rest))
}

/// The rest of the path after `key`, if the path begins with it. A key may itself have dots and brackets.
fn member<'p>(key: &Expr, path: &'p str) -> Option<&'p str> {
    let ExprKind::String(key) = &key.kind else { return None };
    let rest = path.strip_prefix('.')?.strip_prefix(&**key)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{definition::hcl, report::SourceMap};

    /// The text that a path leads to.
    fn check(expr: &str, path: &str) -> String {
        let text = format!("a = {expr}\n");
        let mut sources = SourceMap::default();
        let (body, faults) = hcl::parse(sources.add("x.hcl", text.as_str()), &text);
        assert!(faults.is_empty(), "{faults:?}");
        sources.text(within(&body.attributes[0].expr, path)).to_owned()
    }

    #[test]
    fn a_path_is_followed_as_far_as_the_expression_is_written_out() {
        assert_eq!(check("[1, 2]", ""), "[1, 2]");
        assert_eq!(check("[1, 2]", "[1]"), "2");
        assert_eq!(check("([1, { b = [3] }])", "[1].b[0]"), "3");
        assert_eq!(check("{ a = 1, a = 2, \"a.b\" = 3 }", ".a"), "2");
        assert_eq!(check("{ a = 1, \"a.b\" = 3 }", ".a.b"), "3");
        assert_eq!(check("[f(1), g(2)]", "[1][0]"), "g(2)");
        assert_eq!(check("concat([1], [2])", "[1]"), "concat([1], [2])");
        assert_eq!(check("[1]", "[7]"), "[1]");
    }
}
