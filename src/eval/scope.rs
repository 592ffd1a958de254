//! Names and what they mean: variables, global attributes, functions, blocks. Each is evaluated when first asked for,
//! once, and remembered; what asks for itself on the way is a cycle, told with every step.
//!
//! Faults are kept by the target they belong to: that one target is broken does not concern the others.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    sync::Arc,
};

use indexmap::IndexMap;

use super::{
    block::{Expanded, Expansion},
    call::UserFunction,
    expr::Result,
    fault::{Fail, Faults, Owner},
    function::World,
    input::Input,
    limits::Limits,
    names::{self, Mention},
    value::Value,
    variable::VariableBlock,
};
use crate::{
    definition::syntax::{Attribute, Block, Body, Expr},
    report::{Diagnostic, Span, suggest},
};

/// Names that are visible in an expression only: parameters, variables of a `for`, axes of a matrix.
pub(super) struct Frame<'f> {
    pub(super) names: &'f [(Arc<str>, Value)],
    pub(super) parent: Option<&'f Self>,
}

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Env<'f> {
    pub(super) frame: Option<&'f Frame<'f>>,
    /// Whether `target.x.y` means something here.
    pub(super) references: bool,
}

impl Env<'_> {
    /// Outside of blocks and functions, where targets are not known yet.
    pub(super) const PLAIN: Self = Self { frame: None, references: false };
}

/// Something that is being evaluated, by its position among its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Global(usize),
    Function(usize),
    /// An attribute of an expanded block.
    Attribute(usize, usize),
    /// The expansion of all blocks.
    Blocks,
}

/// How far the evaluation of a node is.
#[derive(Clone, Debug, Default)]
pub(super) enum State {
    #[default]
    New,
    Busy,
    Done(Value),
    /// Its fault has been told, under this owner.
    Failed(Owner),
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

/// A name outside of all blocks: a variable, a global attribute, or both.
struct Global<'a> {
    variable: Option<VariableBlock<'a>>,
    attribute: Option<&'a Attribute>,
    state: RefCell<State>,
}

