//! Names and what they mean: variables, global attributes, functions, blocks. Each is evaluated when first asked for,
//! once, and remembered; what asks for itself on the way is a cycle, told with every step.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, HashSet},
    sync::Arc,
};

use indexmap::IndexMap;

use super::{
    block::{Expanded, Expansion},
    call::UserFunction,
    expr::Result,
    function::World,
    input::Input,
    value::Value,
    variable::VariableBlock,
};
use crate::{
    definition::syntax::{Attribute, Block, Body, Expr, ExprKind},
    report::{Diagnostic, Span, Spanned, suggest},
};

/// Why there is no value.
#[derive(Clone, Debug)]
pub(crate) enum Fail {
    Fault(Box<Diagnostic>),
    /// The fault is of something that this refers to, and has been told there.
    Told,
}

impl Fail {
    pub(super) fn of(diagnostic: Diagnostic) -> Self {
        Self::Fault(Box::new(diagnostic))
    }

    /// Adds the call through which the fault was reached.
    pub(super) fn seen_from(self, name: &Spanned<Arc<str>>, at: Span) -> Self {
        match self {
            Self::Fault(mut fault) => {
                const MAX_LABELS: usize = 6;
                if fault.labels.len() < MAX_LABELS {
                    *fault = fault.at(at, format!("in this call of `{}`", name.value));
                }
                Self::Fault(fault)
            }
            Self::Told => Self::Told,
        }
    }
}

/// Names that are visible in an expression only: parameters, variables of a `for`, axes of a matrix.
pub(super) struct Frame<'f> {
    pub(super) names: &'f [(Arc<str>, Value)],
    pub(super) parent: Option<&'f Frame<'f>>,
}

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Env<'a, 'f> {
    pub(super) frame: Option<&'f Frame<'f>>,
    /// Whether `target.x.y` means something here.
    pub(super) references: bool,
    /// The target whose attribute this is, for faults.
    pub(super) owner: Option<&'a str>,
}

/// Something that is being evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Variable(Arc<str>),
    Function(Arc<str>),
    /// Kind, name, attribute of a block.
    Reference(&'static str, Arc<str>, Arc<str>),
    /// The expansion of all blocks.
    Blocks,
}

