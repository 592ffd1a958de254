//! Resolves names: variables, global attributes, functions, blocks. Each is evaluated once, when first used, and the
//! value is kept; one that depends on itself is a cycle, reported with every step.
//!
//! Errors are recorded by the target that they belong to: an error in one target does not stop the others.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    sync::Arc,
};

use super::{
    expr::EvalResult,
    limits::EvalLimits,
    names::{self, Mention},
    namespace::{Namespace, RESERVED, cache_key, local_key},
};
use crate::{
    definition::{
        load::Definition,
        syntax::{AttributeSyntax, Block, Expr, ExprKind},
    },
    eval::{
        fault::{Fail, FaultOwner, Faults},
        function::FunctionWorld,
        input::Input,
        target::block::{ExpandedBlock, Expansion},
        value::types::Value,
        variable::resolve::VariableBlock,
    },
    oci::Platform,
    report::{Diagnostic, Hidden, Span, Spanned, suggest},
};

/// Names that are visible in an expression only: parameters, variables of a `for`, axes of a matrix.
pub(in crate::eval) struct ScopeFrame<'f> {
    pub(in crate::eval) names: &'f [(Arc<str>, Value)],
    pub(in crate::eval) parent: Option<&'f Self>,
}

/// The context of an expression: the local names that it sees.
#[derive(Clone, Copy)]
pub(in crate::eval) struct Env<'f> {
    pub(in crate::eval) frame: Option<&'f ScopeFrame<'f>>,
    /// Whether references to targets (`target.x.y`) are allowed here.
    pub(in crate::eval) references: bool,
}

impl Env<'_> {
    /// The context outside of blocks and functions, where targets are not known yet.
    pub(in crate::eval) const PLAIN: Self = Self { frame: None, references: false };
}

/// Identifies something that is being evaluated, for finding cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::eval) enum ScopeNode {
    /// Of a namespace.
    Global(usize, usize),
    Function(usize, usize),
    /// An attribute of an expanded block.
    Attribute(usize, usize),
    /// The expansion of all blocks.
    Blocks,
}

/// The state of the evaluation of a node.
#[derive(Clone, Debug, Default)]
pub(in crate::eval) enum ScopeState {
    #[default]
    New,
    Busy,
    Done(Value),
    /// It failed; the error is recorded under this owner.
    Failed(FaultOwner),
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct ScopeValue<'a> {
    pub(crate) value: Value,
    /// The expression.
    pub(crate) at: Span,
    pub(crate) expr: &'a Expr,
}

/// The names of a definition that expressions can refer to, with the values computed so far.
pub(crate) struct Scope<'a> {
    pub(in crate::eval) input: &'a Input,
    pub(in crate::eval) world: FunctionWorld,
    local_platform: String,
    /// Those of includes, then the root.
    pub(in crate::eval) namespaces: Vec<Namespace<'a>>,
    /// By the index of a source.
    pub(in crate::eval) namespace_of: Vec<usize>,
    /// Blocks of targets and groups, in the order of the files.
    pub(in crate::eval) blocks: Vec<&'a Block>,
    /// Those of Compose files.
    compose: &'a [Block],
    /// Some target or group block has no usable name.
    pub(in crate::eval) has_lost_blocks: bool,
    pub(in crate::eval) expansion: OnceCell<Expansion<'a>>,
    pub(in crate::eval) is_expanding: Cell<bool>,
    pub(in crate::eval) faults: Faults,
    pub(in crate::eval) limits: EvalLimits,
    /// Values of sensitive variables, and texts derived from them.
    pub(in crate::eval) hidden: RefCell<Hidden>,
    /// Whether any variable is declared sensitive.
    pub(in crate::eval) has_sensitive: bool,
    stack: RefCell<Vec<(ScopeNode, Span)>>,
}

impl<'a> Scope<'a> {
    /// The platform of targets that name none.
    pub(in crate::eval) fn host_platform(&self) -> Platform {
        Platform::parse(&self.local_platform).unwrap_or_else(|_| Platform::host())
    }

