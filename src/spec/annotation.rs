//! `annotations`: `[TYPE[PLATFORM],…:]KEY=VALUE`.

use super::OptionFault;
use crate::{oci::Platform, report::suggest};

const LEVELS: [&str; 4] = ["manifest", "manifest-descriptor", "index", "index-descriptor"];

/// Checks one annotation; the exporter reads it.
///
/// # Errors
/// Without `=`, on an unknown type or a bad platform.
pub(crate) fn check(text: &str) -> Result<(), OptionFault> {
    let form = "write KEY=VALUE or TYPE:KEY=VALUE, as in index,manifest[linux/amd64]:org.example.a=1";
    let (key, _) =
        text.split_once('=').ok_or_else(|| OptionFault::new(format!("not an annotation: {text}")).help(form))?;
    match key.split_once(':') {
        Some((levels, _)) => levels.split(',').try_for_each(|it| level(it, text)),
        None => Ok(()),
    }
}

fn level(text: &str, whole: &str) -> Result<(), OptionFault> {
    let (name, platform) = match text.split_once('[') {
        Some((name, rest)) => {
            let inner = rest.strip_suffix(']');
            let open = || OptionFault::new(format!("`[` is not closed in the annotation: {whole}"));
            (name, Some(inner.ok_or_else(open)?))
        }
        None => (text, None),
    };
    if let Some(Err(error)) = platform.map(Platform::parse) {
        return Err(OptionFault::new(format!("{error} in the annotation: {whole}")));
    }
    if LEVELS.contains(&name) {
        return Ok(());
    }
    let help = suggest::did_you_mean(name, LEVELS).unwrap_or_else(|| format!("known types: {}", LEVELS.join(", ")));
    Err(OptionFault::new(format!("`{name}` is not an annotation type: {whole}")).help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_name_their_levels() {
        for good in ["index,manifest[linux/amd64]:a.b=c=d", "a=1"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let message = |text: &str| check(text).expect_err("bad").message;
        assert_eq!(message("layer:a=1"), "`layer` is not an annotation type: layer:a=1");
        assert_eq!(message("index[linux/amd64:a=1"), "`[` is not closed in the annotation: index[linux/amd64:a=1");
        assert_eq!(message("a"), "not an annotation: a");
    }
}
