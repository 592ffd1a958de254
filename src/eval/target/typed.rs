//! Targets after evaluation: no expression, inheritance or matrix is left, and every option text has been read.
//!
//! [`Target::new`] is where options that only a used target must have right are checked (spec §19, O1 and O2).

use std::{fmt, sync::Arc};

use super::field::{self, Entries, Field, Item, TargetFields};
use crate::{
    definition::attribute,
    eval::value::types::Value,
    oci::Platform,
    report::{Diagnostic, Span, suggest},
    spec::{
        Attest, OptionFault, Output, Policy, RemoteCache, ResourceLimits, Secret, Ssh, Ulimit, annotation, context,
        output, size,
    },
};

/// The attributes, for those who may not see the definition.
pub(crate) use crate::definition::attribute::Id;

/// The name of a target: `[A-Za-z0-9_-]+`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TargetName(pub(crate) Arc<str>);

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One target of the plan.
///
/// *Invariant:* `fields` has a context and a Dockerfile, and agrees with what has been read from it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: TargetName,
    /// The label of its first block.
    pub(crate) at: Span,
    /// Nobody asked for it but another target's context.
    pub(crate) is_linked: bool,
    /// All attributes in canonical form, as printed.
    pub(crate) fields: TargetFields,
    /// Without duplicates, in order; empty is the platform of the machine.
    pub(crate) platforms: Vec<Platform>,
    pub(crate) ulimits: Vec<Ulimit>,
    /// Bytes.
    pub(crate) shm_size: Option<u64>,
}

impl Target {
    /// Reads the option texts of a resolved target.
    pub(crate) fn new(
        name: &Arc<str>,
        at: Span,
        is_linked: bool,
        fields: TargetFields,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut reader = TargetReader { name, at, fields: &fields, diagnostics };
        let platforms = reader.platforms();
        reader.each(Id::Annotations, annotation::check);
        let ulimits = reader.each(Id::Ulimits, Ulimit::parse);
        let shm_size = fields.text(Id::ShmSize).filter(|it| !it.is_empty()).and_then(|text| match size::parse(text) {
            Ok(bytes) => Some(bytes),
            Err(fault) => {
                reader.fault(Id::ShmSize, "", fault);
                None
            }
        });
        if let Some(Field::Resources(resources)) = fields.get(Id::Resources).map(|it| &it.field)
            && let Some((text, fault)) = resources.fault()
        {
            reader.fault_of(Id::Resources, "", text, fault);
        }
        reader.inline();
        reader.paths();
        reader.outputs();
        reader.secrets();
        Self { name: TargetName(name.clone()), at, is_linked, fields, platforms, ulimits, shm_size }
    }

    /// All places that it is made of: its label and its attributes.
    pub(crate) fn places(&self) -> impl Iterator<Item = Span> {
        std::iter::once(self.at).chain(self.fields.iter().map(|it| it.at))
    }

    /// Where an attribute was set, or else the target's label.
    pub(crate) fn at(&self, id: Id) -> Span {
        self.fields.at(id).unwrap_or(self.at)
    }

    pub(crate) fn context(&self) -> &str {
        self.fields.text(Id::Context).map_or(".", |it| it)
    }

    /// Relative to the context, or `cwd://…`.
    pub(crate) fn dockerfile(&self) -> &str {
        self.fields.text(Id::Dockerfile).map_or("Dockerfile", |it| it)
    }

    /// The text of a Dockerfile; it wins over the file.
    pub(crate) fn dockerfile_inline(&self) -> Option<&str> {
        self.text(Id::DockerfileInline)
    }

    /// The stage to build.
    pub(crate) fn stage(&self) -> Option<&str> {
        self.text(Id::Target)
    }

    pub(crate) fn description(&self) -> Option<&str> {
        self.text(Id::Description)
    }

    pub(crate) fn network(&self) -> Option<&str> {
        self.text(Id::Network)
    }

    pub(crate) fn call(&self) -> Option<&str> {
        self.text(Id::Call)
    }

    pub(crate) fn pull(&self) -> bool {
        self.fields.flag(Id::Pull).unwrap_or(false)
    }

    pub(crate) fn no_cache(&self) -> bool {
        self.fields.flag(Id::NoCache).unwrap_or(false)
    }

    /// Stages for which no cached result is used.
    pub(crate) fn no_cache_filter(&self) -> &[Arc<str>] {
        self.fields.texts(Id::NoCacheFilter)
    }

    pub(crate) fn tags(&self) -> &[Arc<str>] {
        self.fields.texts(Id::Tags)
    }

    pub(crate) fn entitlements(&self) -> &[Arc<str>] {
        self.fields.texts(Id::Entitlements)
    }