    /// Collects the names of a definition, in the order of its files; nothing is evaluated yet.
    pub(crate) fn new(definition: &'a Definition, input: &'a Input, local_platform: &str) -> Self {
        let mut scope = Self {
            input,
            world: FunctionWorld::of(input),
            local_platform: local_platform.to_owned(),
            namespaces: Vec::new(),
            namespace_of: Vec::new(),
            blocks: Vec::new(),
            compose: definition.compose.as_ref().map_or(&[], |body| &body.blocks),
            has_lost_blocks: false,
            expansion: OnceCell::new(),
            is_expanding: Cell::new(false),
            faults: Faults::default(),
            limits: EvalLimits::default(),
            hidden: RefCell::default(),
            has_sensitive: false,
            stack: RefCell::default(),
        };
        scope.collect_all(definition);
        // Functions are checked first, so that calls of a broken function are not reported in addition.
        scope.check_functions();
        scope
    }

    /// Whether a block is a service of a Compose file.
    pub(in crate::eval) fn is_of_compose(&self, block: &'a Block) -> bool {
        self.compose.as_ptr_range().contains(&std::ptr::from_ref(block))
    }

    // ── faults ──

    /// Records an error or warning of a target, or of the whole definition.
    pub(in crate::eval) fn record_fault(&self, owner: FaultOwner, diagnostic: Diagnostic) {
        self.faults.add(owner, diagnostic);
    }

    /// All recorded errors and warnings, each place once, limited in number.
    pub(crate) fn all_faults(&self) -> Vec<Diagnostic> {
        self.faults.split(|_| true).0
    }

    /// Whether targets or groups are missing because of an error in their names or matrices. A reference to an unknown
    /// name is then not reported.
    pub(crate) fn lacks_names(&self) -> bool {
        self.has_lost_blocks || self.expansion().has_broken()
    }

    // ── cycles ──

    /// Runs `inner` with `node` on the stack of nodes that are being evaluated.
    pub(in crate::eval) fn within<T>(&self, node: ScopeNode, at: Span, inner: impl FnOnce() -> T) -> T {
        self.stack.borrow_mut().push((node, at));
        let result = inner();
        self.stack.borrow_mut().pop();
        result
    }

