//! `bake convert`: Compose files or a script of `docker build` lines as a bake file on standard output. What cannot be
//! translated is told on standard error, with its line.

use std::{collections::BTreeMap, io, path::Path};

use super::print;
use crate::{
    cli::{
        args::{ConvertArgs, ConvertFormat, PlanArgs, PrintFormat},
        convert::{compose, script::convert, token::ConvertNote},
        definition::{self, KeptCompose},
        entitlements::definition_reads,
        exit::{FAILED, USAGE, write},
        settings::Settings,
    },
    definition::{
        load::{Format, format_of},
        origin::{DefinitionOrigin, DefinitionReads},
        read::{read_file, read_stdin},
    },
    eval::print::bake_file::BakeFile,
    grant::ReadFault,
    report::{Diagnostic, SourceMap, Span},
    ui::output,
};

/// A Dockerfile larger than this is none, in bytes.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// Converts the files that are named, or the Compose files of the working directory.
pub(crate) fn run(args: &ConvertArgs, env: BTreeMap<String, String>, color: bool) -> u8 {
    let show = |faults: &[Diagnostic], code: u8| {
        output::diagnostics(faults, &SourceMap::default(), color);
        code
    };
    let [file] = args.files.as_slice() else {
        if args.files.iter().any(|file| file == "-") {
            let fault =
                Diagnostic::error("bake::cli::convert", "standard input is a script, and is converted alone: -");
            return show(&[fault.help("give every other file in a command of its own")], USAGE);
        }
        return definition(args, env, color);
    };
    let bytes = if file == "-" { read_stdin() } else { read_file(file, "`bake convert`") };
    let text = match bytes.map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            let at = error.utf8_error().valid_up_to();
            let message = format!("a script must be UTF-8 text, which ends at byte {at} of: {file}");
            return show(&[Diagnostic::error("bake::cli::convert", message)], FAILED);
        }
        Err(fault) => return show(&[*fault], FAILED),
    };
    if file != "-" && !is_script(file, &text) && format_of(file, &text) != Format::Hcl {
        return definition(args, env, color);
    }
    script(file, &text, args, env, color)
}

/// Whether a file says that it is a script, by its name or its first line: that of a shell can look like YAML or JSON.
fn is_script(name: &str, text: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    text.starts_with("#!") || extension.is_some_and(|it| matches!(it, "sh" | "bash" | "dash" | "ksh" | "zsh"))
}

/// Files of a definition. Compose files keep their variables; bake files are evaluated, and printed as one bake file.
fn definition(args: &ConvertArgs, env: BTreeMap<String, String>, color: bool) -> u8 {
    let settings = match settings(args.files.clone(), env, color) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let read = match definition::read_kept(&settings) {
        Ok(read) => read,
        Err(code) => return code,
    };
    match read {
        Some(KeptCompose { body, kept }) => shown(&compose::convert(&body, &kept), args.format),
        None => {
            let message = "a bake file is written with the values that its variables have now";
            let warning = Diagnostic::warning("bake::cli::convert", message)
                .help("only Compose files and scripts keep their variables: convert Compose files without bake files");
            output::diagnostics(&[warning], &SourceMap::default(), color);
            print::run(
                &settings,
                match args.format {
                    ConvertFormat::Hcl => PrintFormat::Hcl,
                    ConvertFormat::Yaml => PrintFormat::Yaml,
                },
            )
        }
    }
}

/// The settings of a run that shows all targets of these files.
fn settings(files: Vec<String>, env: BTreeMap<String, String>, color: bool) -> Result<Settings, u8> {
    let plan = PlanArgs { targets: vec!["*".to_owned()], files, ..PlanArgs::default() };
    Settings::new(plan, None, env).map_err(|faults| {
        output::diagnostics(&faults, &SourceMap::default(), color);
        USAGE
    })
}

fn shown(file: &BakeFile, format: ConvertFormat) -> u8 {
    write(&match format {
        ConvertFormat::Hcl => file.to_hcl(),
        ConvertFormat::Yaml => file.to_yaml(),
    })
}

fn script(name: &str, text: &str, args: &ConvertArgs, env: BTreeMap<String, String>, color: bool) -> u8 {
    let settings = match settings(Vec::new(), env, color) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let reads = definition_reads(&settings);
    let (file, notes) = convert(text, &|path| dockerfile(path, &reads));
    let mut sources = SourceMap::default();
    let source = sources.add(name, text);
    let place = |line: usize| {
        let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let end = start + text[start..].lines().next().map_or(0, str::len);
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { source, start: offset(start), end: offset(end) }
    };
    let warning = |note: ConvertNote| {
        Diagnostic::warning("bake::cli::convert", note.text).at(place(note.line), "in this command")
    };
    let warnings: Vec<Diagnostic> = notes.into_iter().map(warning).collect();
    output::diagnostics(&warnings, &sources, color);
    if file.blocks.is_empty() {
        let message = format!("there is no line of `docker build` that can be translated in: {name}");
        let help = "give Compose files, or a script with lines of `docker build` or `docker buildx build`";
        output::diagnostics(&[Diagnostic::error("bake::cli::convert", message).help(help)], &sources, color);
        return FAILED;
    }
    shown(&file, args.format)
}

/// The text of a Dockerfile that a script names. A script may be from elsewhere: it leads to nothing outside of the working
/// directory.
fn dockerfile(path: &str, reads: &DefinitionReads) -> Result<String, String> {
    let bytes = match reads.read(Path::new(path), &DefinitionOrigin::default()) {
        Ok(Ok(granted)) => granted.read(MAX_DOCKERFILE),
        Ok(Err(_)) => return Err(format!("it is outside of the working directory: {path}")),
        Err(error) => return Err(format!("{error}: {path}")),
    };
    let bytes = bytes.map_err(|fault| match fault {
        ReadFault::Io(error) if error.kind() == io::ErrorKind::NotFound => format!("there is no file {path}"),
        ReadFault::Io(error) => format!("{error}: {path}"),
        ReadFault::NoFile(special) => format!("{path} is {special}"),
        ReadFault::TooLarge(_) => format!("it is too large: {path}"),
    })?;
    String::from_utf8(bytes).map_err(|_| format!("it is not UTF-8 text: {path}"))
}
