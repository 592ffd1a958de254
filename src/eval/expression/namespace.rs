//! Namespaces: the names of the root of a definition, and those of each file that is included under a name. An
//! expression sees the namespace of the file that it is written in.
//!
//! Nothing is evaluated here.

use std::{cell::RefCell, sync::Arc};

use indexmap::IndexMap;

use super::{
    call::UserFunction,
    scope::{Scope, ScopeState},
};
use crate::{
    definition::{
        attribute::BLOCKS,
        load::{Definition, Included},
        syntax::{AttributeSyntax, Block, Body, Expr, ExprKind},
    },
    eval::variable::resolve::VariableBlock,
    report::{Diagnostic, Span},
};

/// A name outside of all blocks: a variable, a global attribute, or both; or a local value, as `local.NAME`.
pub(in crate::eval) struct Global<'a> {
    pub(in crate::eval) variable: Option<VariableBlock<'a>>,
    pub(in crate::eval) attribute: Option<&'a AttributeSyntax>,
    pub(in crate::eval) state: RefCell<ScopeState>,
}

/// The names of the root, or of a file that is included under a name.
#[derive(Default)]
pub(in crate::eval) struct Namespace<'a> {
    /// Prefix of the names of its targets and groups: empty, `web_`, `web_db_`.
    pub(in crate::eval) prefix: Arc<str>,
    pub(in crate::eval) globals: IndexMap<Arc<str>, Global<'a>>,
    pub(in crate::eval) functions: IndexMap<Arc<str>, UserFunction<'a>>,
    /// There is a `locals` block.
    pub(in crate::eval) has_locals: bool,
    pub(in crate::eval) included: Option<&'a Included>,
}

/// Names that no variable, function or attribute may take.
pub(in crate::eval) const RESERVED: &[&str] = &["target", "group", "BAKE_CMD_CONTEXT", "BAKE_LOCAL_PLATFORM"];

/// The key of a local value among the globals; it cannot clash, because no other name has a dot.
pub(in crate::eval) fn local_key(name: &str) -> Arc<str> {
    format!("local.{name}").into()
}

/// The key of an attribute of the `cache` block among the globals.
pub(in crate::eval) fn cache_key(name: &str) -> Arc<str> {
    format!("cache.{name}").into()
}

impl<'a> Namespace<'a> {
    /// The full name of a target or group of this namespace.
    pub(in crate::eval) fn full_name(&self, name: &Arc<str>) -> Arc<str> {
        if self.prefix.is_empty() { name.clone() } else { format!("{}{name}", self.prefix).into() }
    }

    /// The full name of a variable: `TAG`, `web.TAG`.
    pub(in crate::eval) fn shown_name(&self, name: &Arc<str>) -> Arc<str> {
        self.included.map_or_else(|| name.clone(), |it| format!("{}.{name}", it.name).into())
    }

    /// The value that the including file gives a variable: an item of its `vars`.
    pub(in crate::eval) fn given_var(&self, name: &str) -> Option<&'a Expr> {
        self.vars()
            .find(|(key, _)| matches!(&key.kind, ExprKind::String(key) if **key == *name))
            .map(|(_, value)| value)
    }

    /// All items of `vars` of the include.
    pub(in crate::eval) fn vars(&self) -> impl Iterator<Item = (&'a Expr, &'a Expr)> + use<'a> {
        let items = match self.included.and_then(|it| it.vars.as_ref()).map(|it| &it.kind) {
            Some(ExprKind::Object(items)) => items.as_slice(),
            _ => &[],
        };
        items.iter().map(|(key, value)| (key, value))
    }

    fn global(&mut self, name: &Arc<str>) -> &mut Global<'a> {
        self.globals.entry(name.clone()).or_insert_with(|| Global {
            variable: None,
            attribute: None,
            state: RefCell::default(),
        })
    }
}

impl<'a> Scope<'a> {
    /// Collects all names of a definition. The last of several blocks of one name counts, except for targets, which are
    /// merged.
    pub(in crate::eval) fn collect_all(&mut self, definition: &'a Definition) {
        let included =
            definition.included.iter().map(|included| (Some(included), included.bodies.iter().collect::<Vec<_>>()));
        for (included, bodies) in included.chain([(None, definition.bodies().collect())]) {
            let prefix = included.map_or_else(String::new, |it| format!("{}_", it.name.replace('.', "_")));
            let namespace = Namespace { prefix: prefix.into(), included, ..Namespace::default() };
            self.namespaces.push(namespace);
            bodies.into_iter().for_each(|body| self.collect(body));
        }
    }

