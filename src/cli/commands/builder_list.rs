//! `bake builders`: the builders that are known here, their nodes, and what each node says now. Nothing is started or changed.

use std::{fmt::Write as _, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    buildkit::{
        ConnectSetup, Connection, DockerHost,
        builder::{Builder, BuilderName, BuilderNode, NodeFacts, known_builders},
    },
    cli::{
        builder_args::BuildersArgs,
        builder_choice::{EMBEDDED, connect_setup},
        environment::from_fault,
        exit::{FAILED, OK, USAGE, write, write_json},
        settings::{Environment, color},
    },
    oci::Platform,
    report::{Diagnostic, SourceMap},
    ui::{output, terminal::harmless},
};

/// Time for all questions to a node.
const LIMIT: Duration = Duration::from_secs(5);

/// A builder, and what its nodes say.
pub(super) struct AskedBuilder {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) default_load: bool,
    pub(super) nodes: Vec<AskedNode>,
    /// Why its nodes are not known.
    pub(super) faults: Vec<Diagnostic>,
}

/// A node, and what it says.
pub(super) struct AskedNode {
    pub(super) node: BuilderNode,
    pub(super) said: Result<NodeFacts, Diagnostic>,
}

impl AskedNode {
    /// One word about it.
    pub(super) fn status(&self) -> &'static str {
        if self.said.is_ok() { "running" } else { "error" }
    }

    /// Its platforms: those that it is named for, then its own, then those that it emulates, these in brackets.
    pub(super) fn platforms(&self) -> Vec<String> {
        let facts = self.said.as_ref().ok();
        let named = &self.node.platforms;
        let of = |all: fn(&NodeFacts) -> &Vec<Platform>| facts.map(all).into_iter().flatten();
        let is_new = |platform: &&Platform| !named.contains(platform);
        let named_texts = named.iter().map(|platform| format!("{platform}*"));
        let native = of(|facts| &facts.native).filter(is_new).map(ToString::to_string);
        let emulated = of(|facts| &facts.emulated).filter(is_new).map(|platform| format!("({platform})"));
        named_texts.chain(native).chain(emulated).collect()
    }
}

/// Shows builders. Exits with 1 if one that was named cannot be used.
pub(crate) fn run(args: &BuildersArgs, env: &Environment) -> u8 {
    let mut faults = Vec::new();
    let mut wanted = Vec::new();
    for text in args.wanted.iter().filter(|text| *text != EMBEDDED) {
        match BuilderName::parse(text) {
            Ok(name) => wanted.push(name),
            Err(fault) => faults.push(from_fault("bake::cli::bad_builder", "bake builders", fault)),
        }
    }
    if !faults.is_empty() {
        output::diagnostics(&faults, &SourceMap::default(), color(env));
        return USAGE;
    }
    let setup = ConnectSetup { starts_containers: false, ..connect_setup(env) };
    let wants_all = args.wanted.is_empty();
    let wants_embedded = wants_all || args.wanted.iter().any(|text| text == EMBEDDED);
    if wants_all {
        wanted = all_names(&setup);
    }
    let asked = match ask(&wanted, &setup) {
        Ok(asked) => asked,
        Err(fault) => {
            output::diagnostics(&[*fault], &SourceMap::default(), color(env));
            return FAILED;
        }
    };
    let told = if args.json {
        let own = wants_embedded.then(embedded_json);
        let all: Vec<Value> = own.into_iter().chain(asked.iter().map(as_json)).collect();
        write_json(&format!("{:#}\n", Value::from(all)))
    } else {
        let told = write(&table(&asked, wants_embedded));
        output::diagnostics(&faults_of(&asked), &SourceMap::default(), color(env));
        told
    };
    if told == OK && !wants_all && !faults_of(&asked).is_empty() { FAILED } else { told }
}

/// The names of all builders; Docker's own context only where there is a daemon.
pub(super) fn all_names(setup: &ConnectSetup) -> Vec<BuilderName> {
    let is_there = |name: &String| match setup.docker(|docker| docker.host(Some(name))) {
        Ok(Some(DockerHost::Unix(path))) if name == "default" => path.exists(),
        _ => true,
    };
    known_builders(setup).into_iter().filter(is_there).map(BuilderName::Named).collect()
}

/// Asks all nodes of builders, at once.
///
/// # Errors
/// The system gives no way to wait.
pub(super) fn ask(names: &[BuilderName], setup: &ConnectSetup) -> Result<Vec<AskedBuilder>, Box<Diagnostic>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Box::new(Diagnostic::error("bake::cli::runtime", "nodes cannot be asked").cause(&error)))?;
    let asked = runtime.block_on(join_all(names.iter().map(|name| ask_builder(name, setup))));
    runtime.shutdown_background();
    Ok(asked)
}