/// All names of a definition.
pub(crate) struct Scope<'a> {
    pub(super) input: &'a Input,
    pub(super) world: World,
    local_platform: String,
    globals: IndexMap<Arc<str>, Global<'a>>,
    pub(super) functions: IndexMap<Arc<str>, UserFunction<'a>>,
    /// Blocks of targets and groups, in the order of the files.
    pub(super) blocks: Vec<&'a Block>,
    /// Targets or groups are written in a way that leaves them without a name.
    has_lost_blocks: bool,
    pub(super) expansion: OnceCell<Expansion<'a>>,
    pub(super) is_expanding: Cell<bool>,
    pub(super) faults: Faults,
    pub(super) limits: Limits,
    stack: RefCell<Vec<(Node, Span)>>,
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
            globals: IndexMap::new(),
            functions: IndexMap::new(),
            blocks: Vec::new(),
            has_lost_blocks: false,
            expansion: OnceCell::new(),
            is_expanding: Cell::new(false),
            faults: Faults::default(),
            limits: Limits::default(),
            stack: RefCell::default(),
        };
        for body in bodies {
            scope.collect(body);
        }
        // First of all: a call of a function that is broken anyway has nothing to add.
        scope.check_functions();
        scope
    }

    fn collect(&mut self, body: &'a Body) {
        for attribute in &body.attributes {
            let name = &attribute.name;
            if matches!(&*name.value, "target" | "group" | "variable" | "function") {
                self.has_lost_blocks |= matches!(&*name.value, "target" | "group");
                self.tell(None, block_as_attribute(&name.value, name.at));
            } else if RESERVED.contains(&&*name.value) {
                self.tell(None, reserved("an attribute", &name.value, name.at));
            } else {
                self.global_entry(&name.value).attribute = Some(attribute);
            }
        }
        self.blocks.reserve(body.blocks.len());
        for block in &body.blocks {
            if !matches!(&*block.kind.value, "target" | "group" | "variable" | "function") {
                continue;
            }
            let [label] = block.labels.as_slice() else {
                self.has_lost_blocks |= matches!(&*block.kind.value, "target" | "group");
                self.tell(None, bad_labels(block));
                continue;
            };
            match &*block.kind.value {
                "target" | "group" => self.blocks.push(block),
                kind if RESERVED.contains(&&*label.value) => {
                    self.tell(None, reserved(&format!("a {kind}"), &label.value, label.at));
                }
                "variable" => self.global_entry(&label.value).variable = Some(VariableBlock::new(block)),
                _ => {
                    let function = self.user_function(block);
                    self.functions.insert(label.value.clone(), function);
                }
            }
        }
    }

    fn global_entry(&mut self, name: &Arc<str>) -> &mut Global<'a> {
        self.globals.entry(name.clone()).or_insert_with(|| Global {
            variable: None,
            attribute: None,
            state: RefCell::default(),
        })
    }

    // ── faults ──

    /// Notes a fault of a target, or of what concerns all.
    pub(super) fn tell(&self, owner: Owner, diagnostic: Diagnostic) {
        self.faults.add(owner, diagnostic);
    }

    /// The faults that concern all, those of the targets and groups that are needed, and those of what these refer to;
    /// each place once, not more than a reader can use.
    pub(crate) fn faults(&self, is_needed: impl Fn(&str) -> bool) -> Vec<Diagnostic> {
        self.faults.of(is_needed)
    }

    /// Whether targets or groups are missing because what makes their names is broken: that a name is not there is then
    /// no fault of who uses it.
    pub(crate) fn lacks_names(&self) -> bool {
        self.has_lost_blocks || self.expansion().has_broken()
    }

    // ── cycles ──

    /// Evaluates a node, which is noted as being evaluated meanwhile.
    pub(super) fn within<T>(&self, node: Node, at: Span, inner: impl FnOnce() -> T) -> T {
        self.stack.borrow_mut().push((node, at));
        let result = inner();
        self.stack.borrow_mut().pop();
        result
    }

    /// The fault of a node that is needed while it is being evaluated.
    pub(super) fn cycle(&self, node: Node, at: Span) -> Fail {
        const SHOWN: usize = 12;
        let stack = self.stack.borrow();
        let from = stack.iter().position(|(it, _)| *it == node).unwrap_or(0);
        let steps = &stack[from..];
        let mut names: Vec<String> = steps.iter().map(|(it, _)| self.node_text(*it)).collect();
        names.push(self.node_text(node));
        if names.len() > SHOWN {
            let hidden = names.len() - SHOWN;
            names.splice(SHOWN - 1..names.len() - 1, [format!("… {hidden} more …")]);
        }
        let mut fault =
            Diagnostic::error("bake::eval::cycle", format!("a cycle: a value needs itself: {}", names.join(" → ")))
                .at(at, format!("{} is needed here again", self.node_text(node)));
        for (step, at) in steps.iter().skip(1).take(SHOWN) {
            fault = fault.at(*at, format!("{} is needed here", self.node_text(*step)));
        }
        Fail::Fatal(Box::new(fault))
    }

    fn node_text(&self, node: Node) -> String {
        match node {
            Node::Global(ix) => self.globals.get_index(ix).map_or_else(String::new, |(name, _)| format!("`{name}`")),
            Node::Function(ix) => {
                self.functions.get_index(ix).map_or_else(String::new, |(name, _)| format!("`{name}()`"))
            }
            Node::Attribute(ix, position) => self.expansion.get().map_or_else(
                || "a target".to_owned(),
                |expansion| {
                    let block = &expansion.blocks[ix];
                    let attribute = &block.block.body.attributes[position].name.value;
                    format!("`{}.{}.{attribute}`", block.block.kind.value, block.name)
                },
            ),
            Node::Blocks => "the names of the targets".to_owned(),
        }
    }

    // ── variables ──

    /// The value of a name in an expression.
    pub(super) fn variable(&self, name: &Arc<str>, at: Span, env: Env<'_>) -> Result<Value> {
        if let Some(value) = local(env.frame, name) {
            return Ok(value.clone());
        }
        if matches!(&**name, "target" | "group") {
            return Err(Fail::of(
                Diagnostic::error("bake::eval::bare_reference", format!("`{name}` alone has no value"))
                    .at(at, "the name of a block and an attribute must follow")
                    .help(format!("write `{name}.NAME.ATTRIBUTE`")),
            ));
        }
        self.global(name, at, env)
    }

    /// The value of a variable or global attribute.
    fn global(&self, name: &Arc<str>, at: Span, env: Env<'_>) -> Result<Value> {
        let Some((ix, name, global)) = self.globals.get_full(name) else {
            return match &**name {
                "BAKE_CMD_CONTEXT" => Ok(Value::string(self.input.cmd_context.as_str())),
                "BAKE_LOCAL_PLATFORM" => Ok(Value::string(self.local_platform.as_str())),
                _ => Err(Fail::of(self.unknown_variable(name, at, env.frame))),
            };
        };
        match &*global.state.borrow() {
            State::New => (),
            State::Busy => return Err(self.cycle(Node::Global(ix), at)),
            State::Done(value) => return Ok(value.clone()),
            State::Failed(owner) => return Err(Fail::Told(owner.clone())),
        }
        global.state.replace(State::Busy);
        let value = self.within(Node::Global(ix), at, || match (&global.variable, global.attribute) {
            (Some(variable), attribute) => self.variable_value(name, variable, attribute),
            (None, Some(attribute)) => self.attribute_value(attribute),
            (None, None) => Ok(Value::NULL),
        });
        let (state, value) = self.settle(None, value);
        global.state.replace(state);
        value
    }

    /// Tells the fault of a node that has been evaluated, and makes what is remembered of it.
    pub(super) fn settle(&self, owner: Owner, value: Result<Value>) -> (State, Result<Value>) {
        match value {
            Ok(value) => (State::Done(value.clone()), Ok(value)),
            Err(fail) => {
                self.faults.settle(&owner, fail);
                (State::Failed(owner.clone()), Err(Fail::Told(owner)))
            }
        }
    }

    pub(super) fn attribute_value(&self, attribute: &'a Attribute) -> Result<Value> {
        self.eval(&attribute.expr, Env { frame: None, references: true })
    }

    /// All variables, in the order of the files.
    pub(super) fn declared(&self) -> impl Iterator<Item = (&Arc<str>, &VariableBlock<'a>)> {
        self.globals.iter().filter_map(|(name, global)| Some((name, global.variable.as_ref()?)))
    }

    pub(super) fn is_variable(&self, name: &str) -> bool {
        self.globals.get(name).is_some_and(|global| global.variable.is_some())
    }

    fn unknown_variable(&self, name: &str, at: Span, mut frame: Option<&Frame<'_>>) -> Diagnostic {
        let mut known: Vec<&str> = self.globals.keys().map(|it| &**it).collect();
        while let Some(it) = frame {
            known.extend(it.names.iter().map(|(name, _)| &**name));
            frame = it.parent;
        }
        let fault = Diagnostic::error("bake::eval::unknown_variable", format!("variable `{name}` is not defined"))
            .at(at, "no variable or attribute of this name");
        if self.functions.contains_key(name) || super::function::lookup(name).is_some() {
            return fault.help(format!("`{name}` is a function: write `{name}(…)`"));
        }
        match suggest::nearest(name, known) {
            Some(near) => {
                let declared = self.globals.get(near).and_then(|it| it.variable.as_ref());
                let fault = fault.help(format!("did you mean `{near}`?"));
                match declared {
                    Some(variable) => fault.at(variable.at(), format!("`{near}` is declared here")),
                    None => fault,
                }
            }
            None => fault.help(format!(
                "declare it with `variable \"{name}\" {{}}`; for a literal `${{{name}}}` in a string write `$${{{name}}}`"
            )),
        }
    }

    /// Evaluates everything whose fault concerns all: variables, validations, global attributes.
    pub(crate) fn check(&self) {
        self.evaluate_variables();
        self.expansion();
        for (name, global) in &self.globals {
            if let (None, Some(attribute)) = (&global.variable, global.attribute) {
                // A fault is told by the look-up itself.
                drop(self.global(name, attribute.name.at, Env::PLAIN));
            }
        }
        for (name, variable) in self.declared() {
            self.check_words(name, variable);
            self.validate(name, variable);
        }
    }

    /// Evaluates all variables in the order of the files, in which most of them refer to earlier ones only.
    pub(super) fn evaluate_variables(&self) {
        for (name, variable) in self.declared() {
            // A fault is told by the look-up itself.
            drop(self.global(name, variable.at(), Env::PLAIN));
        }
    }

    /// The value of a variable; `None` if it has failed.
    pub(super) fn variable_now(&self, name: &Arc<str>, variable: &VariableBlock<'a>) -> Option<Value> {
        self.global(name, variable.at(), Env::PLAIN).ok()
    }

    // ── functions ──

    /// What is wrong in functions whether they are called or not: names that mean nothing, recursion.
    fn check_functions(&self) {
        let mut calls: Vec<Vec<(usize, Span)>> = Vec::with_capacity(self.functions.len());
        for function in self.functions.values() {
            let mut called = Vec::new();
            let Some(body) = function.body.as_ref() else {
                calls.push(called);
                continue;
            };
            let mut known: Vec<Arc<str>> = body.params.iter().chain(&body.variadic).cloned().collect();
            let params: Vec<(Arc<str>, Value)> = known.iter().map(|it| (it.clone(), Value::NULL)).collect();
            let frame = Frame { names: &params, parent: None };
            let tell = |fault: Diagnostic| {
                self.tell(None, fault);
                function.is_broken.set(true);
            };
            names::visit(body.result, &mut known, &mut |mention| match mention {
                Mention::Name(name, at) => {
                    if !self.globals.contains_key(name) && !RESERVED.contains(&&**name) {
                        tell(self.unknown_variable(name, at, Some(&frame)));
                    }
                }
                Mention::Call(name, at) => {
                    if super::function::lookup(name).is_some() {
                        return;
                    }
                    match self.functions.get_index_of(name) {
                        Some(ix) => called.push((ix, at)),
                        None => tell(self.unknown_function(name, at)),
                    }
                }
            });
            calls.push(called);
        }
        self.refuse_recursion(&calls);
    }

    /// Walks who calls whom, without recursion of its own.
    fn refuse_recursion(&self, calls: &[Vec<(usize, Span)>]) {
        let mut done = vec![false; calls.len()];
        for start in 0..calls.len() {
            // Each step: a function, where it is called, which of its calls comes next.
            let mut path: Vec<(usize, Span, usize)> = vec![(start, self.functions[start].at, 0)];
            let mut on_path: HashMap<usize, usize> = HashMap::from([(start, 0)]);
            while let Some((ix, _, next)) = path.last_mut() {
                let ix = *ix;
                let call = calls[ix].get(*next).copied().filter(|_| !done[ix]);
                *next += 1;
                let Some((callee, at)) = call else {
                    done[ix] = true;
                    on_path.remove(&ix);
                    path.pop();
                    continue;
                };
                if let Some(from) = on_path.get(&callee) {
                    let steps: Vec<(usize, Span)> = path[*from..].iter().map(|(ix, at, _)| (*ix, *at)).collect();
                    self.tell(None, self.recursion(&steps, at));
                    for (ix, ..) in path.drain(..) {
                        self.functions[ix].is_broken.set(true);
                        done[ix] = true;
                    }
                } else if !done[callee] {
                    on_path.insert(callee, path.len());
                    path.push((callee, at, 0));
                }
            }
        }
    }

    fn recursion(&self, steps: &[(usize, Span)], again: Span) -> Diagnostic {
        const SHOWN: usize = 8;
        let text = |ix: usize| self.node_text(Node::Function(ix));
        let mut names: Vec<String> = steps.iter().take(SHOWN).map(|(ix, _)| text(*ix)).collect();
        if steps.len() > SHOWN {
            names.push(format!("… {} more …", steps.len() - SHOWN));
        }
        names.push(text(steps[0].0));
        let message = format!("a cycle: a function calls itself: {}", names.join(" → "));
        let mut fault = Diagnostic::error("bake::eval::recursion", message)
            .at(again, format!("{} is called here again", text(steps[0].0)))
            .help("functions cannot be recursive; a `for` may do the same");
        for (ix, at) in steps.iter().skip(1).take(SHOWN) {
            fault = fault.at(*at, format!("{} is called here", text(*ix)));
        }
        fault
    }

    /// Targets and groups with their final names, in the order of the files, matrices in the order of their axes.
    pub(crate) fn expanded(&self) -> &[Expanded<'a>] {
        if self.expansion.get().is_none() {
            self.evaluate_variables();
        }
        &self.expansion().blocks
    }
}

fn local<'f>(mut frame: Option<&'f Frame<'f>>, name: &str) -> Option<&'f Value> {
    while let Some(it) = frame {
        if let Some((_, value)) = it.names.iter().find(|(known, _)| &**known == name) {
            return Some(value);
        }
        frame = it.parent;
    }
    None
}

/// Whether a name is bound by a parameter, a `for` or an axis.
pub(super) fn is_local(env: Env<'_>, name: &str) -> bool {
    local(env.frame, name).is_some()
}

fn block_as_attribute(kind: &str, at: Span) -> Diagnostic {
    Diagnostic::error("bake::eval::block_as_attribute", format!("`{kind}` is a block, not an attribute"))
        .at(at, "an attribute of this name means nothing")
        .help(format!("write `{kind} \"name\" {{ … }}`, without `=`"))
}

fn reserved(what: &str, name: &str, at: Span) -> Diagnostic {
    Diagnostic::warning("bake::eval::reserved_name", format!("{what} cannot be called `{name}`, and is ignored"))
        .at(at, "this name is taken")
        .help("choose another name")
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
