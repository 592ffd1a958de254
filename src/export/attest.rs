//! Which attestations an export writes, decided before the build from the options of `attest`.
//!
//! The statements themselves are made in `assemble`, from the facts of a build.

use super::request::Attestations;

/// The statements wanted about each platform of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statements {
    pub(super) provenance: Option<ProvenancePlan>,
}

impl Statements {
    pub(super) const fn is_empty(&self) -> bool {
        self.provenance.is_none()
    }
}

/// PackSettings provenance is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProvenancePlan {
    pub(super) max: bool,
    pub(super) v1: bool,
    pub(super) builder_id: String,
    pub(super) filename: String,
    pub(super) reproducible: bool,
}

/// Whether attestations were asked for, rather than coming by default.
pub(super) fn explicit(attest: &Attestations) -> bool {
    let provenance = attest.provenance.as_ref().is_some_and(|it| !it.by_default && !is_off(&it.options));
    provenance || attest.sbom.as_ref().is_some_and(|it| !is_off(it))
}

/// What is to be written; `inline` when the exporter keeps what is marked as inline only.
///
/// # Errors
/// The text names the option and its value.
pub(super) fn statements(attest: &Attestations, inline: bool) -> Result<Statements, String> {
    if attest.sbom.as_ref().is_some_and(|it| !is_off(it)) {
        let why = "an sbom needs a scanner, which this engine does not run yet; drop it from `attest`";
        return Err(why.to_owned());
    }
    let Some(wanted) = attest.provenance.as_ref().filter(|it| !is_off(&it.options)) else {
        return Ok(Statements::default());
    };
    let mut plan = ProvenancePlan {
        max: !wanted.by_default,
        v1: true,
        builder_id: String::new(),
        filename: "provenance.json".to_owned(),
        reproducible: false,
    };
    let mut inline_only = wanted.by_default;
    for (key, value) in &wanted.options {
        let flag = || match value.as_str() {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(format!("provenance: `{key}` is neither true nor false: {other}")),
        };
        match (key.as_str(), value.as_str()) {
            ("mode", "min") => plan.max = false,
            ("mode", "max" | "") => plan.max = true,
            ("mode", other) => return Err(format!("provenance: `mode` is neither min nor max: {other}")),
            ("version", "v1" | "") => plan.v1 = true,
            ("version", "v0.2") => plan.v1 = false,
            ("version", other) => return Err(format!("provenance: `version` is neither v1 nor v0.2: {other}")),
            ("builder-id", id) => id.clone_into(&mut plan.builder_id),
            ("filename", name) if !name.is_empty() => {
                if name.contains('/') || matches!(name, "." | "..") {
                    return Err(format!("provenance: `filename` is a path: {name}"));
                }
                name.clone_into(&mut plan.filename);
            }
            ("reproducible", _) => plan.reproducible = flag()?,
            ("inline-only", _) => inline_only = flag()?,
            _ => {}
        }
    }
    Ok(Statements { provenance: Some(plan).filter(|_| inline || !inline_only) })
}

fn is_off(options: &[(String, String)]) -> bool {
    options.iter().any(|(key, value)| key == "disabled" && !matches!(value.as_str(), "0" | "f" | "F" | "false"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::request::ProvenanceWanted;

    fn wanted(options: &[(&str, &str)], by_default: bool) -> Attestations {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Attestations { provenance: Some(ProvenanceWanted { options, by_default, at: None }), sbom: None }
    }

    #[test]
    fn the_default_is_kept_inline_only() {
        let default = wanted(&[], true);
        assert!(statements(&default, false).expect("good").is_empty());
        assert!(!statements(&default, true).expect("good").provenance.expect("inline").max);
        assert!(statements(&wanted(&[], false), false).expect("good").provenance.expect("asked for").max);
        assert!(statements(&wanted(&[("disabled", "true")], false), true).expect("good").is_empty());
        assert!(!explicit(&default) && explicit(&wanted(&[], false)));
    }

    #[test]
    fn bad_options_are_named() {
        let bad = |key, value| statements(&wanted(&[(key, value)], false), true).expect_err("bad");
        assert!(bad("mode", "huge").contains("huge"));
        assert!(bad("version", "v9").contains("v9"));
        assert!(bad("filename", "../x").contains("../x"));
    }
}
