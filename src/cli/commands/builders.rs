//! `docker buildx inspect`, `ls`, `create`, `use`, `rm`, `stop`, `install`, `history`: builds run in this process unless `--builder`
//! names another builder, and nothing is recorded about a build but its results. What a script only prepares succeeds, and says
//! that there was nothing to do.

use serde_json::{Value, json};

use super::builder_list::{self, AskedBuilder, AskedNode, ask};
use crate::{
    buildkit::{ConnectSetup, builder::BuilderName},
    cli::{
        builder_choice::{EMBEDDED, connect_setup},
        exit::{FAILED, OK, write},
        plugin_args::{CreateArgs, HistoryCommand, InspectArgs, LsArgs},
        settings::{self, Environment},
        template::{JsonLayout, Template},
    },
    oci::Platform,
    report::{Diagnostic, SourceMap},
    ui::output,
};

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

/// A builder as the peer shows it.
struct ShownBuilder {
    name: String,
    driver: String,
    is_current: bool,
    nodes: Vec<ShownNode>,
}

struct ShownNode {
    name: String,
    endpoint: String,
    status: &'static str,
    version: String,
    platforms: Vec<String>,
    error: Option<String>,
}

impl ShownBuilder {
    /// This process, under a name.
    fn embedded(name: &str) -> Self {
        let node = ShownNode {
            name: name.to_owned(),
            endpoint: DRIVER.to_owned(),
            status: "running",
            version: version(),
            platforms: vec![Platform::host().to_string()],
            error: None,
        };
        Self { name: name.to_owned(), driver: DRIVER.to_owned(), is_current: true, nodes: vec![node] }
    }

    fn asked(asked: AskedBuilder) -> Self {
        let AskedBuilder { name, driver, nodes, faults, default_load: _ } = asked;
        let mut shown: Vec<ShownNode> = nodes.iter().map(ShownNode::asked).collect();
        shown.extend(faults.into_iter().map(|fault| ShownNode {
            name: name.clone(),
            endpoint: String::new(),
            status: "error",
            version: String::new(),
            platforms: Vec::new(),
            error: Some(fault.message),
        }));
        Self { name, driver, is_current: false, nodes: shown }
    }

    fn as_json(&self) -> Value {
        let Self { name, driver, is_current, nodes } = self;
        let first = nodes.first();
        let node = |node: &ShownNode| {
            json!({
                "Name": node.name,
                "Endpoint": node.endpoint,
                "Status": node.status,
                "Version": node.version,
                "Platforms": node.platforms,
            })
        };
        json!({
            "Name": name,
            "Driver": driver,
            "DriverEndpoint": first.map(|node| &node.endpoint),
            "Current": is_current,
            "Dynamic": false,
            "LastActivity": null,
            "Status": first.map(|node| node.status),
            "Buildkit": first.map(|node| &node.version),
            "Platforms": first.map(|node| node.platforms.join(", ")),
            "Nodes": nodes.iter().map(node).collect::<Vec<_>>(),
        })
    }
}

impl ShownNode {
    fn asked(asked: &AskedNode) -> Self {
        Self {
            name: asked.node.name.clone(),
            endpoint: asked.node.address.to_string(),
            status: asked.status(),
            version: asked.said.as_ref().map(|facts| facts.version.clone()).unwrap_or_default(),
            platforms: asked.platforms(),
            error: asked.said.as_ref().err().map(|fault| fault.message.clone()),
        }
    }
}

/// `docker buildx inspect`: the builder that was asked for. A name that nothing stands behind is this process, as scripts
/// create such builders.
pub(crate) fn inspect(args: &InspectArgs, builder: Option<&str>, env: &Environment) -> u8 {
    let name = args.wanted.as_deref().or(args.builder.name.as_deref()).or(builder).unwrap_or(EMBEDDED);
    let setup = ConnectSetup { starts_containers: args.bootstrap, ..connect_setup(env) };
    let shown = match named(name, &setup) {
        Ok(shown) => shown,
        Err(fault) => {
            output::diagnostics(&[*fault], &SourceMap::default(), settings::color(env));
            return FAILED;
        }
    };
    match args.format.as_deref() {
        None | Some("") => {
            let nodes = shown.nodes.iter().map(|node| {
                let mut text = format!(
                    "Name:             {}\nEndpoint:         {}\nStatus:           {}\nBuildKit version: {}\n\
                     Platforms:        {}\n",
                    node.name,
                    node.endpoint,
                    node.status,
                    node.version,
                    node.platforms.join(", ")
                );
                text.extend(node.error.iter().map(|error| format!("Error:            {error}\n")));
                text
            });
            let nodes = nodes.collect::<Vec<_>>().join("\n");
            write(&format!("Name:   {}\nDriver: {}\n\nNodes:\n{nodes}", shown.name, shown.driver))
        }
        Some(format) => formatted("inspect", format, &[shown], settings::color(env)),
    }
}

