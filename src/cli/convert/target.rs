//! One `docker build` of a script as a target of a bake file.
//!
//! What belongs to the script as a whole (variables, loops, names of images) is in `script` and `link`.

use std::collections::HashMap;

use clap::Parser as _;

use super::{
    link::DockerfilePlace,
    script::ScriptConverter,
    shell::{ShellCommand, ShellInput, Surrounding},
    word::{ExpansionKind, Word},
};
use crate::{
    cli::{
        args::{CliCommand, WithCommand},
        build_args::BuildArgs,
        command_line::{AttributeArgs, CommandLineTarget, ContextArg},
        settings::is_url,
        stdin::StdinInput,
    },
    definition::{
        attribute::{AttributeKind, Id, TARGET},
        kept::{has_reference, without_references},
    },
    eval::print::bake_file::{BakeBlock, BakeValue},
    oci::Reference,
    spec::csv,
};

/// The target of one command. Its texts keep references to variables.
#[derive(Clone, Debug)]
pub(super) struct ScriptTarget {
    pub(super) label: String,
    /// Of the command, from 1.
    pub(super) line: usize,
    pub(super) attributes: Vec<(Id, BakeValue)>,
    pub(super) tags: Vec<String>,
    pub(super) args: Vec<(String, String)>,
    pub(super) dockerfile: DockerfilePlace,
}

impl ScriptTarget {
    /// The block of the bake file.
    pub(super) fn block(mut self) -> BakeBlock {
        self.attributes.sort_by_key(|(id, _)| *id);
        // The default context need not be written.
        self.attributes.retain(|(id, value)| !(*id == Id::Context && *value == BakeValue::literal(".")));
        let attributes = self.attributes.into_iter().map(|(id, value)| (id.row().name.to_owned(), value)).collect();
        BakeBlock { kind: "target", label: self.label, attributes }
    }
}

/// An argument of a command.
struct BuildArgument {
    text: String,
    /// A variable without quotes, whose value may be several words or none.
    may_be_several: bool,
}

/// Endings of archives that can be a context on standard input.
const ARCHIVES: [&str; 7] = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".tar.zst"];