async fn ask_builder(name: &BuilderName, setup: &ConnectSetup) -> AskedBuilder {
    match Builder::find(name, setup).await {
        Ok(Builder { name, driver, nodes, default_load }) => {
            let nodes = join_all(nodes.into_iter().map(|node| ask_node(node, setup))).await;
            AskedBuilder { name, driver, default_load, nodes, faults: Vec::new() }
        }
        Err(faults) => {
            let (name, driver) = (name.to_string(), String::new());
            AskedBuilder { name, driver, default_load: false, nodes: Vec::new(), faults }
        }
    }
}

async fn ask_node(node: BuilderNode, setup: &ConnectSetup) -> AskedNode {
    let asked = tokio::time::timeout(LIMIT, async {
        match Connection::open(&node.address, setup).await {
            Ok(connection) => NodeFacts::ask(&connection).await,
            Err(fault) => Err(fault.diagnostic()),
        }
    });
    let silent = || {
        let message = format!("the node at {} cannot be reached: no answer within 5 seconds", node.address);
        let fault = Diagnostic::error("bake::builder::unreachable", message);
        Err(fault.help("see whether the machine is up and a BuildKit daemon listens there"))
    };
    let said = asked.await.unwrap_or_else(|_| silent());
    AskedNode { node, said }
}

/// What is wrong with builders and nodes.
fn faults_of(asked: &[AskedBuilder]) -> Vec<Diagnostic> {
    let of_node = |node: &AskedNode| node.said.as_ref().err().cloned();
    let of_builder = |builder: &AskedBuilder| {
        builder.faults.iter().cloned().chain(builder.nodes.iter().filter_map(of_node)).collect::<Vec<_>>()
    };
    asked.iter().flat_map(of_builder).collect()
}

fn table(asked: &[AskedBuilder], has_embedded: bool) -> String {
    let mut rows = vec![["NAME/NODE", "DRIVER/ADDRESS", "STATUS", "VERSION", "BUILDS", "PLATFORMS"].map(str::to_owned)];
    if has_embedded {
        let platform = Platform::host().to_string();
        let version = env!("CARGO_PKG_VERSION");
        rows.push([EMBEDDED, "this process", "running", version, "", &platform].map(str::to_owned));
    }
    for builder in asked {
        let status = if builder.faults.is_empty() { "" } else { "error" };
        rows.push([&builder.name, &builder.driver, status, "", "", ""].map(harmless));
        for asked in &builder.nodes {
            let facts = asked.said.as_ref().ok();
            let builds = facts.and_then(|facts| facts.active_builds).map(|count| count.to_string()).unwrap_or_default();
            let version = facts.map(|facts| facts.version.clone()).unwrap_or_default();
            let (name, address) = (format!("  {}", asked.node.name), asked.node.address.to_string());
            let platforms = asked.platforms().join(", ");
            let row = [name, address, asked.status().to_owned(), version, builds, platforms];
            rows.push(row.map(|text| harmless(&text)));
        }
    }
    aligned(&rows)
}

/// Rows as lines, with columns below one another.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(text, "{}", line.trim_end()).expect("a string takes all");
    }
    text
}

fn embedded_json() -> Value {
    let node = json!({
        "name": EMBEDDED, "address": null, "status": "running", "version": env!("CARGO_PKG_VERSION"),
        "active_builds": null, "named": [], "native": [Platform::host().to_string()], "emulated": [],
        "error": null, "help": null,
    });
    json!({ "name": EMBEDDED, "driver": EMBEDDED, "default_load": false, "nodes": [node], "errors": [] })
}

fn as_json(builder: &AskedBuilder) -> Value {
    let texts = |all: &[Platform]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let node = |asked: &AskedNode| {
        let facts = asked.said.as_ref().ok();
        let fault = asked.said.as_ref().err();
        json!({
            "name": asked.node.name,
            "address": asked.node.address.to_string(),
            "status": asked.status(),
            "version": facts.map(|facts| &facts.version),
            "active_builds": facts.and_then(|facts| facts.active_builds),
            "named": texts(&asked.node.platforms),
            "native": facts.map(|facts| texts(&facts.native)).unwrap_or_default(),
            "emulated": facts.map(|facts| texts(&facts.emulated)).unwrap_or_default(),
            "error": fault.map(|fault| &fault.message),
            "help": fault.and_then(|fault| fault.help.as_ref()),
        })
    };
    json!({
        "name": builder.name,
        "driver": builder.driver,
        "default_load": builder.default_load,
        "nodes": builder.nodes.iter().map(node).collect::<Vec<_>>(),
        "errors": builder.faults.iter().map(|fault| &fault.message).collect::<Vec<_>>(),
    })
}