    /// The error for a node that depends on itself.
    pub(in crate::eval) fn cycle(&self, node: ScopeNode, at: Span) -> Fail {
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

    fn node_text(&self, node: ScopeNode) -> String {
        match node {
            ScopeNode::Global(namespace, ix) => {
                let found = self.namespaces[namespace].globals.get_index(ix);
                found.map_or_else(String::new, |(name, _)| format!("`{name}`"))
            }
            ScopeNode::Function(namespace, ix) => {
                let found = self.namespaces[namespace].functions.get_index(ix);
                found.map_or_else(String::new, |(name, _)| format!("`{name}()`"))
            }
            ScopeNode::Attribute(ix, position) => self.expansion.get().map_or_else(
                || "a target".to_owned(),
                |expansion| {
                    let block = &expansion.blocks[ix];
                    let attribute = &block.block.body.attributes[position].name.value;
                    format!("`{}.{}.{attribute}`", block.block.kind.value, block.name)
                },
            ),
            ScopeNode::Blocks => "the names of the targets".to_owned(),
        }
    }

    // ── variables ──

    /// The value of a name in an expression.
    pub(in crate::eval) fn variable(&self, name: &Arc<str>, at: Span, env: Env<'_>) -> EvalResult<Value> {
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
    fn global(&self, name: &Arc<str>, at: Span, env: Env<'_>) -> EvalResult<Value> {
        let namespace = self.namespace_ix(at);
        let Some((ix, name, global)) = self.namespaces[namespace].globals.get_full(name) else {
            return match &**name {
                "BAKE_CMD_CONTEXT" => Ok(Value::string(self.input.cmd_context.as_str())),
                "BAKE_LOCAL_PLATFORM" => Ok(Value::string(self.local_platform.as_str())),
                _ => Err(Fail::of(self.unknown_variable(name, at, env.frame))),
            };
        };
        match &*global.state.borrow() {
            ScopeState::New => (),
            ScopeState::Busy => return Err(self.cycle(ScopeNode::Global(namespace, ix), at)),
            ScopeState::Done(value) => return Ok(value.clone()),
            ScopeState::Failed(owner) => return Err(Fail::Recorded(owner.clone())),
        }
        global.state.replace(ScopeState::Busy);
        let value = self.within(ScopeNode::Global(namespace, ix), at, || match (&global.variable, global.attribute) {
            (Some(variable), attribute) => self.variable_value(name, variable, attribute),
            (None, Some(attribute)) => self.attribute_value(attribute),
            (None, None) => Ok(Value::NULL),
        });
        if let Some(variable) = global.variable.as_ref().filter(|_| self.has_sensitive)
            && self.is_sensitive(variable)
        {
            self.hide_outside_value(name, variable);
            value.iter().for_each(|it| self.hide_variable(name, it));
        }
        let (state, value) = self.record_outcome(None, value);
        global.state.replace(state);
        value
    }

    /// Records the error of an evaluated node, if it failed, and returns the state to keep for it.
    pub(in crate::eval) fn record_outcome(
        &self,
        owner: FaultOwner,
        value: EvalResult<Value>,
    ) -> (ScopeState, EvalResult<Value>) {
        match value {
            Ok(value) => (ScopeState::Done(value.clone()), Ok(value)),
            Err(fail) => {
                self.faults.record(&owner, fail);
                (ScopeState::Failed(owner.clone()), Err(Fail::Recorded(owner)))
            }
        }
    }

    pub(in crate::eval) fn attribute_value(&self, attribute: &'a AttributeSyntax) -> EvalResult<Value> {
        self.eval(&attribute.expr, Env { frame: None, references: true })
    }

    /// The value of a global attribute; `None` if it failed, which is recorded.
    pub(in crate::eval) fn attribute_now(&self, attribute: &AttributeSyntax) -> Option<Value> {
        self.global(&attribute.name.value, attribute.name.at, Env::PLAIN).ok()
    }

    /// An attribute of the `cache` block of a namespace, and its value: `None` if there is none or if it failed, which is
    /// recorded.
    pub(in crate::eval) fn cache_attribute(
        &self,
        namespace: usize,
        name: &str,
    ) -> Option<(&'a AttributeSyntax, Value)> {
        let key = cache_key(name);
        let attribute = self.namespaces[namespace].globals.get(&key)?.attribute?;
        Some((attribute, self.global(&key, attribute.name.at, Env::PLAIN).ok()?))
    }

    /// All variables, in the order of the files.
    pub(in crate::eval) fn declared(&self) -> impl Iterator<Item = (&Arc<str>, &VariableBlock<'a>)> {
        let all = self.namespaces.iter().flat_map(|it| &it.globals);
        all.filter_map(|(name, global)| Some((name, global.variable.as_ref()?)))
    }

    /// The value of `local.NAME`; `None` if the expression is not one (a file may have a variable called `local`
    /// instead).
    pub(in crate::eval) fn local_value(
        &self,
        source: &Expr,
        name: &Spanned<Arc<str>>,
        env: Env<'_>,
    ) -> Option<EvalResult<Value>> {
        if !matches!(&source.kind, ExprKind::Variable(root) if &**root == "local") || is_local(env, "local") {
            return None;
        }
        let namespace = self.namespace(source.at);
        if !namespace.has_locals || namespace.globals.contains_key("local") {
            return None;
        }
        let key = local_key(&name.value);
        if namespace.globals.contains_key(&key) {
            return Some(self.global(&key, name.at, env));
        }
        let known = namespace.globals.keys().filter_map(|it| it.strip_prefix("local."));
        let fault = Diagnostic::error("bake::eval::unknown_local", format!("`local.{}` is not defined", name.value))
            .at(name.at, "no `locals` block has this name");
        Some(Err(Fail::of(match suggest::did_you_mean(&name.value, known) {
            Some(help) => fault.help(help),
            None => fault.help(format!("write `locals {{ {} = … }}`", name.value)),
        })))
    }

    fn unknown_variable(&self, name: &str, at: Span, mut frame: Option<&ScopeFrame<'_>>) -> Diagnostic {
        let globals = &self.namespace(at).globals;
        let mut known: Vec<&str> = globals.keys().map(|it| &**it).collect();
        while let Some(it) = frame {
            known.extend(it.names.iter().map(|(name, _)| &**name));
            frame = it.parent;
        }
        let fault = Diagnostic::error("bake::eval::unknown_variable", format!("variable `{name}` is not defined"))
            .at(at, "no variable or attribute of this name");
        if self.namespace(at).functions.contains_key(name) || crate::eval::function::lookup(name).is_some() {
            return fault.help(format!("`{name}` is a function: write `{name}(…)`"));
        }
        match suggest::nearest(name, known) {
            Some(near) => {
                let declared = globals.get(near).and_then(|it| it.variable.as_ref());
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

    /// Evaluates everything whose errors concern the whole definition: variables, validations, global attributes.
    pub(crate) fn check(&self) {
        self.evaluate_variables();
        self.expansion();
        self.check_includes();
        for (name, global) in self.namespaces.iter().flat_map(|it| &it.globals) {
            if let (None, Some(attribute)) = (&global.variable, global.attribute) {
                // The look-up records the error.
                drop(self.global(name, attribute.name.at, Env::PLAIN));
            }
        }
        for (name, variable) in self.declared() {
            self.check_words(name, variable);
            self.validate(name, variable);
        }
    }

    /// Evaluates all variables in the order of the files, in which most of them refer to earlier ones only.
    pub(in crate::eval) fn evaluate_variables(&self) {
        for (name, variable) in self.declared() {
            // The look-up records the error.
            drop(self.global(name, variable.at(), Env::PLAIN));
        }
    }

    /// The value of a variable; `None` if it has failed.
    pub(in crate::eval) fn variable_now(&self, name: &Arc<str>, variable: &VariableBlock<'a>) -> Option<Value> {
        self.global(name, variable.at(), Env::PLAIN).ok()
    }

    // ── functions ──

    /// Reports errors in functions whether they are called or not: unknown names, recursion.
    fn check_functions(&self) {
        (0..self.namespaces.len()).for_each(|ix| self.check_functions_of(ix));
    }

    fn check_functions_of(&self, namespace_ix: usize) {
        let namespace = &self.namespaces[namespace_ix];
        let is_known = |name: &str| {
            namespace.globals.contains_key(name)
                || RESERVED.contains(&name)
                || (name == "local" && namespace.has_locals)
        };
        let mut calls: Vec<Vec<(usize, Span)>> = Vec::with_capacity(namespace.functions.len());
        for function in namespace.functions.values() {
            let mut called = Vec::new();
            let Some(body) = function.body.as_ref() else {
                calls.push(called);
                continue;
            };
            let mut known: Vec<Arc<str>> = body.params.iter().chain(&body.variadic).cloned().collect();
            let params: Vec<(Arc<str>, Value)> = known.iter().map(|it| (it.clone(), Value::NULL)).collect();
            let frame = ScopeFrame { names: &params, parent: None };
            let record = |fault: Diagnostic| {
                self.record_fault(None, fault);
                function.is_broken.set(true);
            };
            names::visit(body.result, &mut known, &mut |mention| match mention {
                Mention::Name(name, at) => {
                    if !is_known(name) {
                        record(self.unknown_variable(name, at, Some(&frame)));
                    }
                }
                Mention::Call(name, at) => match (self.builtin(name, at), namespace.functions.get_index_of(name)) {
                    (Some(_), _) => (),
                    (None, Some(ix)) => called.push((ix, at)),
                    (None, None) => record(self.unknown_function(name, at)),
                },
            });
            calls.push(called);
        }
        self.refuse_recursion(namespace_ix, &calls);
    }

    /// Reports functions that call themselves, by a depth-first walk with an explicit stack.
    fn refuse_recursion(&self, namespace: usize, calls: &[Vec<(usize, Span)>]) {
        let functions = &self.namespaces[namespace].functions;
        let mut done = vec![false; calls.len()];
        for start in 0..calls.len() {
            // Each step: a function, where it is called, which of its calls comes next.
            let mut path: Vec<(usize, Span, usize)> = vec![(start, functions[start].at, 0)];
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
                    self.record_fault(None, self.recursion(namespace, &steps, at));
                    for (ix, ..) in path.drain(..) {
                        functions[ix].is_broken.set(true);
                        done[ix] = true;
                    }
                } else if !done[callee] {
                    on_path.insert(callee, path.len());
                    path.push((callee, at, 0));
                }
            }
        }
    }

    fn recursion(&self, namespace: usize, steps: &[(usize, Span)], again: Span) -> Diagnostic {
        const SHOWN: usize = 8;
        let text = |ix: usize| self.node_text(ScopeNode::Function(namespace, ix));
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

    /// The targets and groups with their final names, in the order of the files, matrices in the order of their axes.
    pub(crate) fn expanded(&self) -> &[ExpandedBlock<'a>] {
        if self.expansion.get().is_none() {
            self.evaluate_variables();
        }
        &self.expansion().blocks
    }
}

fn local<'f>(mut frame: Option<&'f ScopeFrame<'f>>, name: &str) -> Option<&'f Value> {
    while let Some(it) = frame {
        if let Some((_, value)) = it.names.iter().find(|(known, _)| &**known == name) {
            return Some(value);
        }
        frame = it.parent;
    }
    None
}

/// Whether a name is bound by a parameter, a `for` or an axis.
pub(in crate::eval) fn is_local(env: Env<'_>, name: &str) -> bool {
    local(env.frame, name).is_some()
}