impl ScriptConverter<'_> {
    /// A command `docker build` with these arguments; `given` are the assignments in front of it.
    pub(super) fn build(&mut self, command: &ShellCommand, words: &[Word], given: &[(String, Word)]) {
        let line = command.line;
        self.tell_surroundings(command);
        let arguments: Vec<BuildArgument> = words.iter().flat_map(|word| self.arguments(word, line)).collect();
        let Some(mut args) = self.parsed(&arguments, line) else { return };
        args.outputs = self.outputs(&args.outputs, command);
        if let Some(ix) = self.exported(&args) {
            return self.export_again(&args, ix, line);
        }
        let Some((context, stdin, file)) = self.context(&mut args, command) else { return };
        let lookups = self.lookups(&args, given, line);
        let lookup = |name: &str| lookups.get(name).cloned();
        let target = match CommandLineTarget::new(&args, &context, stdin.as_ref(), lookup, None) {
            Ok(target) => target,
            Err(faults) => {
                for fault in faults {
                    let text = self.kept.shown(&fault.message);
                    self.note(line, format!("the command is left out: {text}"));
                }
                return;
            }
        };
        self.not_translated(&args, line);
        let mut attributes: Vec<(Id, BakeValue)> =
            target.attributes().map(|(id, args)| (id, attribute(id, args))).collect();
        attributes.extend(file.as_ref().map(|path| (Id::Dockerfile, BakeValue::literal(format!("cwd://{path}")))));
        self.switches(&args, &mut attributes, line);
        let dockerfile = dockerfile_place(&args, &context, stdin, file);
        let given_args = target.attributes().filter_map(|(id, args)| match args {
            AttributeArgs::Pairs(pairs) if id == Id::Args => Some(pairs),
            _ => None,
        });
        let given_args = given_args.flatten().map(|pair| (pair.name.clone(), pair.value.clone())).collect();
        let label = self.label(&args, &context);
        self.targets.push(ScriptTarget { label, line, attributes, tags: args.tags, args: given_args, dockerfile });
    }

    /// Says what the commands around a build decide in the script and not in a bake file.
    fn tell_surroundings(&mut self, command: &ShellCommand) {
        for around in &command.around {
            let text = match around {
                Surrounding::Branch { line, word } => {
                    format!(
                        "a branch of `{word}` (line {line}) becomes a target that is built in any case: name the targets to build"
                    )
                }
                Surrounding::Repeat { line } => format!("a build in a loop (line {line}) becomes one target"),
                Surrounding::Function { name, .. } => {
                    format!("a build in the function `{name}` becomes one target, however often it is called")
                }
                Surrounding::For { .. } => continue,
            };
            self.note(command.line, text);
        }
    }

    /// The arguments that a word is.
    fn arguments(&mut self, word: &Word, line: usize) -> Vec<BuildArgument> {
        let one = |text: String, may_be_several: bool| vec![BuildArgument { text, may_be_several }];
        if word.is_pattern {
            let text = format!("the shell replaces a pattern, which stays as it is written: {}", word.written());
            self.note(line, text);
        }
        let Some(expansion) = word.lone_expansion() else { return one(self.text(word, line), false) };
        let is_all = matches!(expansion.written.as_str(), "$@" | "$*") || expansion.written.ends_with("[@]}");
        if is_all {
            let text = format!("`{}` is left out: its arguments are not known here", expansion.written);
            self.note(line, text);
            return Vec::new();
        }
        if word.is_quoted {
            return one(self.text(word, line), false);
        }
        let value = self.literal_value(expansion);
        let is_several = |text: &String| text.is_empty() || text.starts_with('-') || text.contains(char::is_whitespace);
        match value.filter(is_several) {
            Some(text) => {
                let written = &expansion.written;
                self.note(line, format!("`{written}` is more than a value: its words are written out: {text}"));
                text.split_whitespace()
                    .map(|text| BuildArgument { text: text.to_owned(), may_be_several: false })
                    .collect()
            }
            None => {
                let may_be_several = !matches!(expansion.kind, ExpansionKind::Required(_));
                one(self.text(word, line), may_be_several)
            }
        }
    }

    /// The arguments as flags. If they cannot be read, variables that may be several words are left out and told.
    fn parsed(&mut self, arguments: &[BuildArgument], line: usize) -> Option<BuildArgs> {
        let read = |texts: &mut dyn Iterator<Item = String>| {
            WithCommand::try_parse_from(["bake", "build"].into_iter().map(str::to_owned).chain(texts))
        };
        let first = read(&mut arguments.iter().map(|argument| argument.text.clone()));
        let has_loose = arguments.iter().any(|argument| argument.may_be_several);
        let parsed = match first {
            Err(error) if has_loose => {
                let certain = arguments.iter().filter(|argument| !argument.may_be_several);
                let again = read(&mut certain.map(|argument| argument.text.clone()));
                if again.is_ok() {
                    for argument in arguments.iter().filter(|argument| argument.may_be_several) {
                        let shown = self.kept.shown(&argument.text);
                        self.note(line, format!("`{shown}` is left out: it may be any number of words"));
                    }
                    again
                } else {
                    Err(error)
                }
            }
            first => first,
        };
        let why = match parsed.map(|parsed| parsed.command) {
            Ok(CliCommand::Build(args)) => return Some(*args),
            Ok(_) => "it is no build".to_owned(),
            Err(error) => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
                self.kept.shown(first)
            }
        };
        self.note(line, format!("the command is left out: {why}"));
        None
    }

    /// The context as it is written (what lies on this machine says nothing about that of the script), a Dockerfile on
    /// standard input, and the file that it is read from. `None` if the command cannot be translated.
    fn context(
        &mut self,
        args: &mut BuildArgs,
        command: &ShellCommand,
    ) -> Option<(ContextArg, Option<StdinInput>, Option<String>)> {
        let line = command.line;
        let context = match args.context.as_deref() {
            None => ContextArg::Folder(".".to_owned()),
            Some("-") => ContextArg::Stdin,
            Some(text) if is_url(text) => ContextArg::Url(text.to_owned()),
            Some(text) => ContextArg::Folder(text.to_owned()),
        };
        let is_stdin_file = args.file.as_deref() == Some("-");
        if context != ContextArg::Stdin && !is_stdin_file {
            return Some((context, None, None));
        }
        let left_out = "the command is left out: ";
        match &command.input {
            Some(ShellInput::Text(text)) if context != ContextArg::Stdin || args.file.is_none() => {
                Some((context, Some(StdinInput::Dockerfile(self.text(text, line))), None))
            }
            Some(ShellInput::File(file)) => {
                let path = self.text(file, line);
                let is_archive =
                    ARCHIVES.iter().any(|ending| path.ends_with(ending)) || !(is_stdin_file || args.file.is_none());
                if is_archive {
                    let path = self.kept.shown(&path);
                    self.note(line, format!("{left_out}unpack the archive and give its folder as context: {path}"));
                    return None;
                }
                args.file = None;
                Some((context, None, Some(path)))
            }
            Some(ShellInput::Pipe | ShellInput::Text(_)) | None => {
                let text = "what is piped into standard input is not translated: write it to a file";
                self.note(line, format!("{left_out}{text}"));
                None
            }
        }
    }

    /// The values of build arguments without one: that in front of the command, of the script, or of the environment.
    fn lookups(&mut self, args: &BuildArgs, given: &[(String, Word)], line: usize) -> HashMap<String, String> {
        let mut all = HashMap::new();
        let mut unused: Vec<&String> = given.iter().map(|(name, _)| name).collect();
        for name in args.build_args.iter().filter(|text| !text.contains('=')) {
            if has_reference(name) {
                let name = self.kept.shown(name);
                self.note(line, format!("a build argument whose name is a variable is left out: {name}"));
                continue;
            }
            unused.retain(|given| *given != name);
            let value = match given.iter().rev().find(|(of, _)| of == name) {
                Some((_, word)) => self.text(word, line),
                None => self.look_up(name),
            };
            all.insert(name.clone(), value);
        }
        for name in unused.into_iter().filter(|name| *name != "DOCKER_BUILDKIT") {
            self.note(line, format!("`{name}` in front of the command is left out: set it for `bake`"));
        }
        all
    }

    /// The outputs, those on standard output as the file that it goes to.
    fn outputs(&mut self, outputs: &[String], command: &ShellCommand) -> Vec<String> {
        let mut all = Vec::new();
        for text in outputs {
            // What cannot be read is reported with the target.
            let fields = csv::fields(text).unwrap_or_default();
            let is = |wanted: &str| fields.iter().any(|field| field == wanted);
            let has_dest = fields.iter().any(|field| field.starts_with("dest=") && field != "dest=-");
            let is_archive = is("type=tar") || is("type=oci");
            let is_stdout = text == "-" || is("dest=-") || (is_archive && !has_dest);
            match &command.output {
                _ if !is_stdout => all.push(text.clone()),
                Some(file) => {
                    let file = self.text(file, command.line);
                    let kind = if text == "-" { "type=tar".to_owned() } else { String::new() };
                    let kept = fields.iter().filter(|field| !matches!(field.as_str(), "-" | "dest=-")).cloned();
                    let fields = kept.chain([kind, format!("dest={file}")]).filter(|field| !field.is_empty());
                    let quoted = |field: String| match field.contains([',', '"']) {
                        true => format!("\"{}\"", field.replace('"', "\"\"")),
                        false => field,
                    };
                    all.push(fields.map(quoted).collect::<Vec<_>>().join(","));
                }
                None => self.note(
                    command.line,
                    "an archive on standard output is not translated: give the output a file, as in type=tar,dest=FILE",
                ),
            }
        }
        all
    }

    /// The target whose image the context names. A folder of that name comes first.
    fn exported(&self, args: &BuildArgs) -> Option<usize> {
        let name = args.context.as_ref().filter(|name| is_image_name(name) && args.file.is_none())?;
        let ix = self.targets.iter().rposition(|target| target.has_tag(name))?;
        let is_folder = self.read.is_some_and(|read| read(&format!("{name}/Dockerfile")).is_ok());
        (!is_folder && args.target.is_none()).then_some(ix)
    }

    /// A command whose context is the image of another target: its outputs are outputs of that one.
    fn export_again(&mut self, args: &BuildArgs, ix: usize, line: usize) {
        let mut attributes = Vec::new();
        self.switches(args, &mut attributes, line);
        self.not_translated(args, line);
        let mut outputs: Vec<BakeValue> = args.outputs.iter().map(|text| BakeValue::literal(text.as_str())).collect();
        for (id, value) in attributes {
            match value {
                BakeValue::List(items) if id == Id::Output => outputs.extend(items),
                _ => self.note(line, format!("`{}` is left out: the image is built already", id.row().name)),
            }
        }
        let given = [
            ("--build-arg", !args.build_args.is_empty()),
            ("--build-context", !args.build_contexts.is_empty()),
            ("--label", !args.labels.is_empty()),
            ("--platform", !args.platforms.is_empty()),
        ];
        for (flag, _) in given.into_iter().filter(|(_, given)| *given) {
            self.note(line, format!("`{flag}` is left out: the image is built already"));
        }
        if outputs.is_empty() && args.tags.is_empty() {
            self.note(line, "the command is left out: it has neither an output nor a name for the image");
        }
        let target = &mut self.targets[ix];
        outputs.into_iter().for_each(|output| target.add_to_list(Id::Output, output));
        let new: Vec<&String> = args.tags.iter().filter(|tag| !target.has_tag(tag)).collect();
        new.into_iter().for_each(|tag| target.add_tag(tag));
    }

    /// Flags that are attributes of a target in another form.
    fn switches(&mut self, args: &BuildArgs, attributes: &mut Vec<(Id, BakeValue)>, line: usize) {
        let is_on = |value: &Option<String>| value.as_deref().map(|text| crate::spec::boolean(text).unwrap_or(false));
        for (id, flag) in [(Id::NoCache, &args.no_cache), (Id::Pull, &args.pull)] {
            attributes.extend(is_on(flag).filter(|on| *on).map(|on| (id, BakeValue::Bool(on))));
        }
        let mut outputs = Vec::new();
        if is_on(&args.push) == Some(true) {
            outputs.push(BakeValue::literal("type=registry"));
        }
        if is_on(&args.load) == Some(true) {
            outputs.push(BakeValue::literal("type=docker"));
        }
        let mut attests = Vec::new();
        for (kind, value) in [("sbom", &args.sbom), ("provenance", &args.provenance)] {
            let Some(text) = value.as_deref().filter(|text| !text.is_empty()) else { continue };
            let text = match crate::spec::boolean(text) {
                Ok(true) => format!("type={kind}"),
                Ok(false) => format!("type={kind},disabled=true"),
                Err(_) => format!("type={kind},{text}"),
            };
            attests.push(BakeValue::literal(text));
        }
        for (id, more) in [(Id::Output, outputs), (Id::Attest, attests)] {
            match attributes.iter_mut().find(|(known, _)| *known == id) {
                Some((_, BakeValue::List(items))) => items.extend(more),
                _ if more.is_empty() => (),
                _ => attributes.push((id, BakeValue::List(more))),
            }
        }
        if let Some(call) = &args.call {
            attributes.push((Id::Call, BakeValue::literal(call.as_str())));
        } else if is_on(&args.check) == Some(true) {
            attributes.push((Id::Call, BakeValue::literal("check")));
        }
        for (flag, why) in args.no_effect.given() {
            self.note(line, format!("`{flag}` is left out: {why}"));
        }
    }

    /// Flags that belong to the command and not to the target.
    fn not_translated(&mut self, args: &BuildArgs, line: usize) {
        let run = &args.run;
        let flags = [
            ("--progress", run.progress.is_some()),
            ("--metadata-file", run.metadata_file.is_some()),
            ("--builder", !run.builder.builders.is_empty()),
            ("--debug", run.debug),
            ("--jobs", run.jobs.is_some()),
            ("--quiet", args.quiet.is_some()),
            ("--iidfile", args.iidfile.is_some()),
            ("--allow", !args.allows.is_empty()),
        ];
        for (flag, _) in flags.into_iter().filter(|(_, given)| *given) {
            let text = match flag {
                "--iidfile" => {
                    "`--iidfile` is left out: `bake --metadata-file` writes the digests of all targets".to_owned()
                }
                "--quiet" => "`--quiet` is left out: write `bake --progress=quiet`".to_owned(),
                flag => format!("`{flag}` is left out: give it to `bake`"),
            };
            self.note(line, text);
        }
    }

    /// A name for the target that no other one has: of its stage, its image, its Dockerfile or its folder.
    fn label(&self, args: &BuildArgs, context: &ContextArg) -> String {
        let of_tag = |tag: &String| {
            let path = tag.split('@').next().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            name.split(':').next().unwrap_or_default().to_owned()
        };
        let of_file = |file: &String| {
            let name = file.rsplit('/').next().unwrap_or_default();
            name.strip_prefix("Dockerfile.").or_else(|| name.strip_suffix(".Dockerfile")).unwrap_or_default().to_owned()
        };
        let of_folder = match context {
            ContextArg::Folder(path) => path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned(),
            ContextArg::Url(_) | ContextArg::Stdin | ContextArg::Image(_) => String::new(),
        };
        let found = [
            args.tags.first().map(of_tag),
            args.target.clone(),
            args.file.as_ref().map(of_file),
            Some(of_folder),
            Some("image".to_owned()),
        ];
        let names = found.into_iter().flatten().map(|name| sanitized(&name));
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let is_free = |name: &str| self.targets.iter().all(|target| target.label != name);
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        std::iter::once(name.clone()).chain(numbered).find(|name| is_free(name)).unwrap_or(name)
    }
}

