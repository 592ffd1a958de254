//! Targets after evaluation: no expression, inheritance or matrix is left, and every option text has been parsed.
//!
//! A fault that the peer finds when it evaluates is an error of the evaluation; one that it finds when it builds is kept
//! in [`Target::faults`]: `--print` warns of it, and a plan is refused.

use std::{fmt, sync::Arc};

use super::{
    attribute_value,
    field::{Assigned, Field, Item, TargetFields},
    outputs,
};
use crate::{
    definition::attribute,
    eval::value::types::Value,
    oci::Platform,
    report::{Diagnostic, Severity, Span, suggest},
    spec::{
        CacheExport, CacheImport, CallMethod, Entitlement, ImageTag, NetworkMode, OptionFault, OptionItem, Output,
        Policy, ResourceLimits, Secret, Ssh, Ulimit,
        annotation::{self, Annotation},
        attest::Attestations,
        boolean,
        call::Method,
        context::ContextSource,
        dockerfile::DockerfileInput,
        hosts::ExtraHost,
        output::Writes,
        policy::{CANNOT_JUDGE, POLICY_HELP, PoliciesInUse, UnnamedPolicies},
        size,
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

/// The code of a fault that another engine may not see as one: it gets the option as it is written.
pub(crate) const UNKNOWN_OPTION: &str = "bake::eval::unknown_option";

/// A name and its text.
type TextPairs = Vec<(Arc<str>, Arc<str>)>;

/// One target of the plan: every option parsed, every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: TargetName,
    /// The label of its first block.
    pub(crate) at: Span,
    /// Nobody asked for it but another target's context.
    pub(crate) is_linked: bool,
    /// What it is for.
    pub(crate) description: Option<Arc<str>>,
    pub(crate) annotations: Vec<Annotation>,
    /// What is asked for, and what comes by default.
    pub(crate) attestations: Attestations,
    pub(crate) context: ContextSource,
    pub(crate) contexts: Vec<(Arc<str>, ContextSource)>,
    pub(crate) dockerfile: DockerfileInput,
    /// By name; arguments that are null are left out.
    pub(crate) args: TextPairs,
    pub(crate) labels: TextPairs,
    pub(crate) tags: Vec<ImageTag>,
    pub(crate) cache_from: Vec<Arc<OptionItem<CacheImport>>>,
    pub(crate) cache_to: Vec<Arc<OptionItem<CacheExport>>>,
    /// The stage to build; the last one when `None`.
    pub(crate) stage: Option<Arc<str>>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) ssh: Vec<Ssh>,
    /// Without duplicates, in order; empty is the platform of the machine.
    pub(crate) platforms: Vec<Platform>,
    /// The result is one of several platforms (an index, a folder for each), even if it is one: there are several, or the
    /// build argument `BUILDKIT_MULTI_PLATFORM` says so.
    pub(crate) multi_platform: bool,
    pub(crate) outputs: Vec<Arc<OptionItem<Output>>>,
    pub(crate) no_cache: bool,
    pub(crate) network: NetworkMode,
    /// Stages for which no cached result is used.
    pub(crate) no_cache_filter: Vec<Arc<str>>,
    /// Bytes.
    pub(crate) shm_size: Option<u64>,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) resources: ResourceLimits,
    /// Of all targets with this name one step runs at a time.
    pub(crate) concurrency: Option<Arc<str>>,
    pub(crate) call: CallMethod,
    pub(crate) entitlements: Vec<Entitlement>,
    pub(crate) extra_hosts: Vec<ExtraHost>,
    /// Policies that it names are refused: this engine judges none.
    pub(crate) unnamed_policies: UnnamedPolicies,
    /// What a build refuses, and warnings for it.
    pub(crate) faults: Vec<Diagnostic>,
    /// All attributes as they are printed.
    pub(in crate::eval) fields: TargetFields,
}

impl Target {
    /// Parses the attributes of a resolved target, in which [`fill_in`](super::defaults::fill_in) has put what every
    /// target has. `host` is the platform of a target that names none; `no_default_attestations` turns off those that
    /// nobody asked for.
    pub(crate) fn new(
        name: &Arc<str>,
        at: Span,
        is_linked: bool,
        fields: TargetFields,
        world: &TargetWorld,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut parser = TargetParser { name, errors: diagnostics, faults: Vec::new() };
        let mut target = Self::empty(name, at, is_linked);
        let mut attest: &[Item] = &[];
        for assigned in fields.iter() {
            if assigned.id == Id::Attest
                && let Field::Items(items) = &assigned.field
            {
                attest = items;
            }
            parser.attribute(assigned, &mut target);
        }
        let requests = attest.iter().filter_map(|item| match item {
            Item::Attest(attest) => Some(&attest.value),
            _ => None,
        });
        target.attestations = Attestations::of(requests, world.no_default_attestations);
        target.multi_platform = parser.multi_platform(&fields, &target);
        // The checks of the outputs look at what was written of the tags.
        target.fields = fields;
        if let Some(assigned) = target.fields.get(Id::Output) {
            parser.outputs(assigned, &target, &world.host);
        }
        target.faults = parser.faults;
        target.faults.extend(target.fields.unserved.iter().cloned());
        target
    }

