//! The nodes of a builder, found by its name.

use std::path::PathBuf;

use serde_json::Value;

use super::{
    instance::{Instance, InstanceNode, InstancePlace},
    pods,
};
use crate::{
    buildkit::{
        address::{NodeAddress, PlacedAddress},
        docker_host::USUAL_SOCKET,
        setup::ConnectSetup,
    },
    grant::read_file,
    oci::{Digest, Platform},
    report::{Diagnostic, suggest},
    spec::OptionFault,
};

/// Longest file of a builder that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// What `--builder` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BuilderName {
    /// One node, by its address.
    Address(PlacedAddress),
    /// A builder of buildx, or a Docker context.
    Named(String),
    /// The builder that buildx is set to use.
    Current,
}

/// A builder whose nodes are known; none was spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Builder {
    pub(crate) name: String,
    /// How buildx reaches the nodes: remote, docker-container, docker, kubernetes; `url` for an address.
    pub(crate) driver: String,
    pub(crate) nodes: Vec<BuilderNode>,
    /// Results without an output are loaded into Docker.
    pub(crate) default_load: bool,
}

/// A node of a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuilderNode {
    pub(crate) name: String,
    pub(crate) address: NodeAddress,
    /// The platforms that it is named for; none says nothing.
    pub(crate) platforms: Vec<Platform>,
}

impl BuilderName {
    /// Reads a name or an address.
    ///
    /// # Errors
    /// It is neither.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        if text.contains("://") {
            return PlacedAddress::parse(text).map(Self::Address);
        }
        if text == "current" {
            return Ok(Self::Current);
        }
        let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'));
        if !is_name || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let fault = OptionFault::new(format!("neither the name of a builder nor the address of a node: {text}"));
            return Err(fault.help("`bake builders` lists the names; an address is a URL, as in tcp://HOST:1234"));
        }
        Ok(Self::Named(text.to_owned()))
    }

    /// Whether there is something under the name; an address is not asked.
    pub(crate) fn is_known(&self, setup: &ConnectSetup) -> bool {
        match self {
            Self::Address(_) | Self::Current => true,
            Self::Named(name) => {
                instance_file(name, setup).is_some_and(|path| path.is_file())
                    || setup.docker(|docker| docker.names()).contains(name)
            }
        }
    }
}

impl std::fmt::Display for BuilderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(placed) => write!(f, "{}", placed.address),
            Self::Named(name) => write!(f, "{name}"),
            Self::Current => write!(f, "current"),
        }
    }
}

impl Builder {
    /// Finds the nodes of a builder. Pods are asked of the cluster; else nobody is asked.
    ///
    /// # Errors
    /// There is no such builder, or its file is not good: all that is wrong.
    pub(crate) async fn find(name: &BuilderName, setup: &ConnectSetup) -> Result<Self, Vec<Diagnostic>> {
        match name {
            BuilderName::Address(PlacedAddress { address, platforms }) => {
                let (name, address, platforms) = (address.to_string(), address.clone(), platforms.clone());
                let node = BuilderNode { name: name.clone(), address, platforms };
                Ok(Self { name, driver: "url".to_owned(), nodes: vec![node], default_load: false })
            }
            BuilderName::Named(name) => Self::named(name, setup).await,
            BuilderName::Current => match current(setup)? {
                Some(name) => Self::named(&name, setup).await,
                None => Ok(of_context(&setup.docker(|docker| docker.chosen()))),
            },
        }
    }

