//! Blocks of targets and groups: matrices are expanded to final names, attributes evaluated on demand.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use indexmap::IndexMap;

use crate::{
    definition::{
        attribute,
        syntax::{AttributeSyntax, Block, Expr, ExprKind},
    },
    eval::{
        expression::{
            expr::{EvalResult, article},
            scope::{Env, Scope, ScopeFrame, ScopeNode, ScopeState, ScopeValue, is_local},
        },
        fault::Fail,
        value::types::Value,
    },
    report::{Diagnostic, Span, Spanned, suggest},
};

/// One target or group after matrix expansion: its block, and the values of its matrix if it has one.
pub(crate) struct ExpandedBlock<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) block: &'a Block,
    /// Axis and value, in the order of the axes.
    pub(crate) bindings: Vec<(Arc<str>, Value)>,
    /// Position among all blocks.
    pub(crate) ix: usize,
    /// One for each attribute of the block.
    states: RefCell<Box<[ScopeState]>>,
}

/// All blocks of a definition with their final names, matrices expanded.
#[derive(Default)]
pub(crate) struct Expansion<'a> {
    pub(crate) blocks: Vec<ExpandedBlock<'a>>,
    /// The groups that matrices make, by the label of their blocks: the first block, and the members.
    pub(crate) groups: IndexMap<Arc<str>, (&'a Block, Vec<Arc<str>>)>,
    targets: HashMap<Arc<str>, Vec<usize>>,
    group_blocks: HashMap<Arc<str>, Vec<usize>>,
    /// Labels of blocks whose matrix has an error: references to them are not reported as unknown.
    broken: Vec<Arc<str>>,
}

impl Expansion<'_> {
    /// Whether a block could not be expanded.
    pub(in crate::eval) fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }
}

impl ExpandedBlock<'_> {
    /// Whether the block is a target, not a group.
    pub(crate) fn is_target(&self) -> bool {
        &*self.block.kind.value == "target"
    }
}

/// The most targets of one matrix.
const MAX_COMBINATIONS: usize = 100_000;

type Combination = Vec<(Arc<str>, Value)>;