/// The builder under a name.
fn named(name: &str, setup: &ConnectSetup) -> Result<ShownBuilder, Box<Diagnostic>> {
    let known = BuilderName::parse(name).ok().filter(|known| name != EMBEDDED && known.is_known(setup));
    let Some(known) = known else { return Ok(ShownBuilder::embedded(name)) };
    let asked = ask(&[known], setup)?.into_iter().next();
    Ok(asked.map_or_else(|| ShownBuilder::embedded(name), ShownBuilder::asked))
}

/// `docker buildx ls`: a table, one JSON object a line, or what a template says.
pub(crate) fn ls(args: &LsArgs, env: &Environment) -> u8 {
    let setup = ConnectSetup { starts_containers: false, ..connect_setup(env) };
    let asked = match ask(&builder_list::all_names(&setup), &setup) {
        Ok(asked) => asked,
        Err(fault) => {
            output::diagnostics(&[*fault], &SourceMap::default(), settings::color(env));
            return FAILED;
        }
    };
    let all = [ShownBuilder::embedded(EMBEDDED)].into_iter().chain(asked.into_iter().map(ShownBuilder::asked));
    let all: Vec<ShownBuilder> = all.collect();
    if let Some(format) = args.format.as_deref().filter(|format| !matches!(*format, "" | "table")) {
        return formatted("ls", format, &all, settings::color(env));
    }
    let mut rows = vec![["NAME/NODE", "DRIVER/ENDPOINT", "STATUS", "PLATFORMS"].map(str::to_owned)];
    for builder in &all {
        let mark = if builder.is_current { "*" } else { "" };
        rows.push([format!("{}{mark}", builder.name), builder.driver.clone(), String::new(), String::new()]);
        for node in &builder.nodes {
            let (name, platforms) = (format!("\\_ {}", node.name), node.platforms.join(", "));
            rows.push([name, node.endpoint.clone(), node.status.to_owned(), platforms]);
        }
    }
    write(&builder_list::aligned(&rows))
}

/// Builders as a template shows them, one a line; `json` is all of it.
fn formatted(command: &str, format: &str, builders: &[ShownBuilder], color: bool) -> u8 {
    let format = if format == "json" { "{{json .}}" } else { format };
    match Template::parse(format, &FIELDS) {
        Ok(template) => {
            let lines = builders.iter().map(|it| template.render(&it.as_json(), JsonLayout::Compact) + "\n");
            write(&lines.collect::<String>())
        }
        Err(why) => {
            let message = format!("`docker buildx {command}` does not know the format, {why}: {format}");
            refuse(color, message, "write json, or a template with {{.Field}} and {{json .Field}}")
        }
    }
}

/// What stands for the version of BuildKit.
fn version() -> String {
    format!("bake-{}", env!("CARGO_PKG_VERSION"))
}

/// `docker buildx create`: prints the name of the builder, as scripts keep it.
pub(crate) fn create(args: &CreateArgs) -> u8 {
    nothing_to_do("create");
    write(&format!("{}\n", args.chosen.as_deref().unwrap_or(EMBEDDED)))
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
        "docker buildx {command}: nothing to do, builds run in this process; for another builder write --builder NAME or URL\n"
    ));
}

fn refuse(color: bool, message: String, help: &str) -> u8 {
    let fault = Diagnostic::error("bake::cli::buildx", message).help(help);
    output::diagnostics(&[fault], &SourceMap::default(), color);
    FAILED
}