    /// The nodes of all builders that were named, as one builder.
    ///
    /// # Errors
    /// As of [`Self::find`], of all of them.
    pub(crate) async fn fleet(names: &[BuilderName], setup: &ConnectSetup) -> Result<Self, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let mut faults = Vec::new();
        for name in names {
            match Self::find(name, setup).await {
                Ok(builder) => found.push(builder),
                Err(all) => faults.extend(all),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        if found.len() == 1 {
            return Ok(found.remove(0));
        }
        let join = |each: fn(&Self) -> &str| found.iter().map(each).collect::<Vec<_>>().join(" ");
        let (name, driver) = (join(|it| &it.name), join(|it| &it.driver));
        let default_load = found.iter().all(|builder| builder.default_load) && !found.is_empty();
        let mut nodes: Vec<BuilderNode> = Vec::new();
        for node in found.into_iter().flat_map(|builder| builder.nodes) {
            // A node that two builders have is one node.
            if !nodes.iter().any(|known| known.address == node.address) {
                nodes.push(node);
            }
        }
        Ok(Self { name, driver, nodes, default_load })
    }

    async fn named(name: &str, setup: &ConnectSetup) -> Result<Self, Vec<Diagnostic>> {
        if let Some(path) = instance_file(name, setup) {
            match read_file(&path, LONGEST) {
                Ok(text) => return Self::of_instance(Instance::parse(&path, &text)?, setup).await,
                Err(fault) if fault.is_missing() => (),
                Err(fault) => {
                    let message = format!("`{}` cannot be read", path.display());
                    return Err(vec![Diagnostic::error("bake::builder::file", message).cause(&fault)]);
                }
            }
        }
        if setup.docker(|docker| docker.names()).iter().any(|context| context == name) {
            return Ok(of_context(name));
        }
        let known = known_builders(setup);
        let all: Vec<&str> = known.iter().map(String::as_str).chain(["embedded", "current"]).collect();
        let help = suggest::did_you_mean(name, all.iter().copied())
            .unwrap_or_else(|| format!("known: {}; or write an address, as in tcp://HOST:1234", all.join(", ")));
        let message = format!("there is no builder and no Docker context of this name: {name}");
        Err(vec![Diagnostic::error("bake::builder::unknown", message).help(help)])
    }

    async fn of_instance(instance: Instance, setup: &ConnectSetup) -> Result<Self, Vec<Diagnostic>> {
        let Instance { name, driver, nodes, default_load } = instance;
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        for InstanceNode { name, place, platforms } in nodes {
            match place {
                InstancePlace::Address(address) => found.push(BuilderNode { name, address, platforms }),
                InstancePlace::Deployment(deployment) => match pods::running(&deployment, setup).await {
                    Ok(pods) => found.extend(pods.into_iter().map(|pod| BuilderNode {
                        name: pod.pod.clone(),
                        address: NodeAddress::KubePod(pod),
                        platforms: platforms.clone(),
                    })),
                    Err(fault) => faults.push(fault),
                },
            }
        }
        // Other deployments may serve.
        if found.is_empty() { Err(faults) } else { Ok(Self { name, driver, nodes: found, default_load }) }
    }
}

/// The builder that a Docker context is.
fn of_context(name: &str) -> Builder {
    let address = NodeAddress::Docker { context: Some(name.to_owned()) };
    let node = BuilderNode { name: name.to_owned(), address, platforms: Vec::new() };
    Builder { name: name.to_owned(), driver: "docker".to_owned(), nodes: vec![node], default_load: true }
}

/// The folder in which buildx keeps what it knows.
fn folder(setup: &ConnectSetup) -> Option<PathBuf> {
    let docker = || setup.docker_config.as_ref().map(|folder| folder.join("buildx"));
    setup.variable("BUILDX_CONFIG").map(PathBuf::from).or_else(docker)
}

/// The file of a builder; names differ by more than their case.
fn instance_file(name: &str, setup: &ConnectSetup) -> Option<PathBuf> {
    folder(setup).map(|folder| folder.join("instances").join(name.to_lowercase()))
}

/// The names of all builders of buildx and of all Docker contexts, in this order.
pub(crate) fn known_builders(setup: &ConnectSetup) -> Vec<String> {
    let entries = folder(setup).and_then(|folder| std::fs::read_dir(folder.join("instances")).ok());
    let entries = entries.into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    // What buildx is writing just now begins with a dot.
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names.extend(setup.docker(|docker| docker.names()));
    names
}

/// The builder that `docker buildx use` chose; `None` is that of the Docker context.
fn current(setup: &ConnectSetup) -> Result<Option<String>, Vec<Diagnostic>> {
    let Some(folder) = folder(setup) else { return Ok(None) };
    let key = match setup.docker(|docker| docker.chosen()) {
        context if context != "default" => context,
        _ => setup.variable("DOCKER_HOST").map_or_else(|| format!("unix://{USUAL_SOCKET}"), str::to_owned),
    };
    let path = folder.join("current");
    if let Ok(text) = read_file(&path, LONGEST) {
        let chosen: Value = serde_json::from_slice(&text).map_err(|error| {
            let message = format!("`{}` does not say which builder is the current one", path.display());
            let fault = Diagnostic::error("bake::builder::file", message).cause(&error);
            vec![fault.help("choose one with `docker buildx use NAME`, or name it with --builder")]
        })?;
        let name = chosen.get("Name").and_then(Value::as_str).unwrap_or_default();
        let is_global = chosen.get("Global").and_then(Value::as_bool) == Some(true);
        let is_for_key = chosen.get("Key").and_then(Value::as_str) == Some(key.as_str());
        let is_there = || instance_file(name, setup).is_some_and(|path| path.is_file());
        if !name.is_empty() && (is_global || is_for_key) && is_there() {
            return Ok(Some(name.to_owned()));
        }
        if !name.is_empty() && is_for_key {
            return Ok(None);
        }
    }
    let hash = Digest::of(key.as_bytes()).hex();
    let default = read_file(&folder.join("defaults").join(&hash[..20]), LONGEST).unwrap_or_default();
    let name = String::from_utf8_lossy(&default).trim().to_owned();
    let is_there = !name.is_empty() && instance_file(&name, setup).is_some_and(|path| path.is_file());
    Ok(is_there.then_some(name))
}
