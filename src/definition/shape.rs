//! A body as a flat list of words without places: two texts with the same meaning have the same shape. Also records
//! where strings lie in the text.
//!
//! The formatter compares the shapes before and after; evaluation does not use them.

use std::{collections::HashMap, fmt::Write as _};

use super::syntax::{Body, Expr, ExprKind, TemplatePart, TraversalStep};
use crate::report::Span;

/// The shape of a body, and the spans of its strings.
#[derive(Debug, Default)]
pub(super) struct DefinitionShape {
    /// Every node in order: what it is, and the length and text of its names and values.
    pub(super) words: String,
    /// Start ─► end of every string, heredoc and label, and of keys that are bare words.
    pub(super) strings: HashMap<usize, usize>,
}

impl DefinitionShape {
    /// The shape of a body.
    pub(super) fn of(body: &Body) -> Self {
        let mut shape = Self::default();
        shape.body(body);
        shape
    }

    fn word(&mut self, what: &str, text: &str) {
        self.words.push_str(what);
        let written = write!(self.words, "({}:{text})", text.len());
        written.expect("a string can be written to");
    }

    /// How many nodes follow.
    fn count(&mut self, what: &str, n: usize) {
        self.word(what, &n.to_string());
    }

    fn string(&mut self, at: Span) {
        self.strings.insert(at.start as usize, at.end as usize);
    }

    fn body(&mut self, body: &Body) {
        self.count("attributes", body.attributes.len());
        for attribute in &body.attributes {
            self.word("attribute", &attribute.name.value);
            self.expr(&attribute.expr);
        }
        self.count("blocks", body.blocks.len());
        for block in &body.blocks {
            self.word("block", &block.kind.value);
            self.count("labels", block.labels.len());
            for label in &block.labels {
                self.string(label.at);
                self.word("label", &label.value);
            }
            self.body(&block.body);
        }
    }

    fn exprs<'e>(&mut self, what: &str, exprs: impl ExactSizeIterator<Item = &'e Expr>) {
        self.count(what, exprs.len());
        exprs.for_each(|it| self.expr(it));
    }

    fn maybe(&mut self, what: &str, expr: Option<&Expr>) {
        self.exprs(what, expr.into_iter());
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Null => self.word("null", ""),
            ExprKind::Bool(value) => self.word("bool", if *value { "true" } else { "false" }),
            ExprKind::Number(text) => self.word("number", text),
            ExprKind::String(text) => {
                self.string(expr.at);
                self.word("string", text);
            }
            ExprKind::Template(parts) => {
                self.string(expr.at);
                self.parts(parts);
            }
            ExprKind::Variable(name) => self.word("variable", name),
            ExprKind::Member { source, name } => {
                self.word("member", &name.value);
                self.expr(source);
            }
            ExprKind::Index { source, index } => {
                self.word("index", "");
                self.expr(source);
                self.expr(index);
            }
            ExprKind::Splat(splat) => {
                self.count("splat", splat.steps.len());
                self.expr(&splat.source);
                self.steps(&splat.steps);
            }
            ExprKind::Call(call) => {
                self.word(if call.expand_last { "call..." } else { "call" }, &call.name.value);
                self.exprs("arguments", call.args.iter());
            }
            ExprKind::Unary { op, operand } => {
                self.word("unary", &format!("{op:?}"));
                self.expr(operand);
            }
            ExprKind::Chain(chain) => {
                self.count("chain", chain.rest.len());
                self.expr(&chain.first);
                for (op, operand) in &chain.rest {
                    self.word("operator", op.value.text());
                    self.expr(operand);
                }
            }
            ExprKind::Conditional(it) => self.exprs("if", [&it.condition, &it.then, &it.otherwise].into_iter()),
            ExprKind::Tuple(items) => self.exprs("tuple", items.iter()),
            ExprKind::Object(pairs) => {
                self.count("object", pairs.len());
                for (key, value) in pairs {
                    self.expr(key);
                    self.expr(value);
                }
            }
            ExprKind::For(it) => {
                self.word(if it.group { "for..." } else { "for" }, &it.value);
                self.word("key", it.key.as_deref().unwrap_or(""));
                self.expr(&it.collection);
                self.maybe("result key", it.result_key.as_ref());
                self.expr(&it.result);
                self.maybe("condition", it.condition.as_ref());
            }
            ExprKind::Parens(inner) => self.maybe("parens", Some(inner)),
        }
    }

    fn steps(&mut self, steps: &[TraversalStep]) {
        for step in steps {
            match step {
                TraversalStep::Member(name) => self.word("step", &name.value),
                TraversalStep::Index(index) => self.maybe("step", Some(index)),
                TraversalStep::Splat(inner) => {
                    self.count("splat", inner.len());
                    self.steps(inner);
                }
            }
        }
    }

    fn parts(&mut self, parts: &[TemplatePart]) {
        self.count("template", parts.len());
        for part in parts {
            match part {
                TemplatePart::Text(text) => self.word("text", text),
                TemplatePart::Interpolation(expr) => self.maybe("interpolation", Some(expr)),
                TemplatePart::If(it) => {
                    self.maybe("if", Some(&it.condition));
                    self.parts(&it.then);
                    self.parts(&it.otherwise);
                }
                TemplatePart::For(it) => {
                    self.word("for", &it.value);
                    self.word("key", it.key.as_deref().unwrap_or(""));
                    self.expr(&it.collection);
                    self.parts(&it.body);
                }
            }
        }
    }
}