impl<'a> Scope<'a> {
    /// Expands the matrices of all blocks, at the first call.
    pub(crate) fn expansion(&self) -> &Expansion<'a> {
        self.expansion.get_or_init(|| {
            self.is_expanding.set(true);
            let mut expansion = Expansion::default();
            expansion.blocks.reserve(self.blocks.len());
            let at = self.blocks.first().map(|block| block.at);
            let fill =
                |expansion: &mut Expansion<'a>| self.blocks.iter().for_each(|block| self.expand(block, expansion));
            if let Some(at) = at {
                self.within(ScopeNode::Blocks, at, || fill(&mut expansion));
            }
            for expanded in &expansion.blocks {
                let index = if expanded.is_target() { &mut expansion.targets } else { &mut expansion.group_blocks };
                index.entry(expanded.name.clone()).or_default().push(expanded.ix);
            }
            // A block of a matrix's label that keeps the label as its name is one more member; but the matrix replaces
            // what a Compose file builds under that name.
            let Expansion { blocks, targets, groups, .. } = &mut expansion;
            for (label, (_, members)) in groups.iter_mut().filter(|(label, (_, members))| !members.contains(label)) {
                let mut same_name = targets.get(label).into_iter().flatten();
                let label_of = |block: &Block| self.namespace(block.at).full_name(&block.labels[0].value);
                let is_member = |block| label_of(block) == *label && !self.is_of_compose(block);
                if let Some(ix) = same_name.find(|ix| is_member(blocks[**ix].block)) {
                    let is_before = |member| targets.get(member).is_some_and(|all: &Vec<usize>| all[0] < *ix);
                    members.insert(members.iter().take_while(|member| is_before(*member)).count(), label.clone());
                }
            }
            self.is_expanding.set(false);
            expansion
        })
    }

    /// The groups that matrices make: one of the name of each block with a matrix.
    pub(crate) fn matrix_groups(&self) -> &IndexMap<Arc<str>, (&'a Block, Vec<Arc<str>>)> {
        &self.expansion().groups
    }

    fn expand(&self, block: &'a Block, expansion: &mut Expansion<'a>) {
        let namespace = self.namespace(block.at);
        let label = namespace.full_name(&block.labels[0].value);
        let push = |expansion: &mut Expansion<'a>, name: Arc<str>, bindings| {
            let ix = expansion.blocks.len();
            let states = vec![ScopeState::New; block.body.attributes.len()].into_boxed_slice();
            expansion.blocks.push(ExpandedBlock { name, block, bindings, ix, states: RefCell::new(states) });
        };
        if &*block.kind.value == "group" {
            return push(expansion, label, Vec::new());
        }
        let Some(matrix) = block.body.attribute("matrix") else {
            if let Some(name) = block.body.attribute("name") {
                self.record_fault(
                    Some(label.clone()),
                    Diagnostic::error("bake::eval::name_without_matrix", "`name` has a meaning only with `matrix`")
                        .at(block.at, "this target has no matrix")
                        .at(name.name.at, "no other name than the label")
                        .help("add `matrix = { … }`, or remove `name`"),
                );
                expansion.broken.push(label);
                return;
            }
            return push(expansion, label, Vec::new());
        };
        match self.combinations(block, matrix) {
            Ok(names) => {
                let names: Vec<_> =
                    names.into_iter().map(|(name, bindings)| (namespace.full_name(&name), bindings)).collect();
                let members: Vec<Arc<str>> = names.iter().map(|(name, _)| name.clone()).collect();
                if members.len() != 1 || members[0] != label {
                    let group = expansion.groups.entry(label).or_insert_with(|| (block, Vec::new()));
                    group.1.extend(members);
                }
                for (name, bindings) in names {
                    push(expansion, name, bindings);
                }
            }
            Err(fail) => {
                self.faults.record(&Some(label.clone()), fail);
                expansion.broken.push(label);
            }
        }
    }

    /// The final name of each combination.
    fn combinations(&self, block: &'a Block, matrix: &'a AttributeSyntax) -> EvalResult<Vec<(Arc<str>, Combination)>> {
        let label = &block.labels[0];
        let axes = self.axes(matrix)?;
        let mut combinations: Vec<Combination> = vec![Vec::new()];
        for (axis, values) in &axes {
            if combinations.len().saturating_mul(values.len()) > MAX_COMBINATIONS {
                return Err(Fail::of(
                    Diagnostic::error(
                        "bake::eval::matrix_too_large",
                        format!("a matrix makes more than {MAX_COMBINATIONS} targets"),
                    )
                    .at(matrix.expr.at, "too many combinations"),
                ));
            }
            combinations = combinations
                .iter()
                .flat_map(|so_far| {
                    values.iter().map(move |value| {
                        let mut next = so_far.clone();
                        next.push((axis.clone(), value.clone()));
                        next
                    })
                })
                .collect();
        }
        let name = block.body.attribute("name");
        let mut names: Vec<(Arc<str>, Combination)> = Vec::with_capacity(combinations.len());
        let mut first: HashMap<Arc<str>, usize> = HashMap::new();
        for (i, bindings) in combinations.into_iter().enumerate() {
            let (text, at) = match name {
                None => (label.value.clone(), matrix.name.at),
                Some(name) => (self.matrix_name(name, &bindings)?, name.expr.at),
            };
            if !is_valid_name(&text) {
                return Err(Fail::of(
                    Diagnostic::error("bake::eval::bad_name", format!("not a name for a target: {text}"))
                        .at(block.at, "a target of this matrix")
                        .at(at, format!("for {}", show(&bindings)))
                        .help("names have letters, digits, `_` and `-`; `sanitize(x)` replaces the rest"),
                ));
            }
            if let Some(before) = first.insert(text.clone(), i) {
                let help = match name {
                    None => "add `name = \"…\"` that uses the axes of the matrix".to_owned(),
                    Some(_) => "use every axis of the matrix in `name`".to_owned(),
                };
                return Err(Fail::of(
                    Diagnostic::error(
                        "bake::eval::repeated_name",
                        format!("two combinations of the matrix have the name `{text}`"),
                    )
                    .at(block.at, "in this matrix")
                    .at(at, format!("the same for {} and {}", show(&names[before].1), show(&bindings)))
                    .help(help),
                ));
            }
            names.push((text, bindings));
        }
        Ok(names)
    }

    fn matrix_name(&self, name: &'a AttributeSyntax, bindings: &Combination) -> EvalResult<Arc<str>> {
        let frame = ScopeFrame { names: bindings, parent: None };
        let value = self.eval(&name.expr, Env { frame: Some(&frame), references: false })?;
        value.to_text().ok_or_else(|| {
            Fail::of(
                Diagnostic::error(
                    "bake::eval::bad_name",
                    format!("`name` must be a string, not {}", article(&value.kind())),
                )
                .at(name.expr.at, format!("this is {}", article(&value.kind()))),
            )
        })
    }

    /// Axes in the order in which they are written, each with its values.
    fn axes(&self, matrix: &'a AttributeSyntax) -> EvalResult<Vec<(Arc<str>, Vec<Value>)>> {
        let env = Env::PLAIN;
        let value = self.eval(&matrix.expr, env)?;
        let Some(entries) = value.entries() else {
            return Err(Fail::of(
                Diagnostic::error(
                    "bake::eval::bad_matrix",
                    format!("`matrix` must be a map of lists, not {}", article(&value.kind())),
                )
                .at(matrix.expr.at, format!("this is {}", article(&value.kind())))
                .help("write `matrix = { axis = [value, …] }`"),
            ));
        };
        let written = written_keys(&matrix.expr);
        let mut axes: Vec<(Arc<str>, Vec<Value>)> = Vec::with_capacity(entries.len());
        let mut names: Vec<&Arc<str>> = entries.keys().collect();
        let position = |name: &Arc<str>| written.iter().position(|(it, _)| *it == name).unwrap_or(usize::MAX);
        names.sort_by_key(|name| position(name));
        for name in names {
            let axis = &entries[name];
            let values = match axis.items() {
                Some(items) => items.to_vec(),
                None => match axis.entries() {
                    Some(entries) => entries.values().cloned().collect(),
                    None => {
                        let at = written.iter().find(|(it, _)| *it == name).map_or(matrix.expr.at, |(_, at)| *at);
                        return Err(Fail::of(
                            Diagnostic::error(
                                "bake::eval::bad_matrix",
                                format!("axis `{name}` of the matrix must be a list, not {}", article(&axis.kind())),
                            )
                            .at(at, format!("this is {}", article(&axis.kind())))
                            .help(format!("write `{name} = [value, …]`")),
                        ));
                    }
                },
            };
            axes.push((name.clone(), values));
        }
        Ok(axes)
    }

    /// Evaluates an attribute of a block; `None` when it is not set. Errors are recorded under the name of the target.
    pub(crate) fn attribute(
        &self,
        expanded: &ExpandedBlock<'a>,
        name: &str,
    ) -> std::result::Result<Option<ScopeValue<'a>>, ()> {
        let body = &expanded.block.body;
        let Some(position) = body.attributes.iter().position(|it| &*it.name.value == name) else {
            return Ok(None);
        };
        let attribute = &body.attributes[position];
        let value = self.block_value(expanded, position, attribute.name.at).map_err(|_| ())?;
        Ok(Some(ScopeValue { value, at: attribute.expr.at, expr: &attribute.expr }))
    }

    fn block_value(&self, expanded: &ExpandedBlock<'a>, position: usize, from: Span) -> EvalResult<Value> {
        let node = ScopeNode::Attribute(expanded.ix, position);
        match &expanded.states.borrow()[position] {
            ScopeState::New => (),
            ScopeState::Busy => return Err(self.cycle(node, from)),
            ScopeState::Done(value) => return Ok(value.clone()),
            ScopeState::Failed(owner) => return Err(Fail::Recorded(owner.clone())),
        }
        expanded.states.borrow_mut()[position] = ScopeState::Busy;
        let frame = ScopeFrame { names: &expanded.bindings, parent: None };
        let frame = if expanded.bindings.is_empty() { None } else { Some(&frame) };
        let expr = &expanded.block.body.attributes[position].expr;
        let value = self.within(node, from, || self.eval(expr, Env { frame, references: true }));
        let (state, value) = self.record_outcome(Some(expanded.name.clone()), value);
        expanded.states.borrow_mut()[position] = state;
        value
    }

    /// `target.NAME.ATTRIBUTE`, if this is one.
    pub(in crate::eval) fn block_reference(
        &self,
        whole: &'a Expr,
        source: &'a Expr,
        attribute: &Spanned<Arc<str>>,
        env: Env<'_>,
    ) -> Option<EvalResult<Value>> {
        let root = |expr: &Expr| match &expr.kind {
            ExprKind::Variable(name) if &**name == "target" => Some("target"),
            ExprKind::Variable(name) if &**name == "group" => Some("group"),
            _ => None,
        };
        if let Some(kind) = root(source).filter(|kind| !is_local(env, kind)) {
            return Some(Err(Fail::of(
                Diagnostic::error(
                    "bake::eval::bare_reference",
                    format!("`{kind}.{}` alone has no value", attribute.value),
                )
                .at(whole.at, "an attribute must follow")
                .help(format!("write `{kind}.{}.ATTRIBUTE`", attribute.value)),
            )));
        }
        let ExprKind::Member { source: root_expr, name } = &source.kind else { return None };
        let kind = root(root_expr).filter(|kind| !is_local(env, kind))?;
        if !env.references {
            return Some(Err(Fail::of(
                Diagnostic::error(
                    "bake::eval::no_references",
                    format!("`{kind}.{}.{}` cannot be used here", name.value, attribute.value),
                )
                .at(whole.at, "targets are not known yet when this is evaluated")
                .help("variables, functions, `matrix` and `name` cannot refer to targets"),
            )));
        }
        Some(self.reference(kind, name, attribute))
    }

    fn reference(
        &self,
        kind: &'static str,
        name: &Spanned<Arc<str>>,
        attribute: &Spanned<Arc<str>>,
    ) -> EvalResult<Value> {
        // A matrix or `name` that refers to blocks would depend on its own expansion.
        if self.is_expanding.get() {
            return Err(self.cycle(ScopeNode::Blocks, name.at));
        }
        let expansion = self.expansion();
        let index = if kind == "target" { &expansion.targets } else { &expansion.group_blocks };
        let full_name = self.namespace(name.at).full_name(&name.value);
        let Some(blocks) = index.get(&full_name) else {
            // The name may be one that a matrix with an error would have made.
            if let Some(broken) = expansion.broken.first() {
                return Err(Fail::Recorded(Some(broken.clone())));
            }
            return Err(Fail::of(self.unknown_block(kind, name)));
        };
        let mut values = Vec::with_capacity(blocks.len());
        for ix in blocks {
            let expanded = &expansion.blocks[*ix];
            let own = &expanded.block.body.attributes;
            if let Some(position) = own.iter().position(|it| it.name.value == attribute.value) {
                values.push(self.block_value(expanded, position, attribute.at)?);
            }
        }
        own_value(kind, name, attribute, &values)
    }

    fn unknown_block(&self, kind: &str, name: &Spanned<Arc<str>>) -> Diagnostic {
        let expansion = self.expansion();
        let namespace = self.namespace(name.at);
        let fault = Diagnostic::error("bake::eval::unknown_block", format!("no {kind} is called `{}`", name.value))
            .at(name.at, format!("not a {kind}"));
        if let Some((_, members)) = expansion.groups.get(&namespace.full_name(&name.value)) {
            let shown: Vec<&str> = members.iter().take(8).map(|it| &**it).collect();
            return fault.help(format!("`{}` is a matrix; its targets are {}", name.value, shown.join(", ")));
        }
        if expansion.blocks.iter().any(|it| it.name == name.value) {
            let (other, attribute) = if kind == "target" { ("group", "targets") } else { ("target", "ATTRIBUTE") };
            return fault.help(format!("`{0}` is a {other}: write `{other}.{0}.{attribute}`", name.value));
        }
        // In the order of the files.
        let blocks = expansion.blocks.iter().filter(|it| it.is_target() == (kind == "target"));
        let names = blocks.filter_map(|it| it.name.strip_prefix(&*namespace.prefix));
        match suggest::did_you_mean(&name.value, names.clone()) {
            Some(help) => fault.help(help),
            None => {
                let shown: Vec<&str> = names.take(8).collect();
                match shown.len() {
                    0 => fault.help(format!("define it: {kind} \"{}\" {{ … }}", name.value)),
                    _ => fault.help(format!("there are {}", shown.join(", "))),
                }
            }
        }
    }
}

