//! `docker buildx inspect`, `ls`, `create`, `use`, `rm`, `stop`, `install`, `history`: there is one builder, in this process, and nothing
//! is recorded about a build but its results. What a script only prepares succeeds, and says that there was nothing to do.

use serde_json::{Value, json};

use crate::{
    cli::{
        exit::{FAILED, OK, write},
        plugin_args::{CreateArgs, HistoryCommand, InspectArgs, LsArgs},
        template::{JsonLayout, Template},
    },
    oci::Platform,
    report::{Diagnostic, SourceMap},
    ui::output,
};

/// The name of the builder where none is given.
const DEFAULT: &str = "default";
/// What stands for a driver and an endpoint.
const DRIVER: &str = "bake";

/// The fields of a builder in a format template, and in JSON.
const FIELDS: [&str; 10] = [
    "Name",
    "Driver",
    "DriverEndpoint",
    "Current",
    "Dynamic",
    "LastActivity",
    "Status",
    "Buildkit",
    "Platforms",
    "Nodes",
];

/// `docker buildx inspect`: the builder under the name that was asked for.
pub(crate) fn inspect(args: &InspectArgs, builder: Option<&str>, color: bool) -> u8 {
    let name = args.wanted.as_deref().or(args.builder.name.as_deref()).or(builder).unwrap_or(DEFAULT);
    let version = version();
    let platform = Platform::host();
    match args.format.as_deref() {
        None | Some("") => write(&format!(
            "Name:   {name}\nDriver: {DRIVER}\n\nNodes:\nName:             {name}\nEndpoint:         {DRIVER}\n\
             Status:           running\nBuildKit version: {version}\nPlatforms:        {platform}\n"
        )),
        Some(format) => formatted("inspect", format, name, color),
    }
}

/// `docker buildx ls`: a table, one JSON object, or what a template says.
pub(crate) fn ls(args: &LsArgs, color: bool) -> u8 {
    let platform = Platform::host();
    match args.format.as_deref() {
        None | Some("" | "table") => write(&format!(
            "NAME/NODE   DRIVER/ENDPOINT   STATUS    PLATFORMS\n{DEFAULT}*    {DRIVER}\n\\_ {DEFAULT}  {DRIVER:<16}  running   {platform}\n"
        )),
        Some(format) => formatted("ls", format, DEFAULT, color),
    }
}

/// The builder under a name as a template shows it; `json` is all of it.
fn formatted(command: &str, format: &str, name: &str, color: bool) -> u8 {
    let format = if format == "json" { "{{json .}}" } else { format };
    match Template::parse(format, &FIELDS) {
        Ok(template) => write(&(template.render(&as_json(name), JsonLayout::Compact) + "\n")),
        Err(why) => {
            let message = format!("`docker buildx {command}` does not know the format, {why}: {format}");
            refuse(color, message, "write json, or a template with {{.Field}} and {{json .Field}}")
        }
    }
}

fn as_json(name: &str) -> Value {
    let platform = Platform::host().to_string();
    let node = json!({
        "Name": name,
        "Endpoint": DRIVER,
        "Status": "running",
        "Version": version(),
        "Platforms": [platform],
    });
    json!({
        "Name": name,
        "Driver": DRIVER,
        "DriverEndpoint": DRIVER,
        "Current": true,
        "Dynamic": false,
        "LastActivity": null,
        "Status": "running",
        "Buildkit": version(),
        "Platforms": platform,
        "Nodes": [node],
    })
}

/// What stands for the version of BuildKit.
fn version() -> String {
    format!("bake-{}", env!("CARGO_PKG_VERSION"))
}

/// `docker buildx create`: prints the name of the builder, as scripts keep it.
pub(crate) fn create(args: &CreateArgs) -> u8 {
    nothing_to_do("create");
    write(&format!("{}\n", args.chosen.as_deref().unwrap_or(DEFAULT)))
}

/// `docker buildx use`, `rm`, `stop`.
pub(crate) fn prepared(command: &str) -> u8 {
    nothing_to_do(command);
    OK
}

/// `docker buildx history`: an empty list; what needs a record fails.
pub(crate) fn history(command: &HistoryCommand, color: bool) -> u8 {
    match command {
        HistoryCommand::Ls { format, .. } => match format.as_deref() {
            None | Some("" | "table") => write("BUILD ID   NAME   STATUS   CREATED AT   DURATION\n"),
            Some(_) => OK,
        },
        HistoryCommand::Rm { .. } => prepared("history rm"),
        HistoryCommand::Other(words) => {
            let word = words.first().map(String::as_str).unwrap_or_default();
            let message = format!("builds are not recorded, `docker buildx history {word}` has nothing to show");
            refuse(color, message, "--metadata-file writes the digests of a build, --progress=rawjson its events")
        }
    }
}

fn nothing_to_do(command: &str) {
    output::words(&format!(
        "docker buildx {command}: nothing to do, there is one builder and it runs in this process\n"
    ));
}

fn refuse(color: bool, message: String, help: &str) -> u8 {
    let fault = Diagnostic::error("bake::cli::buildx", message).help(help);
    output::diagnostics(&[fault], &SourceMap::default(), color);
    FAILED
}