/// Whether a context can be the name of an image, and is no path or URL.
fn is_image_name(text: &str) -> bool {
    !text.starts_with(['/', '.', '~', '-'])
        && !text.ends_with('/')
        && !is_url(text)
        && !has_reference(text)
        && Reference::parse(text).is_ok()
}

/// Where the Dockerfile of a command is.
fn dockerfile_place(
    args: &BuildArgs,
    context: &ContextArg,
    stdin: Option<StdinInput>,
    file: Option<String>,
) -> DockerfilePlace {
    let file = file.or_else(|| args.file.clone());
    match (stdin, file, context) {
        (Some(StdinInput::Dockerfile(text)), ..) => DockerfilePlace::Text(text),
        (_, Some(path), ContextArg::Folder(_) | ContextArg::Stdin) => DockerfilePlace::File(path),
        (_, _, ContextArg::Folder(folder)) if folder == "." => DockerfilePlace::File("Dockerfile".to_owned()),
        (_, _, ContextArg::Folder(folder)) => {
            DockerfilePlace::File(format!("{}/Dockerfile", folder.trim_end_matches('/')))
        }
        _ => DockerfilePlace::Remote,
    }
}

fn attribute(id: Id, args: &AttributeArgs) -> BakeValue {
    match args {
        AttributeArgs::Text(given) => BakeValue::literal(given.text.as_str()),
        AttributeArgs::List(all) => {
            BakeValue::List(all.iter().map(|given| BakeValue::literal(given.text.as_str())).collect())
        }
        AttributeArgs::Pairs(all) => {
            let pairs = all.iter().map(|pair| {
                let is_count = TARGET[id as usize].kind == AttributeKind::Resources && pair.name.starts_with("cpu-");
                let number = pair.value.parse::<i64>().ok().filter(|_| is_count);
                let value =
                    number.map_or_else(|| BakeValue::literal(pair.value.as_str()), |n| BakeValue::Number(n.into()));
                (pair.name.clone(), value)
            });
            BakeValue::Map(pairs.collect())
        }
    }
}

/// A text as the name of a target: letters, digits, `_` and `-`.
fn sanitized(text: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = without_references(text).chars().map(|c| if is_kept(c) { c } else { '-' }).collect();
    name.trim_matches('-').to_owned()
}
