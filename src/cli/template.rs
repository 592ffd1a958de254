//! Format templates as the Docker CLI takes them, as far as scripts use them: text with `{{PATH}}` and `{{json PATH}}` in it,
//! where a path is `.`, `.Field.Field` or `(index .Field "key").Field`.
//!
//! They are read over JSON, in which a field has its name in any case and with or without underscores. Everything else that
//! Go's templates have (conditions, loops, pipes, other functions) is refused by name.

use serde_json::Value;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template(Vec<FormatPart>);

#[derive(Debug)]
enum FormatPart {
    Text(String),
    /// The value as JSON.
    Json(TemplatePath),
    /// A text as it is, anything else as JSON.
    Plain(TemplatePath),
}

/// Keys of objects, or positions in lists, from the outermost on; none of them is the whole.
type TemplatePath = Vec<String>;

/// How JSON is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonLayout {
    /// In one line.
    Compact,
    /// Indented by two blanks.
    Pretty,
}

impl Template {
    /// Parses a template over a value that has the fields `known`.
    ///
    /// # Errors
    /// What it does not know, for the user: a word, or a field with those that there are.
    pub(crate) fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(FormatPart::Text(unescape(before)));
            let (action, after) = after.split_once("}}").ok_or_else(|| "`{{` is not closed".to_owned())?;
            let part = ActionReader::new(action)?.action()?;
            if let FormatPart::Json(path) | FormatPart::Plain(path) = &part
                && let Some(field) = path.first()
                && !known.contains(&field.as_str())
            {
                return Err(format!("there is no field `.{field}`, only .{}", known.join(", .")));
            }
            parts.push(part);
            rest = after;
        }
        parts.push(FormatPart::Text(unescape(rest)));
        Ok(Self(parts))
    }

    /// Whether the template shows something of a field.
    pub(crate) fn shows(&self, field: &str) -> bool {
        self.0.iter().any(|part| match part {
            FormatPart::Text(_) => false,
            FormatPart::Json(path) | FormatPart::Plain(path) => path.first().is_none_or(|first| first == field),
        })
    }

    /// The text for a value. What is not there is `null` as JSON, and `<no value>` else, as in Go.
    pub(crate) fn render(&self, value: &Value, layout: JsonLayout) -> String {
        let json = |found: Option<&Value>| match layout {
            JsonLayout::Compact => found.unwrap_or(&Value::Null).to_string(),
            JsonLayout::Pretty => format!("{:#}", found.unwrap_or(&Value::Null)),
        };
        let one = |part: &FormatPart| match part {
            FormatPart::Text(text) => text.clone(),
            FormatPart::Json(path) => json(find(value, path)),
            FormatPart::Plain(path) => match find(value, path) {
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => "<no value>".to_owned(),
                found => json(found),
            },
        };
        self.0.iter().map(one).collect()
    }
}

/// The words `\t` and `\n` stand for what they name, as in other formats of the Docker CLI.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn find<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |at, key| match at {
        Value::Object(fields) => fields
            .get(key)
            .or_else(|| fields.iter().find(|(name, _)| plain(name) == plain(key)).map(|(_, found)| found)),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// A name without what differs between a field of Go and its name in JSON.
fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

/// One word of an action.
#[derive(Debug, PartialEq, Eq)]
enum ActionToken {
    Open,
    Close,
    /// A quoted text.
    Quoted(String),
    Word(String),
}

/// Reads what stands between `{{` and `}}`.
struct ActionReader {
    /// The last token first.
    tokens: Vec<ActionToken>,
}