    fn empty(name: &Arc<str>, at: Span, is_linked: bool) -> Self {
        Self {
            name: TargetName(name.clone()),
            at,
            is_linked,
            description: None,
            annotations: Vec::new(),
            attestations: Attestations::default(),
            context: ContextSource::Local(".".to_owned()),
            contexts: Vec::new(),
            dockerfile: DockerfileInput::InContext("Dockerfile".to_owned()),
            args: Vec::new(),
            labels: Vec::new(),
            tags: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            stage: None,
            secrets: Vec::new(),
            ssh: Vec::new(),
            platforms: Vec::new(),
            multi_platform: false,
            outputs: Vec::new(),
            no_cache: false,
            network: NetworkMode::default(),
            no_cache_filter: Vec::new(),
            shm_size: None,
            concurrency: None,
            ulimits: Vec::new(),
            resources: ResourceLimits::default(),
            call: CallMethod::default(),
            entitlements: Vec::new(),
            extra_hosts: Vec::new(),
            unnamed_policies: UnnamedPolicies::default(),
            faults: Vec::new(),
            fields: TargetFields::default(),
        }
    }

    /// The places that the target is made of: its label and its attributes.
    pub(crate) fn places(&self) -> impl Iterator<Item = Span> {
        std::iter::once(self.at).chain(self.fields.iter().map(|it| it.at))
    }

    /// The place where each attribute that is set was set, by the name of the attribute.
    pub(crate) fn attribute_places(&self) -> impl Iterator<Item = (&'static str, Span)> {
        self.fields.iter().map(|assigned| (assigned.id.row().name, assigned.at))
    }

    /// The place where an attribute was set, or else the target's label.
    pub(crate) fn at(&self, id: Id) -> Span {
        self.fields.at(id).unwrap_or(self.at)
    }
}

/// The parts of the world that parsing a target may see.
#[derive(Clone, Debug)]
pub(crate) struct TargetWorld {
    /// The platform of a target that names none.
    pub(crate) host: Platform,
    /// Nothing is attested unless it is asked for.
    pub(crate) no_default_attestations: bool,
}

/// The value of `target.x.ATTRIBUTE` in an expression, from the values that the blocks of `x` give it, in order;
/// without any, null or an empty value.
///
/// # Errors
/// When there is no such attribute or a value does not fit it.
pub(crate) fn reference_value(attribute: &str, own: &[Value]) -> Result<Value, String> {
    // A matrix is used up when the names of its targets are made.
    let Some(row) = attribute::target(attribute).filter(|row| row.name != "matrix") else {
        return Err(format!("a target has no attribute `{attribute}`"));
    };
    attribute_value::reference_value(row, own)
        .map_err(|misfit| format!("`{attribute}{}`{}", misfit.path, misfit.message))
}

/// Parses the attributes of one target.
struct TargetParser<'a> {
    name: &'a str,
    /// Faults of the evaluation.
    errors: &'a mut Vec<Diagnostic>,
    /// Faults of a build.
    faults: Vec<Diagnostic>,
}

