//! Texts that keep references to variables ─► texts of a bake file, and the `variable` blocks that they need.
//!
//! A variable that is used with one default everywhere has that default in its block. One that is used in several ways is
//! written out where it is used: `${NAME != "" ? NAME : "default"}`.

use indexmap::{IndexMap, IndexSet};

use crate::{
    definition::kept::{KeptPart, KeptVariables, ReferenceOperation, VariableReference},
    eval::print::bake_file::{BakeBlock, BakeFile, BakeValue, TextPart},
};

/// The value that a script gives to a variable, as a text that may keep references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AssignedValue {
    Text(String),
    /// Only a shell can know it.
    Computed,
}

/// The bake file of blocks whose texts keep references: the variables that they use, then the blocks.
pub(super) fn with_variables(
    kept: &KeptVariables,
    assigned: &IndexMap<String, AssignedValue>,
    blocks: Vec<BakeBlock>,
) -> BakeFile {
    let mut writer = VariableWriter { kept, assigned, uses: IndexMap::new() };
    for block in &blocks {
        block.attributes.iter().for_each(|(_, value)| writer.find(value));
    }
    // Those that are assigned come in the order of the script.
    let mut names: IndexSet<&String> = assigned.keys().filter(|name| writer.uses.contains_key(*name)).collect();
    names.extend(writer.uses.keys());
    let mut all: Vec<BakeBlock> = names.into_iter().map(|name| writer.block(name)).collect();
    all.extend(blocks.into_iter().map(|block| {
        let attributes = block.attributes.into_iter().map(|(key, value)| (key, writer.value(value))).collect();
        BakeBlock { attributes, ..block }
    }));
    BakeFile { blocks: all }
}

/// How a variable is used.
#[derive(Clone, Debug, Default)]
struct VariableUses {
    /// The different defaults; `None` is that of a use without one.
    defaults: IndexSet<Option<String>>,
    /// Where no value means that the entry is not given.
    is_looked_up: bool,
    has_alternative: bool,
}

struct VariableWriter<'c> {
    kept: &'c KeptVariables,
    assigned: &'c IndexMap<String, AssignedValue>,
    uses: IndexMap<String, VariableUses>,
}

impl VariableWriter<'_> {
    fn find(&mut self, value: &BakeValue) {
        match value {
            BakeValue::Null | BakeValue::Bool(_) | BakeValue::Number(_) => (),
            BakeValue::Text(parts) => {
                for part in parts {
                    if let TextPart::Literal(text) = part {
                        self.find_in(text);
                    }
                }
            }
            BakeValue::List(items) => items.iter().for_each(|item| self.find(item)),
            BakeValue::Map(entries) => entries.iter().for_each(|(key, value)| {
                self.find_in(key);
                self.find(value);
            }),
        }
    }

    fn find_in(&mut self, text: &str) {
        let kept = self.kept;
        for part in kept.parts(text) {
            let KeptPart::Reference(VariableReference { name, operation }) = part else { continue };
            let is_new = !self.uses.contains_key(name);
            let uses = self.uses.entry(name.clone()).or_default();
            match operation {
                ReferenceOperation::Value => {
                    uses.defaults.insert(None);
                }
                ReferenceOperation::Default(default) => {
                    if uses.defaults.insert(Some(default.clone())) {
                        self.find_in(default);
                    }
                }
                ReferenceOperation::Alternative(text) => {
                    uses.has_alternative = true;
                    self.find_in(text);
                }
                ReferenceOperation::Lookup => uses.is_looked_up = true,
            }
            if let Some(AssignedValue::Text(text)) = self.assigned.get(name).filter(|_| is_new) {
                self.find_in(text);
            }
        }
    }

    /// The one default that a variable has wherever it is used.
    fn only_default(&self, name: &str) -> Option<&String> {
        let uses = self.uses.get(name)?;
        let is_plain = !uses.is_looked_up && !uses.has_alternative && !self.assigned.contains_key(name);
        match uses.defaults.first() {
            Some(Some(default)) if is_plain && uses.defaults.len() == 1 => Some(default),
            _ => None,
        }
    }

    /// Whether a variable is null or has a value: it is only looked up.
    fn is_only_looked_up(&self, name: &str) -> bool {
        self.uses.get(name).is_some_and(|uses| {
            uses.is_looked_up && uses.defaults.is_empty() && !uses.has_alternative && !self.assigned.contains_key(name)
        })
    }

    fn block(&self, name: &str) -> BakeBlock {
        let default = match (self.assigned.get(name), self.only_default(name)) {
            (Some(AssignedValue::Text(text)), _) => Some(BakeValue::Text(self.text(text))),
            (Some(AssignedValue::Computed), _) => {
                let needs_text =
                    self.uses.get(name).is_some_and(|uses| uses.has_alternative || uses.defaults.len() > 1);
                needs_text.then(|| BakeValue::literal(""))
            }
            (None, Some(default)) => Some(BakeValue::Text(self.text(default))),
            (None, None) if self.is_only_looked_up(name) => Some(BakeValue::Null),
            (None, None) => Some(BakeValue::literal("")),
        };
        let attributes = default.map(|default| ("default".to_owned(), default)).into_iter().collect();
        BakeBlock { kind: "variable", label: name.to_owned(), attributes }
    }

    fn value(&self, value: BakeValue) -> BakeValue {
        match value {
            BakeValue::Text(parts) => {
                let parts = parts.iter().flat_map(|part| match part {
                    TextPart::Literal(text) => self.text(text),
                    part => vec![part.clone()],
                });
                BakeValue::Text(parts.collect())
            }
            BakeValue::List(items) => BakeValue::List(items.into_iter().map(|item| self.value(item)).collect()),
            BakeValue::Map(entries) => {
                // A key cannot be computed in every format: it is written as the file has it.
                let entry = |(key, value): (String, BakeValue)| (self.kept.shown(&key), self.value(value));
                BakeValue::Map(entries.into_iter().map(entry).collect())
            }
            other => other,
        }
    }

    /// A text with its references as parts.
    fn text(&self, text: &str) -> Vec<TextPart> {
        let part = |part: KeptPart<'_>| match part {
            KeptPart::Text(text) => TextPart::Literal(text),
            KeptPart::Reference(reference) => self.reference(reference),
        };
        let parts: Vec<TextPart> = self.kept.parts(text).into_iter().map(part).collect();
        if parts.is_empty() { vec![TextPart::Literal(String::new())] } else { parts }
    }

    fn reference(&self, VariableReference { name, operation }: &VariableReference) -> TextPart {
        let value = || TextPart::Variable(name.clone());
        let if_set = |then: Vec<TextPart>, otherwise: Option<Vec<TextPart>>| TextPart::IfSet {
            variable: name.clone(),
            then,
            otherwise,
        };
        let is_filled = matches!(self.assigned.get(name), Some(AssignedValue::Text(text))
            if self.kept.parts(text).iter().any(|part| matches!(part, KeptPart::Text(_))));
        match operation {
            ReferenceOperation::Value => value(),
            ReferenceOperation::Default(_) if is_filled || self.only_default(name).is_some() => value(),
            ReferenceOperation::Default(default) => if_set(vec![value()], Some(self.text(default))),
            ReferenceOperation::Alternative(text) => if_set(self.text(text), Some(self.text(""))),
            ReferenceOperation::Lookup if is_filled || self.is_only_looked_up(name) => value(),
            ReferenceOperation::Lookup => if_set(vec![value()], None),
        }
    }
}