    /// `args`, `labels`, `contexts` or `extra-hosts`, nulls left out.
    pub(crate) fn entries(&self, id: Id) -> impl Iterator<Item = (&str, &str)> {
        let entries: Option<&Entries> = self.fields.entries(id).map(|it| &**it);
        entries.into_iter().flatten().filter_map(|(key, value)| value.as_deref().map(|value| (&**key, value)))
    }

    pub(crate) fn outputs(&self) -> impl Iterator<Item = &Output> {
        self.fields.items(Id::Output).iter().filter_map(|it| if let Item::Output(it) = it { Some(it) } else { None })
    }

    pub(crate) fn cache_from(&self) -> impl Iterator<Item = &RemoteCache> {
        self.fields.items(Id::CacheFrom).iter().filter_map(|it| if let Item::Cache(it) = it { Some(it) } else { None })
    }

    pub(crate) fn cache_to(&self) -> impl Iterator<Item = &RemoteCache> {
        self.fields.items(Id::CacheTo).iter().filter_map(|it| if let Item::Cache(it) = it { Some(it) } else { None })
    }

    pub(crate) fn attest(&self) -> impl Iterator<Item = &Attest> {
        self.fields.items(Id::Attest).iter().filter_map(|it| if let Item::Attest(it) = it { Some(it) } else { None })
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.fields.items(Id::Secret).iter().filter_map(|it| if let Item::Secret(it) = it { Some(it) } else { None })
    }

    pub(crate) fn ssh(&self) -> impl Iterator<Item = &Ssh> {
        self.fields.items(Id::Ssh).iter().filter_map(|it| if let Item::Ssh(it) = it { Some(it) } else { None })
    }

    pub(crate) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.fields.items(Id::Policy).iter().filter_map(|it| if let Item::Policy(it) = it { Some(it) } else { None })
    }

    pub(crate) fn resources(&self) -> ResourceLimits {
        match self.fields.get(Id::Resources).map(|it| &it.field) {
            Some(Field::Resources(it)) => (**it).clone(),
            _ => ResourceLimits::default(),
        }
    }

    fn text(&self, id: Id) -> Option<&str> {
        self.fields.text(id).map(|it| &**it).filter(|it| !it.is_empty())
    }
}

/// Cleans the context and fills in what every target has. `folder`: with file-relative paths, that of the target's file.
/// `remote`: the URL of the definition.
pub(crate) fn fill_in(
    fields: &mut TargetFields,
    at: Span,
    folder: Option<&str>,
    remote: Option<&str>,
    source_date_epoch: Option<&str>,
) {
    if let Some(contexts) = fields.entries(Id::Contexts).filter(|_| remote.is_some()) {
        let moved =
            contexts.iter().map(|(key, it)| (key.clone(), it.as_ref().map(|it| from_remote(it, remote).into())));
        let moved = Field::Entries(Arc::new(moved.collect()));
        fields.put(Id::Contexts, moved, fields.at(Id::Contexts).unwrap_or(at));
    }
    let written = fields.text(Id::Context).filter(|it| !it.is_empty()).cloned();
    let cleaned = match written.as_deref() {
        _ if remote.is_some() && !written.as_deref().is_some_and(|it| it.starts_with("cwd://")) => {
            from_remote(written.as_deref().unwrap_or("."), remote)
        }
        None => folder.map_or_else(|| ".".to_owned(), context::clean),
        Some(text) => match context::ContextSource::parse(text) {
            context::ContextSource::Local(path) => context::clean(&path),
            _ => text.to_owned(),
        },
    };
    if written.as_deref() != Some(cleaned.as_str()) {
        fields.put(Id::Context, Field::Text(cleaned.into()), fields.at(Id::Context).unwrap_or(at));
    }
    if fields.text(Id::Dockerfile).is_none_or(|it| it.is_empty()) {
        fields.put(Id::Dockerfile, Field::Text("Dockerfile".into()), fields.at(Id::Dockerfile).unwrap_or(at));
    }
    if let Some(epoch) = source_date_epoch.filter(|it| !it.is_empty()) {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let mut args = fields.entries(Id::Args).map(|it| (**it).clone()).unwrap_or_default();
        if args.get(NAME).is_none_or(Option::is_none) {
            args.insert(NAME.into(), Some(epoch.into()));
            fields.put(Id::Args, Field::Entries(Arc::new(args)), fields.at(Id::Args).unwrap_or(at));
        }
    }
}