/// The value of an attribute as other blocks see it: the block's own, not what it inherits.
fn own_value(
    kind: &str,
    name: &Spanned<Arc<str>>,
    attribute: &Spanned<Arc<str>>,
    values: &[Value],
) -> EvalResult<Value> {
    let unknown = |message: String, known: &[&str]| {
        let fault = Diagnostic::error("bake::eval::bad_reference", message).at(attribute.at, "referred to here");
        Fail::of(match suggest::did_you_mean(&attribute.value, known.iter().copied()) {
            Some(help) => fault.help(help),
            None => fault,
        })
    };
    match (kind, &*attribute.value) {
        (_, "name") => Ok(Value::String(name.value.clone())),
        ("group", "targets") => Ok(values.last().cloned().unwrap_or(Value::NULL)),
        ("group", "description") => Ok(values.last().cloned().unwrap_or_else(|| Value::string(""))),
        ("group", other) => {
            Err(unknown(format!("a group has no attribute `{other}`"), &["targets", "description", "name"]))
        }
        (_, other) => super::typed::reference_value(other, values).map_err(|message| {
            let known: Vec<&str> = attribute::TARGET.iter().map(|row| row.name).collect();
            unknown(message, &known)
        }),
    }
}

/// The keys of an object as they are written, with their places.
fn written_keys(expr: &Expr) -> Vec<(&Arc<str>, Span)> {
    match &expr.kind {
        ExprKind::Parens(inner) => written_keys(inner),
        ExprKind::Object(items) => items
            .iter()
            .filter_map(|(key, value)| match &key.kind {
                ExprKind::String(name) => Some((name, value.at)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn show(bindings: &Combination) -> String {
    let shown = |value: &Value| value.to_text().map_or_else(|| value.to_json_text(false), |text| text.to_string());
    let parts: Vec<String> = bindings.iter().map(|(axis, value)| format!("{axis}={}", shown(value))).collect();
    if parts.is_empty() { "no axis".to_owned() } else { parts.join(" ") }
}

/// Whether a text is a name of a target: letters, digits, `_` and `-`; at least one.
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}