    /// Collects the names of one file into the last namespace.
    fn collect(&mut self, body: &'a Body) {
        let ix = self.namespaces.len() - 1;
        let source = body.at.source.index();
        if self.namespace_of.len() <= source {
            // Text that is not from a file, such as an argument, belongs to the root.
            self.namespace_of.resize(source + 1, usize::MAX);
        }
        self.namespace_of[source] = ix;
        for attribute in &body.attributes {
            let name = &attribute.name;
            if matches!(&*name.value, "target" | "group" | "variable" | "function") {
                self.has_lost_blocks |= matches!(&*name.value, "target" | "group");
                self.record_fault(None, block_as_attribute(&name.value, name.at));
            } else if RESERVED.contains(&&*name.value) {
                self.record_fault(None, reserved("an attribute", &name.value, name.at));
            } else {
                self.namespaces[ix].global(&name.value).attribute = Some(attribute);
            }
        }
        self.blocks.reserve(body.blocks.len());
        for block in &body.blocks {
            match &*block.kind.value {
                "locals" => self.locals(block),
                "cache" => self.cache(block),
                kind if BLOCKS.contains(&kind) && kind != "include" => self.labelled(block),
                _ => (),
            }
        }
    }

    fn locals(&mut self, block: &'a Block) {
        let namespace = self.namespaces.last_mut().expect("files are collected into a namespace");
        namespace.has_locals = true;
        for attribute in &block.body.attributes {
            namespace.global(&local_key(&attribute.name.value)).attribute = Some(attribute);
        }
        self.check_nameless(block);
    }

    /// Of several blocks the last one that has an attribute counts.
    fn cache(&mut self, block: &'a Block) {
        let namespace = self.namespaces.last_mut().expect("files are collected into a namespace");
        for attribute in &block.body.attributes {
            namespace.global(&cache_key(&attribute.name.value)).attribute = Some(attribute);
        }
        self.check_nameless(block);
    }

    fn check_nameless(&self, block: &Block) {
        let kind = &block.kind.value;
        if let Some(label) = block.labels.first() {
            self.record_fault(
                None,
                Diagnostic::error("bake::eval::bad_labels", format!("a `{kind}` block has no name"))
                    .at(label.at, "one name too many")
                    .help(format!("write `{kind} {{ … }}`")),
            );
        }
    }

    fn labelled(&mut self, block: &'a Block) {
        let [label] = block.labels.as_slice() else {
            self.has_lost_blocks |= matches!(&*block.kind.value, "target" | "group");
            self.record_fault(None, bad_labels(block));
            return;
        };
        match &*block.kind.value {
            "target" | "group" => self.blocks.push(block),
            kind if RESERVED.contains(&&*label.value) => {
                self.record_fault(None, reserved(&format!("a {kind}"), &label.value, label.at));
            }
            "variable" => {
                self.has_sensitive |= block.body.attribute("sensitive").is_some();
                let namespace = self.namespaces.last_mut().expect("files are collected into a namespace");
                namespace.global(&label.value).variable = Some(VariableBlock::new(block));
            }
            _ => {
                let function = self.user_function(block);
                let namespace = self.namespaces.last_mut().expect("files are collected into a namespace");
                namespace.functions.insert(label.value.clone(), function);
            }
        }
    }

    /// The position of the namespace that a place belongs to.
    pub(in crate::eval) fn namespace_ix(&self, at: Span) -> usize {
        let root = self.namespaces.len() - 1;
        self.namespace_of.get(at.source.index()).copied().unwrap_or(root).min(root)
    }

    /// The namespace that a place belongs to.
    pub(in crate::eval) fn namespace(&self, at: Span) -> &Namespace<'a> {
        &self.namespaces[self.namespace_ix(at)]
    }

    /// Reports values in `vars` of an include for variables that the file does not declare.
    pub(in crate::eval) fn check_includes(&self) {
        for namespace in &self.namespaces {
            let known = || namespace.globals.iter().filter(|(_, it)| it.variable.is_some()).map(|(name, _)| &**name);
            for (key, value) in namespace.vars() {
                let ExprKind::String(name) = &key.kind else {
                    self.record_fault(
                        None,
                        Diagnostic::error("bake::eval::bad_include", "a key of `vars` is the name of a variable")
                            .at(key.at, "not a plain name"),
                    );
                    continue;
                };
                if !known().any(|it| it == &**name) {
                    let include = namespace.included.map_or("", |it| &it.name);
                    let fault = Diagnostic::error(
                        "bake::eval::unknown_var",
                        format!("`vars` of include `{include}` sets a variable that it does not declare: {name}"),
                    )
                    .at(key.at.to(value.at), "no variable of this name there");
                    self.record_fault(
                        None,
                        match crate::report::suggest::did_you_mean(name, known()) {
                            Some(help) => fault.help(help),
                            None => fault,
                        },
                    );
                }
            }
        }
    }
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
