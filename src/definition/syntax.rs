//! The syntax of a bake file: blocks, attributes, expressions, each with its place. HCL, JSON and YAML all become this.
//!
//! Nothing is evaluated here, and comments are not kept.

use std::sync::Arc;

use crate::report::{Span, Spanned};

/// A file, or what stands between the braces of a block, in the order in which it was written.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) attributes: Vec<AttributeSyntax>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) at: Span,
}

/// `name = expr`.
#[derive(Clone, Debug)]
pub(crate) struct AttributeSyntax {
    pub(crate) name: Spanned<Arc<str>>,
    pub(crate) expr: Expr,
}

/// `kind "label" { … }`. `at` is the head of the block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) kind: Spanned<Arc<str>>,
    pub(crate) labels: Vec<Spanned<Arc<str>>>,
    pub(crate) body: Body,
    pub(crate) at: Span,
}

/// An expression and its place.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) at: Span,
}

/// The kind of an expression. Kept small, because a definition holds many: whatever is larger than a `Vec` is boxed.
///
/// *Invariant:* nested less deep than [`MAX_DEPTH`]; chains of operators of one level are flat.
#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    Null,
    Bool(bool),
    /// As written; decimal, with optional fraction and exponent.
    Number(Arc<str>),
    /// A string without interpolation, escapes resolved.
    String(Arc<str>),
    /// A template with interpolations. A template that is one lone interpolation has the type of its value.
    Template(Vec<TemplatePart>),
    Variable(Arc<str>),
    /// `source.name`.
    Member {
        source: Box<Expr>,
        name: Box<Spanned<Arc<str>>>,
    },
    /// `source[index]`, and `source.0`.
    Index {
        source: Box<Expr>,
        index: Box<Expr>,
    },
    Splat(Box<Splat>),
    Call(Box<CallSyntax>),
    Unary {
        op: UnaryOp,
        operand: Box<Expr>,
    },
    Chain(Box<Chain>),
    Conditional(Box<Conditional>),
    Tuple(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    For(Box<For>),
    Parens(Box<Expr>),
}

/// The deepest nesting that is accepted; deeper input is refused.
pub(crate) const MAX_DEPTH: usize = 1000;

/// `source[*].a[0]`: the steps are taken from each element.
#[derive(Clone, Debug)]
pub(crate) struct Splat {
    pub(crate) source: Expr,
    pub(crate) steps: Vec<TraversalStep>,
}

/// `name(args)`, `name(args...)`.
#[derive(Clone, Debug)]
pub(crate) struct CallSyntax {
    pub(crate) name: Spanned<Arc<str>>,
    pub(crate) args: Vec<Expr>,
    pub(crate) expand_last: bool,
}

/// `first op1 a op2 b …`, left to right, operators of one precedence.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) first: Expr,
    pub(crate) rest: Vec<(Spanned<BinaryOp>, Expr)>,
}

/// `condition ? then : otherwise`.
#[derive(Clone, Debug)]
pub(crate) struct Conditional {
    pub(crate) condition: Expr,
    pub(crate) then: Expr,
    pub(crate) otherwise: Expr,
}

/// The most expressions in one file; more would take gigabytes of memory.
pub(crate) const MAX_NODES: usize = 8_000_000;

/// One step after a splat, applied to each element.
#[derive(Clone, Debug)]
pub(crate) enum TraversalStep {
    Member(Spanned<Arc<str>>),
    Index(Expr),
    /// `[*]` after a `[*]`: a splat of each element, so `l[*].a[*]` is a list of lists.
    Splat(Vec<Self>),
}

/// The operators with one operand, `!` and `-`
/// (<https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#operations>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnaryOp {
    Not,
    Negate,
}

/// The operators with two operands, logical, comparing and arithmetic
/// (<https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#operations>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl BinaryOp {
    /// As written.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// `[for key, value in collection : result if condition]`, or `{for … : key => value...}`.
#[derive(Clone, Debug)]
pub(crate) struct For {
    pub(crate) key: Option<Arc<str>>,
    pub(crate) value: Arc<str>,
    pub(crate) collection: Expr,
    /// With a key the result is an object.
    pub(crate) result_key: Option<Expr>,
    pub(crate) result: Expr,
    pub(crate) condition: Option<Expr>,
    /// `...`: values of equal keys are collected.
    pub(crate) group: bool,
}

/// One part of a template; strip markers and heredoc indentation are applied already.
#[derive(Clone, Debug)]
pub(crate) enum TemplatePart {
    Text(Arc<str>),
    Interpolation(Expr),
    If(Box<TemplateIf>),
    For(Box<TemplateFor>),
}

/// `%{ if condition }…%{ else }…%{ endif }` in a template; without `else`, `otherwise` is empty.
#[derive(Clone, Debug)]
pub(crate) struct TemplateIf {
    pub(crate) condition: Expr,
    pub(crate) then: Vec<TemplatePart>,
    pub(crate) otherwise: Vec<TemplatePart>,
}

/// `%{ for key, value in collection }…%{ endfor }` in a template; the key is optional (HCL native syntax, template
/// directives: <https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#templates>).
#[derive(Clone, Debug)]
pub(crate) struct TemplateFor {
    pub(crate) key: Option<Arc<str>>,
    pub(crate) value: Arc<str>,
    pub(crate) collection: Expr,
    pub(crate) body: Vec<TemplatePart>,
}

impl Body {
    /// The attribute of a name.
    pub(crate) fn attribute(&self, name: &str) -> Option<&AttributeSyntax> {
        self.attributes.iter().find(|attribute| &*attribute.name.value == name)
    }
}

impl Expr {
    /// An expression that stands at `at`.
    pub(crate) const fn new(kind: ExprKind, at: Span) -> Self {
        Self { kind, at }
    }

    /// A string that is not a template, whatever it holds.
    pub(crate) fn text(text: impl Into<Arc<str>>, at: Span) -> Self {
        Self { kind: ExprKind::String(text.into()), at }
    }
}
