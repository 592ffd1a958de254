//! `policy`: rules that sources of a build must keep, as written.

use std::collections::BTreeMap;

use super::{
    csv::{self, key_value, not_key_value},
    fault::{OptionFault, boolean},
};
use crate::report::suggest;

/// One policy in canonical form.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Policy {
    pub(crate) filename: Option<String>,
    pub(crate) reset: Option<bool>,
    pub(crate) disabled: Option<bool>,
    pub(crate) strict: Option<bool>,
    pub(crate) log_level: Option<String>,
}

/// Why a policy is refused.
pub(crate) const CANNOT_JUDGE: &str = "a policy is to be kept, which this engine cannot judge and does not build past";

/// What to do about it.
pub(crate) const POLICY_HELP: &str = "`--policy disabled=true` builds without any policy";

/// How the name of the policy file that belongs to a Dockerfile ends, after the name of that.
pub(crate) const POLICY_ENDING: &str = ".rego";

/// The policy file that belongs to a Dockerfile.
pub(crate) fn policy_of(dockerfile: &str) -> String {
    format!("{dockerfile}{POLICY_ENDING}")
}

/// Which policies count that a target does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UnnamedPolicies {
    /// That beside the Dockerfile, and that which the peer has built in, if it is switched on.
    #[default]
    All,
    /// Not that beside the Dockerfile: `reset`.
    BuiltIn,
    /// None: `disabled`.
    None,
}

/// The policies of a target that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoliciesInUse {
    /// Those with a file, by their numbers in the list.
    pub(crate) files: Vec<usize>,
    pub(crate) unnamed: UnnamedPolicies,
}

impl PoliciesInUse {
    /// Finds the policies that count: `disabled` turns all off, `reset` those before it.
    ///
    /// # Errors
    /// When `disabled` is not alone.
    pub(crate) fn of(policies: &[Policy]) -> Result<Self, OptionFault> {
        let mut used = Self { files: Vec::new(), unnamed: UnnamedPolicies::All };
        for (ix, policy) in policies.iter().enumerate() {
            // How strictly a policy is kept and what it logs says nothing without one.
            let Policy { filename, reset, disabled, strict, log_level } = policy;
            if *disabled == Some(true) {
                let is_alone = policies.len() == 1
                    && (filename, strict, log_level) == (&None, &None, &None)
                    && *reset != Some(true);
                if !is_alone {
                    let fault = OptionFault::new("`disabled=true` cannot be combined with other policies or options");
                    return Err(fault.help("drop it, or everything else of `policy`").of("disabled", "true"));
                }
                return Ok(Self { files: Vec::new(), unnamed: UnnamedPolicies::None });
            }
            if *reset == Some(true) {
                used = Self { files: Vec::new(), unnamed: UnnamedPolicies::BuiltIn };
            }
            if filename.is_some() {
                used.files.push(ix);
            }
        }
        Ok(used)
    }
}

/// What a policy is written with.
pub(crate) const KEYS: [&str; 5] = ["filename", "reset", "disabled", "strict", "log-level"];

impl Policy {
    /// Reads `filename=F,strict=B…`.
    ///
    /// # Errors
    /// On an unknown key or a bad boolean.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let mut policy = Self::default();
        for field in csv::fields(text)? {
            let (key, value) = key_value(&field).ok_or_else(|| not_key_value(&field, text))?;
            policy.set(&key, value)?;
        }
        Ok(policy)
    }

    /// Reads the object form.
    ///
    /// # Errors
    /// On an unknown key or a bad boolean.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> Result<Self, OptionFault> {
        let mut policy = Self::default();
        for (key, value) in entries {
            policy.set(key, value)?;
        }
        Ok(policy)
    }

    /// All options as text, in the order of the documentation.
    pub(crate) fn entries(&self) -> Vec<(&'static str, String)> {
        let flag = |key, value: Option<bool>| value.map(|it| (key, it.to_string()));
        [
            self.filename.clone().map(|it| ("filename", it)),
            flag("reset", self.reset),
            flag("disabled", self.disabled),
            flag("strict", self.strict),
            self.log_level.clone().map(|it| ("log-level", it)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), OptionFault> {
        let flag = || {
            boolean(value).map_err(|fault| OptionFault { message: format!("`{key}` is {}", fault.message), ..fault })
        };
        match key {
            "filename" => self.filename = Some(value.to_owned()),
            "reset" => self.reset = Some(flag()?),
            "disabled" => self.disabled = Some(flag()?),
            "strict" => self.strict = Some(flag()?),
            "log-level" => self.log_level = Some(value.to_owned()),
            _ => {
                let help =
                    suggest::did_you_mean(key, KEYS).unwrap_or_else(|| format!("known keys: {}", KEYS.join(", ")));
                return Err(OptionFault::new(format!("unknown policy key: {key}")).help(help));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_in_use_are_those_that_nothing_takes_away() {
        let used = |texts: &[&str]| {
            let policies: Vec<Policy> = texts.iter().map(|it| Policy::parse(it).expect("well formed")).collect();
            PoliciesInUse::of(&policies).map(|it| (it.files, it.unnamed)).map_err(|fault| fault.message)
        };
        assert_eq!(used(&[]), Ok((vec![], UnnamedPolicies::All)));
        assert_eq!(used(&["disabled=true"]), Ok((vec![], UnnamedPolicies::None)));
        assert_eq!(used(&["disabled=false,strict=true"]), Ok((vec![], UnnamedPolicies::All)));
        assert_eq!(used(&["filename=a", "strict=true", "filename=b"]), Ok((vec![0, 2], UnnamedPolicies::All)));
        assert_eq!(used(&["filename=a", "reset=true,filename=b"]), Ok((vec![1], UnnamedPolicies::BuiltIn)));
        let alone = "`disabled=true` cannot be combined with other policies or options";
        assert_eq!(used(&["disabled=true", "strict=true"]), Err(alone.to_owned()));
        assert_eq!(used(&["disabled=true,filename=a"]), Err(alone.to_owned()));
    }
}