impl Node {
    fn text(&self) -> String {
        match self {
            Self::Variable(name) => format!("`{name}`"),
            Self::Function(name) => format!("`{name}()`"),
            Self::Reference(kind, name, attribute) => format!("`{kind}.{name}.{attribute}`"),
            Self::Blocks => "the names of the blocks".to_owned(),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Evaluated<'a> {
    pub(crate) value: Value,
    /// The expression.
    pub(crate) at: Span,
    pub(crate) name_at: Span,
    pub(crate) expr: &'a Expr,
}

/// A fault, and the target it belongs to; none for what concerns all.
#[derive(Clone, Debug)]
pub(crate) struct OwnedFault {
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) diagnostic: Diagnostic,
}

/// All names of a definition.
pub(crate) struct Scope<'a> {
    pub(super) input: &'a Input,
    pub(super) world: World,
    pub(super) local_platform: String,
    pub(super) variables: IndexMap<Arc<str>, VariableBlock<'a>>,
    pub(super) functions: IndexMap<Arc<str>, std::result::Result<UserFunction<'a>, ()>>,
    attributes: IndexMap<Arc<str>, &'a Attribute>,
    /// Blocks of targets and groups, in the order of the files.
    pub(super) blocks: Vec<&'a Block>,
    pub(super) expansion: OnceCell<Expansion<'a>>,
    values: RefCell<HashMap<Arc<str>, std::result::Result<Value, ()>>>,
    pub(super) block_values: RefCell<HashMap<(usize, usize), std::result::Result<Value, ()>>>,
    pub(super) depth: Cell<u32>,
    stack: RefCell<Vec<(Node, Span)>>,
    busy: RefCell<HashSet<Node>>,
    quiet: Cell<u32>,
    faults: RefCell<Vec<OwnedFault>>,
    told: RefCell<HashSet<(&'static str, Option<Span>)>>,
}

/// Takes its node off the stack when dropped.
pub(super) struct Busy<'s, 'a> {
    scope: &'s Scope<'a>,
    node: Node,
}

impl Drop for Busy<'_, '_> {
    fn drop(&mut self) {
        self.scope.stack.borrow_mut().pop();
        self.scope.busy.borrow_mut().remove(&self.node);
    }
}

/// Names that no variable, function or attribute may take.
const RESERVED: &[&str] = &["target", "group", "BAKE_CMD_CONTEXT", "BAKE_LOCAL_PLATFORM"];

impl<'a> Scope<'a> {
    /// The names of `bodies`, in the order of the files; of blocks of one name the last counts, except for targets.
    pub(crate) fn new(bodies: &[&'a Body], input: &'a Input, local_platform: &str) -> Self {
        let mut scope = Self {
            input,
            world: World::new(input.now, input.random, input.home.clone()),
            local_platform: local_platform.to_owned(),
            variables: IndexMap::new(),
            functions: IndexMap::new(),
            attributes: IndexMap::new(),
            blocks: Vec::new(),
            expansion: OnceCell::new(),
            values: RefCell::default(),
            block_values: RefCell::default(),
            depth: Cell::new(0),
            stack: RefCell::default(),
            busy: RefCell::default(),
            quiet: Cell::new(0),
            faults: RefCell::default(),
            told: RefCell::default(),
        };
        for body in bodies {
            scope.collect(body);
        }
        scope
    }

    fn collect(&mut self, body: &'a Body) {
        for attribute in &body.attributes {
            if !RESERVED.contains(&&*attribute.name.value) {
                self.attributes.insert(attribute.name.value.clone(), attribute);
            }
        }
        for block in &body.blocks {
            let known = matches!(&*block.kind.value, "target" | "group" | "variable" | "function");
            if !known {
                continue;
            }
            let [label] = block.labels.as_slice() else {
                self.tell(None, bad_labels(block));
                continue;
            };
            let reserved = RESERVED.contains(&&*label.value);
            match &*block.kind.value {
                "variable" if !reserved => {
                    self.variables.insert(label.value.clone(), VariableBlock::new(block));
                }
                "function" if !reserved => {
                    let function = self.user_function(block);
                    self.functions.insert(label.value.clone(), function);
                }
                "target" | "group" => self.blocks.push(block),
                _ => (),
            }
        }
    }

    fn user_function(&self, block: &'a Block) -> std::result::Result<UserFunction<'a>, ()> {
        let missing = |name: &str| {
            let label = &block.labels[0].value;
            self.tell(
                None,
                Diagnostic::error("bake::eval::missing_attribute", format!("function `{label}` has no `{name}`"))
                    .at(block.at, format!("`{name}` is missing"))
                    .help(format!("a function has `params = [a, b]` and `result = …`; write `{name}`")),
            );
        };
        let word = |expr: &'a Expr| match &expr.kind {
            ExprKind::Variable(name) => Some(name.clone()),
            ExprKind::String(name) if !name.is_empty() => Some(name.clone()),
            _ => {
                self.tell(
                    None,
                    Diagnostic::error("bake::eval::bad_parameter", "a parameter is a plain name")
                        .at(expr.at, "not a name"),
                );
                None
            }
        };
        let params = match block.body.attribute("params").map(|it| &it.expr) {
            Some(Expr { kind: ExprKind::Tuple(items), .. }) => items.iter().map(word).collect::<Option<Vec<_>>>(),
            Some(other) => {
                self.tell(
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
            Some(attribute) => Some(word(&attribute.expr).ok_or(())?),
            None => None,
        };
        Ok(UserFunction { params: params.ok_or(())?, variadic, result: result.ok_or(())?, at: block.at })
    }

    // ── faults ──

    /// Notes a fault, once for each place.
    pub(super) fn tell(&self, owner: Option<&str>, diagnostic: Diagnostic) {
        let key = (diagnostic.code, diagnostic.labels.first().map(|label| label.at));
        if key.1.is_none() || self.told.borrow_mut().insert(key) {
            self.faults.borrow_mut().push(OwnedFault { owner: owner.map(Arc::from), diagnostic });
        }
    }

    /// The faults so far; they are given out once.
    pub(crate) fn take_faults(&self) -> Vec<OwnedFault> {
        self.faults.take()
    }

    /// Evaluates what may fail without being told: `try`, `can`, the arm that was not chosen.
    pub(super) fn quietly<T>(&self, inner: impl FnOnce() -> T) -> T {
        self.quiet.set(self.quiet.get() + 1);
        let result = inner();
        self.quiet.set(self.quiet.get() - 1);
        result
    }

    // ── cycles ──

    /// Marks a node as being evaluated.
    pub(super) fn enter(&self, node: Node, at: Span) -> Result<Busy<'_, 'a>> {
        if self.busy.borrow().contains(&node) {
            return Err(Fail::of(self.cycle(&node, at)));
        }
        self.stack.borrow_mut().push((node.clone(), at));
        self.busy.borrow_mut().insert(node.clone());
        Ok(Busy { scope: self, node })
    }

    fn cycle(&self, node: &Node, at: Span) -> Diagnostic {
        let stack = self.stack.borrow();
        let from = stack.iter().position(|(it, _)| it == node).unwrap_or(0);
        let steps = &stack[from..];
        let mut names: Vec<String> = steps.iter().map(|(it, _)| it.text()).collect();
        names.push(node.text());
        const SHOWN: usize = 12;
        if names.len() > SHOWN {
            let hidden = names.len() - SHOWN;
            names.splice(SHOWN - 1..names.len() - 1, [format!("… {hidden} more …")]);
        }
        let only_functions = steps.iter().all(|(it, _)| matches!(it, Node::Function(_)));
        let (code, message) = if only_functions {
            ("bake::eval::recursion", "a function calls itself")
        } else {
            ("bake::eval::cycle", "a value depends on itself")
        };
        let mut fault = Diagnostic::error(code, format!("{message}: {}", names.join(" → ")))
            .at(at, format!("{} is needed here again", node.text()));
        for (step, at) in steps.iter().skip(1).take(SHOWN) {
            fault = fault.at(*at, format!("{} is needed here", step.text()));
        }
        if only_functions { fault.help("functions cannot be recursive; a `for` may do the same") } else { fault }
    }

    // ── variables ──

    /// The value of a name in an expression.
    pub(super) fn variable(&self, name: &Arc<str>, at: Span, env: Env<'a, '_>) -> Result<Value> {
        if let Some(value) = local(env.frame, name) {
            return Ok(value);
        }
        if matches!(&**name, "target" | "group") {
            return Err(Fail::of(
                Diagnostic::error("bake::eval::bare_reference", format!("`{name}` alone has no value"))
                    .at(at, "the name of a block and an attribute must follow")
                    .help(format!("write `{name}.NAME.ATTRIBUTE`")),
            ));
        }
        self.global(name, at)
    }

    /// The value of a variable or global attribute.
    pub(super) fn global(&self, name: &Arc<str>, at: Span) -> Result<Value> {
        match &**name {
            "BAKE_CMD_CONTEXT" => return Ok(Value::string(self.input.cmd_context.as_str())),
            "BAKE_LOCAL_PLATFORM" => return Ok(Value::string(self.local_platform.as_str())),
            _ => (),
        }
        if let Some(known) = self.values.borrow().get(name) {
            return known.clone().map_err(|()| Fail::Told);
        }
        let variable = self.variables.get(name);
        let attribute = self.attributes.get(name);
        if variable.is_none() && attribute.is_none() {
            return Err(Fail::of(self.unknown_variable(name, at)));
        }
        let value = {
            let _busy = self.enter(Node::Variable(name.clone()), at)?;
            match variable {
                Some(variable) => self.variable_value(name, variable, attribute.copied()),
                None => self.attribute_value(attribute.expect("one of the two is there")),
            }
        };
        let value = value.map_err(|fail| {
            if let Fail::Fault(fault) = fail {
                self.tell(None, *fault);
            }
        });
        self.values.borrow_mut().insert(name.clone(), value.clone());
        value.map_err(|()| Fail::Told)
    }

    pub(super) fn attribute_value(&self, attribute: &'a Attribute) -> Result<Value> {
        self.eval(&attribute.expr, Env { frame: None, references: true, owner: None })
    }

    fn unknown_variable(&self, name: &str, at: Span) -> Diagnostic {
        let known = self.variables.keys().chain(self.attributes.keys()).map(|it| &**it);
        let near = suggest::nearest(name, known);
        let diagnostic = Diagnostic::error("bake::eval::unknown_variable", format!("variable `{name}` is not defined"))
            .at(at, "no variable or attribute of this name");
        match near {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!(
                "declare it with `variable \"{name}\" {{}}`; for a literal `${{{name}}}` in a string write `$${{{name}}}`"
            )),
        }
    }

    /// Evaluates everything whose fault concerns all: variables, validations, functions, global attributes.
    pub(crate) fn check(&self) {
        for (name, variable) in &self.variables {
            // A fault is told by the look-up itself.
            drop(self.global(name, variable.at()));
        }
        for (name, variable) in &self.variables {
            self.validate(name, variable);
        }
        for function in self.functions.values().flatten() {
            self.check_names(function);
        }
        for (name, attribute) in &self.attributes {
            if !self.variables.contains_key(name) {
                drop(self.global(name, attribute.name.at));
            }
        }
    }

    /// Names in the body of a function that mean nothing, whether it is called or not.
    fn check_names(&self, function: &UserFunction<'a>) {
        let mut known: Vec<Arc<str>> = function.params.clone();
        known.extend(function.variadic.clone());
        super::names::visit(function.result, &mut known, &mut |name, at| {
            let reserved = RESERVED.contains(&name) && !matches!(name, "target" | "group");
            if !reserved && !self.variables.contains_key(name) && !self.attributes.contains_key(name) {
                self.tell(None, self.unknown_variable(name, at));
            }
        });
    }

    /// Targets and groups with their final names, in the order of the files, matrices in the order of their axes.
    pub(crate) fn expanded(&self) -> &[Expanded<'a>] {
        &self.expansion().blocks
    }
}

fn local(mut frame: Option<&Frame<'_>>, name: &str) -> Option<Value> {
    while let Some(it) = frame {
        if let Some((_, value)) = it.names.iter().find(|(known, _)| &**known == name) {
            return Some(value.clone());
        }
        frame = it.parent;
    }
    None
}

fn bad_labels(block: &Block) -> Diagnostic {
    let kind = &block.kind.value;
    match block.labels.len() {
        0 => Diagnostic::error("bake::eval::bad_labels", format!("a `{kind}` block needs a name"))
            .at(block.at, "the name is missing")
            .help(format!("write `{kind} \"name\" {{ … }}`")),
        n => Diagnostic::error("bake::eval::bad_labels", format!("a `{kind}` block has one name, not {n}"))
            .at(block.labels[1].at, "one name too many")
            .help(format!("write `{kind} \"{}\" {{ … }}`", block.labels[0].value)),
    }
}