/// A context of a remote definition: what is relative lies in the repository.
fn from_remote(text: &str, remote: Option<&str>) -> String {
    let Some(url) = remote.filter(|_| context::ContextSource::is_local_path(text) && !text.starts_with('/')) else {
        return text.to_owned();
    };
    let path = context::clean(text);
    if path == "." || !context::is_git(url) {
        return url.to_owned();
    }
    let (base, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let inside = context::clean(&format!("{subdir}/{path}"));
    format!("{base}#{reference}:{}", inside.trim_start_matches('/'))
}

/// What `target.x.ATTRIBUTE` is worth, from the values that the blocks of `x` give it, in order; without any, null or
/// what stands for nothing.
///
/// # Errors
/// When there is no such attribute or a value does not fit it.
pub(crate) fn reference_value(attribute: &str, own: &[Value]) -> Result<Value, String> {
    // A matrix is used up when the names of its targets are made.
    let Some(row) = attribute::target(attribute).filter(|row| row.name != "matrix") else {
        return Err(format!("a target has no attribute `{attribute}`"));
    };
    field::reference_value(row, own).map_err(|misfit| format!("`{attribute}{}`{}", misfit.path, misfit.message))
}

struct TargetReader<'a> {
    name: &'a str,
    at: Span,
    fields: &'a TargetFields,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl TargetReader<'_> {
    fn fault(&mut self, id: Id, path: &str, fault: OptionFault) {
        self.fault_of(id, path, "", fault);
    }

    /// `part` is the text that is at fault, of all that the attribute holds.
    fn fault_of(&mut self, id: Id, path: &str, part: &str, fault: OptionFault) {
        let row = id.row();
        let mut diagnostic = Diagnostic::error(
            "bake::eval::bad_option",
            format!("`{}{path}` of target `{}`: {}", row.name, self.name, fault.message),
        )
        .at_part(self.fields.at(id).unwrap_or(self.at), part, "set here");
        diagnostic.help = fault.help;
        self.diagnostics.push(diagnostic);
    }

    fn each<T>(&mut self, id: Id, parse: fn(&str) -> Result<T, OptionFault>) -> Vec<T> {
        let mut all = Vec::new();
        for (ix, text) in self.fields.texts(id).iter().enumerate() {
            match parse(text) {
                Ok(it) => all.push(it),
                Err(fault) => self.fault_of(id, &format!("[{ix}]"), text, fault),
            }
        }
        all
    }

    fn platforms(&mut self) -> Vec<Platform> {
        let mut all: Vec<Platform> = Vec::new();
        for (ix, text) in self.fields.texts(Id::Platforms).iter().enumerate() {
            for one in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
                match Platform::parse(one) {
                    Ok(platform) if all.contains(&platform) => (),
                    Ok(platform) => all.push(platform),
                    Err(error) => {
                        let known = [
                            "linux/amd64",
                            "linux/arm64",
                            "linux/arm/v7",
                            "linux/s390x",
                            "linux/ppc64le",
                            "linux/riscv64",
                        ];
                        let help = suggest::did_you_mean(one, known)
                            .unwrap_or_else(|| "write OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64".to_owned());
                        let fault = OptionFault::new(error.to_string()).help(help);
                        self.fault_of(Id::Platforms, &format!("[{ix}]"), one, fault);
                    }
                }
            }
        }
        all
    }

    fn inline(&mut self) {
        const LARGEST: usize = 4 << 20;
        if let Some(text) = self.fields.text(Id::DockerfileInline)
            && text.len() > LARGEST
        {
            let fault =
                OptionFault::new(format!("a Dockerfile may have {LARGEST} bytes, and this has: {}", text.len()));
            self.fault(Id::DockerfileInline, "", fault.help("bring data in by a context"));
        }
    }

    fn paths(&mut self) {
        for (id, text) in
            [(Id::Context, self.fields.text(Id::Context)), (Id::Dockerfile, self.fields.text(Id::Dockerfile))]
        {
            if text.is_some_and(|it| &**it == "-") {
                let help = "give a path; the text of a Dockerfile can be given as `dockerfile-inline`";
                self.fault(id, "", OptionFault::new("stdin cannot be read here: -").help(help));
            }
        }
    }

    fn outputs(&mut self) {
        let mut stdout: Option<usize> = None;
        for (ix, item) in self.fields.items(Id::Output).iter().enumerate() {
            let Item::Output(it) = item else { continue };
            let path = format!("[{ix}]");
            if let Some(fault) = output::dest_fault(it) {
                self.fault(Id::Output, &path, fault);
            } else if output::writes(it) == output::Writes::Stdout {
                if let Some(first) = stdout {
                    let fault = OptionFault::new(format!("stdout is written by `output[{first}]` already"));
                    self.fault(Id::Output, &path, fault.help("give one of them a `dest`"));
                }
                stdout.get_or_insert(ix);
            }
        }
    }

    fn secrets(&mut self) {
        for (ix, item) in self.fields.items(Id::Secret).iter().enumerate() {
            if let Item::Secret(it) = item
                && it.id.is_empty()
            {
                let fault = OptionFault::new("a secret has no id")
                    .help("write id=NAME, by which RUN --mount=type=secret asks for it");
                self.fault(Id::Secret, &format!("[{ix}]"), fault);
            }
        }
    }
}
