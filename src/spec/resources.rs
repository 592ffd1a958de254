//! `resources`: limits of the processes of a build, as written and as values.

use serde::{Deserialize, Serialize};

use super::{fault::OptionFault, size};
use crate::report::suggest;

/// Limits of the processes of a build, held by control groups as far as the system lets us; never part of a cache key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResourceLimits {
    /// Bytes.
    pub(crate) memory: Option<u64>,
    pub(crate) memory_swap: Option<SwapLimit>,
    pub(crate) cpu_shares: Option<i64>,
    /// Microseconds.
    pub(crate) cpu_period: Option<i64>,
    /// Microseconds in each period.
    pub(crate) cpu_quota: Option<i64>,
    /// CPUs and memory nodes as in `0-3,7`.
    pub(crate) cpuset_cpus: Option<String>,
    pub(crate) cpuset_mems: Option<String>,
}

/// Memory and swap together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SwapLimit {
    Unlimited,
    /// Bytes.
    Bytes(u64),
}

impl ResourceLimits {
    /// The names of the limits that are given, as in `resources`.
    pub(crate) fn given(&self) -> impl Iterator<Item = &'static str> {
        let Self { memory, memory_swap, cpu_shares, cpu_period, cpu_quota, cpuset_cpus, cpuset_mems } = self;
        let given = [
            memory.is_some(),
            memory_swap.is_some(),
            cpu_shares.is_some(),
            cpu_period.is_some(),
            cpu_quota.is_some(),
            cpuset_cpus.is_some(),
            cpuset_mems.is_some(),
        ];
        KEYS.into_iter().zip(given).filter(|(_, is_given)| *is_given).map(|(name, _)| name)
    }
}

impl SwapLimit {
    /// Bytes, as the kernel and OCI runtimes take them; -1 is unlimited.
    pub(crate) fn to_number(self) -> i64 {
        match self {
            Self::Unlimited => -1,
            Self::Bytes(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
        }
    }
}

/// All limits as written, as definitions merge and `--print` shows them; sizes are parsed by [`limits`](Self::limits).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResourceTexts {
    pub(crate) memory: Option<String>,
    pub(crate) memory_swap: Option<String>,
    pub(crate) cpu_shares: Option<i64>,
    pub(crate) cpu_period: Option<i64>,
    pub(crate) cpu_quota: Option<i64>,
    pub(crate) cpuset_cpus: Option<String>,
    pub(crate) cpuset_mems: Option<String>,
}

/// The keys in the order in which they are printed.
pub(crate) const KEYS: [&str; 7] =
    ["memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems"];

/// One limit as text, and whether it is a number.
pub(crate) struct ResourceEntry {
    pub(crate) key: &'static str,
    pub(crate) text: String,
    pub(crate) is_number: bool,
}

impl ResourceTexts {
    /// Sets one limit from its text.
    ///
    /// # Errors
    /// On an unknown key, or text where a whole number is wanted.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), OptionFault> {
        let whole = || {
            value.parse::<i64>().map_err(|_| {
                OptionFault::new(format!("`{key}` is not a whole number: {value}")).help("write a number, as in 512")
            })
        };
        match key {
            "memory" => self.memory = Some(value.to_owned()),
            "memory-swap" => self.memory_swap = Some(value.to_owned()),
            "cpu-shares" => self.cpu_shares = Some(whole()?),
            "cpu-period" => self.cpu_period = Some(whole()?),
            "cpu-quota" => self.cpu_quota = Some(whole()?),
            "cpuset-cpus" => self.cpuset_cpus = Some(value.to_owned()),
            "cpuset-mems" => self.cpuset_mems = Some(value.to_owned()),
            _ => return Err(Self::unknown_key(key)),
        }
        Ok(())
    }

    /// Takes a limit away; one that there is not is no fault.
    pub(crate) fn unset(&mut self, key: &str) {
        match key {
            "memory" => self.memory = None,
            "memory-swap" => self.memory_swap = None,
            "cpu-shares" => self.cpu_shares = None,
            "cpu-period" => self.cpu_period = None,
            "cpu-quota" => self.cpu_quota = None,
            "cpuset-cpus" => self.cpuset_cpus = None,
            "cpuset-mems" => self.cpuset_mems = None,
            _ => (),
        }
    }

    /// The fault of a key that no limit has.
    pub(crate) fn unknown_key(key: &str) -> OptionFault {
        let help = suggest::did_you_mean(key, KEYS).unwrap_or_else(|| format!("known limits: {}", KEYS.join(", ")));
        OptionFault::new(format!("unknown resource: {key}")).help(help)
    }

    /// Takes over what `later` sets.
    pub(crate) fn merge(&mut self, later: &Self) {
        fn take<T: Clone>(mine: &mut Option<T>, theirs: Option<&T>) {
            if let Some(theirs) = theirs {
                *mine = Some(theirs.clone());
            }
        }
        take(&mut self.memory, later.memory.as_ref());
        take(&mut self.memory_swap, later.memory_swap.as_ref());
        take(&mut self.cpu_shares, later.cpu_shares.as_ref());
        take(&mut self.cpu_period, later.cpu_period.as_ref());
        take(&mut self.cpu_quota, later.cpu_quota.as_ref());
        take(&mut self.cpuset_cpus, later.cpuset_cpus.as_ref());
        take(&mut self.cpuset_mems, later.cpuset_mems.as_ref());
    }

    /// What is set, in the order of [`KEYS`].
    pub(crate) fn entries(&self) -> Vec<ResourceEntry> {
        let text = |key, it: &Option<String>| it.clone().map(|text| ResourceEntry { key, text, is_number: false });
        let number = |key, it: Option<i64>| it.map(|n| ResourceEntry { key, text: n.to_string(), is_number: true });
        [
            text("memory", &self.memory),
            text("memory-swap", &self.memory_swap),
            number("cpu-shares", self.cpu_shares),
            number("cpu-period", self.cpu_period),
            number("cpu-quota", self.cpu_quota),
            text("cpuset-cpus", &self.cpuset_cpus),
            text("cpuset-mems", &self.cpuset_mems),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The limits; an empty size is none.
    ///
    /// # Errors
    /// When a text is not a size.
    pub(crate) fn limits(&self) -> Result<ResourceLimits, OptionFault> {
        let Self { memory, memory_swap, cpu_shares, cpu_period, cpu_quota, cpuset_cpus, cpuset_mems } = self;
        let size = |key: &str, text: &str| {
            size::parse(text).map_err(|fault| OptionFault {
                message: format!("`{key}` is {}", fault.message),
                part: text.to_owned(),
                ..fault
            })
        };
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Ok(ResourceLimits {
            memory: given(memory).map(|text| size("memory", &text)).transpose()?,
            memory_swap: match given(memory_swap).as_deref() {
                None => None,
                Some("-1") => Some(SwapLimit::Unlimited),
                Some(text) => Some(SwapLimit::Bytes(size("memory-swap", text)?)),
            },
            cpu_shares: *cpu_shares,
            cpu_period: *cpu_period,
            cpu_quota: *cpu_quota,
            cpuset_cpus: given(cpuset_cpus),
            cpuset_mems: given(cpuset_mems),
        })
    }
}
