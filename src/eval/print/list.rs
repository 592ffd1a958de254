//! `--list targets` and `--list variables` as a table or as JSON
//! (<https://docs.docker.com/reference/cli/docker/buildx/bake/#list>).

use std::{fmt::Write, sync::Arc};

use super::plan::Json;

/// One line of `--list targets`.
#[derive(Clone, Debug)]
pub(crate) struct ListedTarget {
    pub(crate) name: Arc<str>,
    /// Own description; of a group its members as well.
    pub(crate) description: String,
    pub(crate) is_group: bool,
}

/// One line of `--list variables`.
#[derive(Clone, Debug)]
pub(crate) struct ListedVariable {
    pub(crate) name: Arc<str>,
    pub(crate) description: String,
    /// Only if it was declared: `list of string`.
    pub(crate) type_name: String,
    /// `None` is null.
    pub(crate) value: Option<String>,
}

/// Sorts targets and groups for `--list`, without those whose names begin with `_`.
pub(crate) fn shown_targets(mut all: Vec<ListedTarget>) -> Vec<ListedTarget> {
    all.retain(|it| !it.name.starts_with('_'));
    all.sort_by(|a, b| a.name.cmp(&b.name).then(a.is_group.cmp(&b.is_group)));
    all
}

/// The description of a group with its members: `description (a, b)`, or `a, b` without a description.
pub(crate) fn group_description(description: Option<&str>, members: &[Arc<str>]) -> String {
    let mut members: Vec<&str> = members.iter().map(|it| &**it).collect();
    members.sort_unstable();
    let members = members.join(", ");
    match description.filter(|it| !it.is_empty()) {
        Some(description) => format!("{description} ({members})"),
        None => members,
    }
}

/// Formats `--list targets` as a table.
pub(crate) fn targets_table(all: &[ListedTarget]) -> String {
    let rows = all.iter().map(|target| vec![target.name.to_string(), target.description.clone()]);
    table([vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]].into_iter().chain(rows).collect())
}

/// Formats `--list targets` as JSON, laid out as the peer does.
pub(crate) fn targets_json(all: &[ListedTarget]) -> String {
    if all.is_empty() {
        // As in the peer; of variables it is `[]`.
        return "null\n".to_owned();
    }
    let mut json = Json::new(all.len() * 80);
    json.list(all.iter(), |json, it| {
        json.open('{');
        json.key("name");
        json.plain_text(&it.name);
        optional(json, "description", &it.description);
        if it.is_group {
            json.key("group");
            json.raw("true");
        }
        json.close('}');
    });
    json.into_text() + "\n"
}

/// Formats `--list variables` as a table.
pub(crate) fn variables_table(all: &[ListedVariable]) -> String {
    let head = ["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"].map(str::to_owned).to_vec();
    let rows = all.iter().map(|variable| {
        let value = variable.value.clone().unwrap_or_else(|| "<null>".to_owned());
        vec![variable.name.to_string(), variable.type_name.clone(), value, variable.description.clone()]
    });
    table([head].into_iter().chain(rows).collect())
}

/// Formats `--list variables` as JSON, laid out as the peer does.
pub(crate) fn variables_json(all: &[ListedVariable]) -> String {
    let mut json = Json::new(all.len() * 80);
    json.list(all.iter(), |json, it| {
        json.open('{');
        json.key("name");
        json.plain_text(&it.name);
        optional(json, "description", &it.description);
        optional(json, "type", &it.type_name);
        if let Some(value) = &it.value {
            json.key("value");
            json.plain_text(value);
        }
        json.close('}');
    });
    json.into_text() + "\n"
}

fn optional(json: &mut Json<'_>, key: &str, text: &str) {
    if !text.is_empty() {
        json.key(key);
        json.plain_text(text);
    }
}

/// Columns two blanks apart; line breaks and control characters inside a cell become blanks.
fn table(rows: Vec<Vec<String>>) -> String {
    let clean = |cell: String| cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().map(clean).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|ix| rows.iter().map(|row| row[ix].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let written = write!(line, "{cell:width$}  ");
            debug_assert!(written.is_ok(), "a string takes all");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let all = [
            ListedTarget { name: "a".into(), description: "x".into(), is_group: false },
            ListedTarget { name: "longer-than-head".into(), description: String::new(), is_group: true },
        ];
        assert_eq!(targets_table(&all), "TARGET            DESCRIPTION\na                 x\nlonger-than-head\n");
        assert_eq!(targets_json(&all[..1]), "[\n  {\n    \"name\": \"a\",\n    \"description\": \"x\"\n  }\n]\n");
    }
}