impl ActionReader {
    fn new(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let (token, after) = match first {
                '(' => (ActionToken::Open, &rest[1..]),
                ')' => (ActionToken::Close, &rest[1..]),
                '"' | '`' => {
                    let (inner, after) =
                        rest[1..].split_once(first).ok_or_else(|| format!("a quote is not closed: {text}"))?;
                    (ActionToken::Quoted(inner.to_owned()), after)
                }
                _ => {
                    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '`'));
                    let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
                    (ActionToken::Word(word.to_owned()), after)
                }
            };
            tokens.push(token);
            rest = after.trim_start();
        }
        tokens.reverse();
        Ok(Self { tokens })
    }

    fn action(mut self) -> Result<FormatPart, String> {
        let is_json = self.tokens.last() == Some(&ActionToken::Word("json".to_owned()));
        if is_json {
            self.tokens.pop();
        }
        let path = self.operand()?;
        match self.tokens.pop() {
            None if is_json => Ok(FormatPart::Json(path)),
            None => Ok(FormatPart::Plain(path)),
            Some(other) => Err(unknown(&other)),
        }
    }

    /// `.Field`, `index .Field "key"…`, or one of them in parentheses, after which more fields may follow.
    fn operand(&mut self) -> Result<TemplatePath, String> {
        match self.tokens.pop() {
            Some(ActionToken::Word(word)) if word == "index" => {
                let mut path = self.operand()?;
                while let Some(ActionToken::Quoted(_) | ActionToken::Word(_)) = self.tokens.last() {
                    match self.tokens.pop() {
                        Some(ActionToken::Quoted(key)) => path.push(key),
                        Some(ActionToken::Word(word)) if word.parse::<usize>().is_ok() => path.push(word),
                        other => return Err(other.as_ref().map_or_else(String::new, unknown)),
                    }
                }
                Ok(path)
            }
            Some(ActionToken::Word(word)) => fields(&word),
            Some(ActionToken::Open) => {
                let mut path = self.operand()?;
                if self.tokens.pop() != Some(ActionToken::Close) {
                    return Err("`(` is not closed".to_owned());
                }
                if let Some(ActionToken::Word(word)) = self.tokens.last()
                    && word.starts_with('.')
                {
                    path.extend(fields(word)?);
                    self.tokens.pop();
                }
                Ok(path)
            }
            Some(other) => Err(unknown(&other)),
            None => Err("it names nothing".to_owned()),
        }
    }
}

/// `.` or `.Field.Field`.
fn fields(word: &str) -> Result<TemplatePath, String> {
    let unknown = || unknown(&ActionToken::Word(word.to_owned()));
    match word.strip_prefix('.').ok_or_else(unknown)? {
        "" => Ok(Vec::new()),
        names
            if names
                .split('.')
                .all(|name| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')) =>
        {
            Ok(names.split('.').map(str::to_owned).collect())
        }
        _ => Err(unknown()),
    }
}

fn unknown(token: &ActionToken) -> String {
    let shown = match token {
        ActionToken::Open => "(",
        ActionToken::Close => ")",
        ActionToken::Quoted(text) | ActionToken::Word(text) => text,
    };
    format!("`{shown}` is not known here")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(template: &str) -> String {
        let value = json!({
            "Name": "n:1",
            "Manifest": {"mediaType": "m", "size": 7},
            "Image": {"linux/amd64": {"rootfs": {"diff_ids": ["a", "b"]}}, "linux/arm64": {"os": "linux"}},
        });
        match Template::parse(template, &["Name", "Manifest", "Image"]) {
            Ok(template) => template.render(&value, JsonLayout::Compact),
            Err(why) => format!("error: {why}"),
        }
    }

    #[test]
    fn paths_are_read_as_go_reads_them() {
        assert_eq!(shown("{{.Name}} of {{ .Manifest.MediaType }}\\n"), "n:1 of m\n");
        assert_eq!(shown("{{json .Manifest}}"), r#"{"mediaType":"m","size":7}"#);
        assert_eq!(shown("{{.Manifest.Size}}"), "7");
        assert_eq!(shown(r#"{{json (index .Image "linux/amd64").RootFS.DiffIDs}}"#), r#"["a","b"]"#);
        assert_eq!(shown(r#"{{index .Image "linux/amd64" "rootfs" "diff_ids" 1}}"#), "b");
        assert_eq!(shown("{{json .Manifest.Nothing}} {{.Manifest.Nothing}}"), "null <no value>");
        assert!(shown("{{json .}}").starts_with(r#"{"Image""#) || shown("{{json .}}").starts_with(r#"{"Name""#));
        assert_eq!(shown("no action"), "no action");
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert_eq!(shown("{{.Nmae}}"), "error: there is no field `.Nmae`, only .Name, .Manifest, .Image");
        assert_eq!(shown("{{range .Image}}"), "error: `range` is not known here");
        assert_eq!(shown("{{.Name | upper}}"), "error: `|` is not known here");
        assert_eq!(shown("{{json}}"), "error: it names nothing");
        assert_eq!(shown("{{.Name"), "error: `{{` is not closed");
        assert_eq!(shown("{{(.Name}}"), "error: `(` is not closed");
        assert_eq!(shown("{{.Name..X}}"), "error: `.Name..X` is not known here");
    }

    #[test]
    fn it_is_known_which_fields_a_template_shows() {
        let parse = |text: &str| Template::parse(text, &["Name", "Image"]).expect("good");
        assert!(parse("{{.Name}}").shows("Name") && !parse("{{.Name}}").shows("Image"));
        assert!(parse("{{json .}}").shows("Image") && !parse("text").shows("Name"));
    }
}