impl TargetParser<'_> {
    /// Parses one attribute into its field. Every attribute has an arm here, so that a new one cannot be forgotten.
    fn attribute(&mut self, assigned: &Assigned, target: &mut Target) {
        match (assigned.id, &assigned.field) {
            (Id::Description, Field::Text(text)) => {
                target.description = Some(text.clone()).filter(|it| !it.is_empty());
            }
            (Id::Annotations, Field::Texts(texts)) => {
                target.annotations = self.each(assigned, texts, annotation::parse).into_iter().flatten().collect();
            }
            (Id::Attest, Field::Items(items)) => {
                for (ix, item) in items.iter().enumerate() {
                    if let Item::Attest(attest) = item {
                        self.item(assigned, ix, attest);
                    }
                }
            }
            (Id::Context, Field::Text(text)) => {
                target.context = ContextSource::parse(text);
                self.no_stdin(assigned, text);
            }
            (Id::Contexts, Field::Entries(_)) => {
                target.contexts =
                    pairs(assigned).into_iter().map(|(name, text)| (name, ContextSource::parse(&text))).collect();
            }
            (Id::Dockerfile, Field::Text(text)) => {
                self.no_stdin(assigned, text);
                if !matches!(target.dockerfile, DockerfileInput::Inline(_)) {
                    target.dockerfile = DockerfileInput::parse(text);
                }
            }
            (Id::DockerfileInline, Field::Text(text)) => self.inline(assigned, text, target),
            (Id::Args, Field::Entries(_)) => target.args = pairs(assigned),
            (Id::Labels, Field::Entries(_)) => target.labels = pairs(assigned),
            (Id::Tags, Field::Texts(texts)) => target.tags = self.tags(assigned, texts),
            (Id::CacheFrom, Field::Items(items)) => {
                for (ix, item) in items.iter().enumerate() {
                    if let Item::CacheFrom(cache) = item {
                        self.item(assigned, ix, cache);
                        target.cache_from.push(cache.clone());
                    }
                }
            }
            (Id::CacheTo, Field::Items(items)) => {
                for (ix, item) in items.iter().enumerate() {
                    if let Item::CacheTo(cache) = item {
                        self.item(assigned, ix, cache);
                        target.cache_to.push(cache.clone());
                    }
                }
            }
            (Id::Target, Field::Text(text)) => target.stage = Some(text.clone()).filter(|it| !it.is_empty()),
            (Id::Secret, Field::Items(items)) => self.secrets(assigned, items, target),
            (Id::Ssh, Field::Items(items)) => {
                let ssh = items.iter().filter_map(|item| if let Item::Ssh(ssh) = item { Some(ssh) } else { None });
                target.ssh = ssh.cloned().collect();
            }
            (Id::Platforms, Field::Texts(texts)) => target.platforms = self.platforms(assigned, texts),
            (Id::Output, Field::Items(items)) => {
                let output = |item: &Item| if let Item::Output(it) = item { Some(it.clone()) } else { None };
                target.outputs = items.iter().filter_map(output).collect();
            }
            _ => self.setting(assigned, target),
        }
    }

    /// The attributes that say how steps run, and those that evaluation uses up.
    fn setting(&mut self, assigned: &Assigned, target: &mut Target) {
        match (assigned.id, &assigned.field) {
            // Registries are asked for every tag in every run: it is so whatever it says.
            (Id::Pull, Field::Bool(_)) => (),
            (Id::NoCache, Field::Bool(flag)) => target.no_cache = *flag,
            (Id::Network, Field::Text(text)) => {
                target.network = self.one(assigned, text, NetworkMode::parse).unwrap_or_default();
            }
            (Id::NoCacheFilter, Field::Texts(texts)) => {
                let stages = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
                target.no_cache_filter = stages.filter(|it| !it.is_empty()).map(Arc::from).collect();
            }
            (Id::Concurrency, Field::Text(text)) if !text.is_empty() => target.concurrency = Some(text.clone()),
            (Id::ShmSize, Field::Text(text)) if !text.is_empty() => match size::parse(text) {
                Ok(bytes) => target.shm_size = Some(bytes),
                Err(fault) => self.error(assigned, "", fault),
            },
            (Id::Ulimits, Field::Texts(texts)) => target.ulimits = self.each(assigned, texts, Ulimit::parse),
            (Id::Resources, Field::Resources(texts)) => match texts.limits() {
                Ok(limits) => target.resources = limits,
                Err(fault) => self.error(assigned, "", fault),
            },
            (Id::Call, Field::Text(text)) => {
                target.call = self.one(assigned, text, CallMethod::parse).unwrap_or_default();
            }
            (Id::Entitlements, Field::Texts(texts)) => {
                for (ix, text) in texts.iter().enumerate() {
                    match Entitlement::parse(text) {
                        Ok(entitlement) => {
                            if let Entitlement::Device(_) = entitlement {
                                let fault = OptionFault::new(format!("no step can use a device here: {text}"));
                                self.warn(assigned, &format!("[{ix}]"), of_text(fault, text));
                            }
                            target.entitlements.push(entitlement);
                        }
                        Err(fault) => self.refuse(assigned, &format!("[{ix}]"), of_text(fault, text)),
                    }
                }
            }
            (Id::ExtraHosts, Field::Entries(_)) => {
                for (name, addresses) in pairs(assigned) {
                    match ExtraHost::parse(&name, &addresses) {
                        Ok(hosts) => target.extra_hosts.extend(hosts),
                        Err(fault) => self.refuse(assigned, &format!(".{name}"), fault),
                    }
                }
            }
            (Id::Policy, Field::Items(items)) => {
                let policy = |item: &Item| if let Item::Policy(it) = item { Some(it.clone()) } else { None };
                let policies: Vec<Policy> = items.iter().filter_map(policy).collect();
                target.unnamed_policies = self.policies(assigned, &policies);
            }
            _ => (),
        }
    }

    /// An error of the evaluation. `path` says which part of the attribute it is.
    fn error(&mut self, assigned: &Assigned, path: &str, fault: OptionFault) {
        let diagnostic = self.diagnostic(assigned, path, fault);
        self.errors.push(diagnostic);
    }

    /// A fault for which a build is refused.
    fn refuse(&mut self, assigned: &Assigned, path: &str, fault: OptionFault) {
        let diagnostic = self.diagnostic(assigned, path, fault);
        self.faults.push(diagnostic);
    }

    fn diagnostic(&self, assigned: &Assigned, path: &str, fault: OptionFault) -> Diagnostic {
        let message = format!("`{}{path}` of target `{}`: {}", assigned.id.row().name, self.name, fault.message);
        let mut diagnostic = Diagnostic::error("bake::eval::bad_option", message).at_part(
            fault.at.unwrap_or(assigned.at),
            &fault.part,
            "set here",
        );
        diagnostic.help = fault.help;
        diagnostic.of([self.name]).topic(format!("{}{path}", assigned.id.row().name))
    }

    /// What is wrong with the options of an item.
    fn item<T>(&mut self, assigned: &Assigned, ix: usize, item: &OptionItem<T>) {
        for fault in &item.faults {
            self.refuse(assigned, &format!("[{ix}]"), fault.clone());
        }
        for fault in &item.unknown {
            let diagnostic = self.diagnostic(assigned, &format!("[{ix}]"), fault.clone());
            // Where a result goes is decided here, whoever makes it.
            let is_ours = matches!(fault.key.as_str(), "dest" | "tar" | "push" | "context");
            let code = if is_ours { diagnostic.code } else { UNKNOWN_OPTION };
            self.faults.push(Diagnostic { code, ..diagnostic });
        }
        for note in &item.notes {
            self.warn(assigned, &format!("[{ix}]"), note.clone());
        }
    }

    /// Tells that something has no effect on a build.
    fn warn(&mut self, assigned: &Assigned, path: &str, fault: OptionFault) {
        let diagnostic = self.diagnostic(assigned, path, fault);
        let code = "bake::eval::ignored_option";
        self.faults.push(Diagnostic { code, severity: Severity::Warning, ..diagnostic });
    }

    /// A text that only a build must have right; the empty text is not given.
    fn one<T>(&mut self, assigned: &Assigned, text: &str, parse: fn(&str) -> Result<T, OptionFault>) -> Option<T> {
        if text.is_empty() {
            return None;
        }
        parse(text).map_err(|fault| self.refuse(assigned, "", fault)).ok()
    }

    fn each<T>(
        &mut self,
        assigned: &Assigned,
        texts: &[Arc<str>],
        parse: fn(&str) -> Result<T, OptionFault>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for (ix, text) in texts.iter().enumerate() {
            match parse(text) {
                Ok(parsed) => all.push(parsed),
                Err(fault) => self.error(assigned, &format!("[{ix}]"), of_text(fault, text)),
            }
        }
        all
    }

    fn tags(&mut self, assigned: &Assigned, texts: &[Arc<str>]) -> Vec<ImageTag> {
        let mut tags = Vec::with_capacity(texts.len());
        for (ix, text) in texts.iter().enumerate() {
            match ImageTag::parse(text) {
                Ok(tag) => tags.push(tag),
                Err(fault) => self.refuse(assigned, &format!("[{ix}]"), of_text(fault, text)),
            }
        }
        tags
    }

    fn platforms(&mut self, assigned: &Assigned, texts: &[Arc<str>]) -> Vec<Platform> {
        const KNOWN: [&str; 6] =
            ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "linux/ppc64le", "linux/riscv64"];
        let mut all: Vec<Platform> = Vec::new();
        for (ix, text) in texts.iter().enumerate() {
            for one in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
                match Platform::parse(one) {
                    Ok(platform) if all.contains(&platform) => (),
                    Ok(platform) => all.push(platform),
                    Err(error) => {
                        let help = suggest::did_you_mean(one, KNOWN)
                            .unwrap_or_else(|| "write OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64".to_owned());
                        let fault = OptionFault::new(error.to_string()).help(help);
                        self.error(assigned, &format!("[{ix}]"), of_text(fault, one));
                    }
                }
            }
        }
        all
    }

    fn inline(&mut self, assigned: &Assigned, text: &Arc<str>, target: &mut Target) {
        const LARGEST: usize = 4 << 20;
        if text.is_empty() {
            return;
        }
        if text.len() > LARGEST {
            let message = format!("a Dockerfile may have {LARGEST} bytes, and this has: {}", text.len());
            self.error(assigned, "", OptionFault::new(message).help("bring data in by a context"));
        }
        target.dockerfile = DockerfileInput::Inline(text.to_string());
    }

    fn no_stdin(&mut self, assigned: &Assigned, text: &str) {
        if text == "-" {
            let help = "give a path; the text of a Dockerfile can be given as `dockerfile-inline`";
            self.error(assigned, "", OptionFault::new("stdin cannot be read here: -").help(help));
        }
    }

    fn secrets(&mut self, assigned: &Assigned, items: &[Item], target: &mut Target) {
        for (ix, item) in items.iter().enumerate() {
            let Item::Secret(secret) = item else { continue };
            if secret.id.is_empty() {
                let fault = OptionFault::new("a secret has no id")
                    .help("write id=NAME, by which RUN --mount=type=secret asks for it");
                self.error(assigned, &format!("[{ix}]"), fault);
            }
            target.secrets.push(secret.clone());
        }
    }

    /// Whether the result is one of several platforms: what `BUILDKIT_MULTI_PLATFORM` says, else how many there are.
    fn multi_platform(&mut self, fields: &TargetFields, target: &Target) -> bool {
        const NAME: &str = "BUILDKIT_MULTI_PLATFORM";
        let several = target.platforms.len() > 1;
        let given = target.args.iter().find(|(name, value)| &**name == NAME && !value.is_empty());
        let (Some((_, text)), Some(assigned)) = (given, fields.get(Id::Args)) else { return several };
        match boolean(text) {
            Ok(false) if several => {
                let fault =
                    OptionFault::new(format!("a result of several platforms is one of several platforms: {text}"));
                self.refuse(assigned, &format!(".{NAME}"), fault.help("drop it, or all of `platforms` but one"));
                several
            }
            Ok(asked) => asked,
            Err(fault) => {
                self.refuse(assigned, &format!(".{NAME}"), fault);
                several
            }
        }
    }

    /// Refuses policies that count; which others do.
    fn policies(&mut self, assigned: &Assigned, policies: &[Policy]) -> UnnamedPolicies {
        let used = match PoliciesInUse::of(policies) {
            Ok(used) => used,
            Err(fault) => {
                self.refuse(assigned, "", fault);
                return UnnamedPolicies::default();
            }
        };
        for ix in used.files {
            let file = policies[ix].filename.clone().unwrap_or_default();
            let fault = OptionFault::new(format!("{CANNOT_JUDGE}: {file}")).help(POLICY_HELP).of("filename", &file);
            self.refuse(assigned, &format!("[{ix}]"), fault);
        }
        used.unnamed
    }

    /// What is wrong with the outputs, alone and together with the rest of the target. What is only asked about is not
    /// written.
    fn outputs(&mut self, assigned: &Assigned, target: &Target, host: &Platform) {
        let mut stdout: Option<usize> = None;
        let is_built = target.call.method == Method::Build;
        for (ix, output) in target.outputs.iter().enumerate() {
            let path = format!("[{ix}]");
            if let Some(fault) = output.dest_fault() {
                self.error(assigned, &path, fault);
                continue;
            }
            if output.value.writes() == Writes::Stdout {
                if let Some(first) = stdout {
                    let fault = OptionFault::new(format!("stdout is written by `output[{first}]` already"));
                    self.error(assigned, &path, fault.help("give one of them a `dest`"));
                }
                stdout.get_or_insert(ix);
            }
            if is_built {
                self.item(assigned, ix, output);
                for fault in outputs::faults(output, target, host) {
                    self.refuse(assigned, &path, fault);
                }
            }
        }
    }
}

/// A fault of one text of a list.
fn of_text(mut fault: OptionFault, text: &str) -> OptionFault {
    if fault.part.is_empty() {
        text.clone_into(&mut fault.part);
    }
    fault
}

/// The entries that are not null.
fn pairs(assigned: &Assigned) -> TextPairs {
    let Field::Entries(entries) = &assigned.field else { return Vec::new() };
    entries.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect()
}
