//! The targets of Compose files as blocks of a bake file, with the variables that their texts keep.

use indexmap::IndexMap;

use super::variables::with_variables;
use crate::{
    definition::{
        attribute::TARGET,
        kept::KeptVariables,
        syntax::{AttributeSyntax, Block, Body, Expr, ExprKind},
    },
    eval::print::bake_file::{BakeBlock, BakeFile, BakeValue},
};

/// The bake file of what Compose files were read to.
pub(crate) fn convert(body: &Body, kept: &KeptVariables) -> BakeFile {
    // Groups come first, as in every bake file that is written.
    let of_kind = |kind: &'static str| {
        let blocks = body.blocks.iter().filter(move |block| &*block.kind.value == kind);
        blocks.map(move |it| block(kind, it))
    };
    let blocks = of_kind("group").chain(of_kind("target")).collect();
    with_variables(kept, &IndexMap::new(), blocks)
}

fn block(kind: &'static str, block: &Block) -> BakeBlock {
    let row = |attribute: &&AttributeSyntax| TARGET.iter().position(|row| row.name == &*attribute.name.value);
    let mut attributes: Vec<&AttributeSyntax> = block.body.attributes.iter().collect();
    attributes.sort_by_key(row);
    let attributes = attributes.into_iter().map(|it| (it.name.value.to_string(), value(&it.expr)));
    let label = block.labels.first().map(|label| label.value.to_string()).unwrap_or_default();
    BakeBlock { kind, label, attributes: attributes.collect() }
}

fn value(expr: &Expr) -> BakeValue {
    match &expr.kind {
        ExprKind::Bool(flag) => BakeValue::Bool(*flag),
        ExprKind::String(text) => BakeValue::literal(&**text),
        ExprKind::Tuple(items) => BakeValue::List(items.iter().map(value).collect()),
        ExprKind::Object(entries) => {
            let key = |expr: &Expr| match &expr.kind {
                ExprKind::String(text) => text.to_string(),
                _ => String::new(),
            };
            BakeValue::Map(entries.iter().map(|(name, expr)| (key(name), value(expr))).collect())
        }
        // Compose files become nothing else.
        _ => BakeValue::Null,
    }
}
