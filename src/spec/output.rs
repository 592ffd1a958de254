//! `output`: which exporter writes the result, and where, as written. What the other options mean is `export`'s affair.

use std::collections::BTreeMap;

use super::{OptionFault, boolean, csv, key_value, not_key_value};

/// One output in canonical form, as `--print` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Output {
    /// As written: `image`, `registry`, `local`, `tar`, `oci`, `docker`, `cacheonly` or what nobody knows.
    pub(crate) kind: String,
    pub(crate) dest: Option<String>,
    /// The other options; keys in lower case.
    pub(crate) attrs: BTreeMap<String, String>,
}

impl Output {
    /// An output without options.
    pub(crate) fn of_kind(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }

    /// Reads `type=T,dest=D,k=v…`, a lone path, or `-`.
    ///
    /// # Errors
    /// When `type` is missing or a field is not `key=value`.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let fields = csv::fields(text)?;
        if let [only] = fields.as_slice()
            && !only.trim_start().to_lowercase().starts_with("type=")
        {
            return Self::from_lone(only);
        }
        let mut output = Self::default();
        for field in &fields {
            let (key, value) = key_value(field).ok_or_else(|| not_key_value(field, text))?;
            output.set(key, value.to_owned());
        }
        output.checked(text)
    }

    /// Reads the object form.
    ///
    /// # Errors
    /// When `type` is missing.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> Result<Self, OptionFault> {
        let mut output = Self::default();
        for (key, value) in entries {
            output.set(key.to_lowercase(), value.clone());
        }
        output.checked("")
    }

    /// All options as text, `type` and `dest` among them, sorted.
    pub(crate) fn entries(&self) -> BTreeMap<&str, &str> {
        let mut all: BTreeMap<&str, &str> = self.attrs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        all.insert("type", &self.kind);
        if let Some(dest) = &self.dest {
            all.insert("dest", dest);
        }
        all
    }

    fn from_lone(text: &str) -> Result<Self, OptionFault> {
        if text == "-" {
            return Ok(Self { dest: Some("-".to_owned()), ..Self::of_kind("tar") });
        }
        if let Some((key, _)) = text.split_once('=')
            && !key.is_empty()
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        {
            return Err(missing_type(text).help(format!(
                "write `type=local,{text}` for a directory; a path of this name is written `./{text}`"
            )));
        }
        if text.is_empty() {
            return Err(missing_type(text));
        }
        Ok(Self { dest: Some(text.to_owned()), ..Self::of_kind("local") })
    }

    fn set(&mut self, key: String, value: String) {
        match key.as_str() {
            "type" => self.kind = value,
            "dest" => self.dest = Some(value).filter(|it| !it.is_empty()),
            _ => {
                self.attrs.insert(key, value);
            }
        }
    }

    fn checked(self, text: &str) -> Result<Self, OptionFault> {
        if self.kind.is_empty() { Err(missing_type(text)) } else { Ok(self) }
    }
}

/// What can be said of `dest` without looking at the disk; asked for `--print` as well.
pub(crate) fn dest_fault(output: &Output) -> Option<OptionFault> {
    let dest = output.dest.as_deref().filter(|it| !it.is_empty());
    match (output.kind.as_str(), dest) {
        ("local", None) => {
            Some(OptionFault::new("an output of type `local` wants a `dest`").help("write type=local,dest=DIRECTORY"))
        }
        ("local", Some("-")) => Some(
            OptionFault::new("the `dest` of an output of type `local` cannot be stdout: -")
                .help("write type=tar,dest=- for a tar stream"),
        ),
        ("oci" | "docker", Some("-")) if !is_tar(output) => Some(
            OptionFault::new(format!(
                "an output of type `{}` with tar=false is a directory, not stdout: -",
                output.kind
            ))
            .help("give a directory, or drop tar=false"),
        ),
        ("oci", None) if !is_tar(output) => Some(
            OptionFault::new("an output of type `oci` with tar=false wants a `dest`")
                .help("write type=oci,tar=false,dest=DIRECTORY"),
        ),
        _ => None,
    }
}

/// What an output writes on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes<'a> {
    Nothing,
    Stdout,
    File(&'a str),
    Directory(&'a str),
}

/// What the output will write here; for a bad output `Nothing`.
pub(crate) fn writes(output: &Output) -> Writes<'_> {
    let dest = output.dest.as_deref().filter(|it| !it.is_empty());
    match (output.kind.as_str(), dest) {
        ("local", Some(dest)) if dest != "-" => Writes::Directory(dest),
        ("oci" | "docker", Some(dest)) if !is_tar(output) => Writes::Directory(dest),
        ("tar" | "oci", None) => Writes::Stdout,
        ("tar" | "oci" | "docker", Some("-")) => Writes::Stdout,
        ("tar" | "oci" | "docker", Some(dest)) => Writes::File(dest),
        _ => Writes::Nothing,
    }
}

fn is_tar(output: &Output) -> bool {
    output.attrs.get("tar").is_none_or(|text| boolean(text).unwrap_or(true))
}

fn missing_type(text: &str) -> OptionFault {
    let shown = if text.is_empty() { String::new() } else { format!(" in: {text}") };
    OptionFault::new(format!("`type` is missing{shown}"))
        .help("give a type: image, registry, local, tar, oci, docker or cacheonly")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_in_all_forms() {
        let print =
            |text: &str| Output::parse(text).map_or_else(|fault| fault.message, |it| format!("{:?}", it.entries()));
        assert_eq!(print("type=image,\"name=a,b\",Push=true"), r#"{"name": "a,b", "push": "true", "type": "image"}"#);
        assert_eq!(print("out/dir"), r#"{"dest": "out/dir", "type": "local"}"#);
        assert_eq!(print("-"), r#"{"dest": "-", "type": "tar"}"#);
        assert_eq!(print("dest=x"), "`type` is missing in: dest=x");
        assert_eq!(print("./a=b"), r#"{"dest": "./a=b", "type": "local"}"#);
        assert_eq!(print("type=local,x"), "`x` is not `key=value` in: type=local,x");
    }
}
