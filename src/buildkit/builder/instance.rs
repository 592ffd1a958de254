//! The file in which buildx keeps a builder (<https://docs.docker.com/build/builders/>): JSON, read into records with all of
//! its faults at once. Nothing is asked of any node.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::{
    buildkit::address::{NodeAddress, PlacedAddress},
    oci::Platform,
    report::{Diagnostic, suggest},
    spec::boolean,
};

/// What buildx calls its containers, before the name of a node.
const CONTAINER: &str = "buildx_buildkit_";
const DRIVERS: [&str; 4] = ["remote", "docker-container", "docker", "kubernetes"];
/// Driver options that are read; those that are for making a node are not.
const TLS_OPTIONS: [&str; 3] = ["cacert", "cert", "key"];

/// A builder as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) nodes: Vec<InstanceNode>,
    /// Results without an output are loaded into Docker.
    pub(super) default_load: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InstanceNode {
    pub(super) name: String,
    pub(super) place: InstancePlace,
    /// The platforms that the node is named for.
    pub(super) platforms: Vec<Platform>,
}

/// Where a node of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InstancePlace {
    Address(NodeAddress),
    /// The pods of a deployment, each a node.
    Deployment(Deployment),
}

/// A deployment in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deployment {
    /// What its pods have as the label `app`.
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// The file that says where the cluster is; `None` is kubectl's choice.
    pub(super) kubeconfig: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceFile {
    #[serde(default)]
    name: String,
    #[serde(default)]
    driver: String,
    #[serde(default)]
    nodes: Option<Vec<NodeFile>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeFile {
    #[serde(default)]
    name: String,
    #[serde(default)]
    endpoint: String,
    #[serde(default)]
    platforms: Option<Vec<PlatformFile>>,
    #[serde(default)]
    driver_opts: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct PlatformFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Instance {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = InstanceFaults { path, found: Vec::new() };
        let file: InstanceFile = match serde_json::from_slice(text) {
            Ok(file) => file,
            Err(error) => {
                faults.add(&error.to_string(), Some("remove it with `docker buildx rm`, and make the builder again"));
                return Err(faults.found);
            }
        };
        if file.name.is_empty() {
            faults.add("the builder has no name", None);
        }
        if !DRIVERS.contains(&file.driver.as_str()) {
            let help = suggest::did_you_mean(&file.driver, DRIVERS);
            let help = help.unwrap_or_else(|| format!("known: {}", DRIVERS.join(", ")));
            faults.add(&format!("nodes of this driver are not reached here: {}", file.driver), Some(&help));
        }
        let nodes = file.nodes.unwrap_or_default();
        if nodes.is_empty() {
            faults.add("the builder has no nodes", Some("add one with `docker buildx create --append`"));
        }
        let mut default_load = file.driver == "docker";
        let mut read = Vec::new();
        for (at, node) in nodes.into_iter().enumerate() {
            let options = node.driver_opts.clone().unwrap_or_default();
            if let Some(text) = options.get("default-load") {
                match boolean(text) {
                    Ok(on) => default_load |= on,
                    Err(_) => faults.add(&format!("`default-load` of node {} is not a boolean: {text}", at + 1), None),
                }
            }
            read.extend(node.read(at, &file.driver, &options, &mut faults));
        }
        if faults.found.is_empty() {
            Ok(Self { name: file.name, driver: file.driver, nodes: read, default_load })
        } else {
            Err(faults.found)
        }
    }
}

/// What is wrong with a file.
struct InstanceFaults<'a> {
    path: &'a Path,
    found: Vec<Diagnostic>,
}

impl InstanceFaults<'_> {
    fn add(&mut self, message: &str, help: Option<&str>) {
        let mut fault = Diagnostic::error("bake::builder::file", format!("`{}`: {message}", self.path.display()));
        fault.help = help.map(str::to_owned);
        self.found.push(fault);
    }
}

impl NodeFile {
    /// The node, unless something is wrong with it. `at` counts from 0.
    fn read(
        self,
        at: usize,
        driver: &str,
        options: &BTreeMap<String, String>,
        faults: &mut InstanceFaults<'_>,
    ) -> Option<InstanceNode> {
        let Self { name, endpoint, platforms, driver_opts: _ } = self;
        if name.is_empty() {
            faults.add(&format!("node {} has no name", at + 1), None);
            return None;
        }
        let mut known = Vec::new();
        for platform in platforms.unwrap_or_default() {
            let PlatformFile { architecture, os, variant } = platform;
            if os.is_empty() || architecture.is_empty() {
                faults.add(&format!("a platform of node `{name}` has no os or no architecture"), None);
            } else {
                known.push(Platform::normalised(&os, &architecture, variant.as_deref()));
            }
        }
        let context = || Some(endpoint.clone()).filter(|context| !context.is_empty());
        let place = match driver {
            "remote" => match remote(&endpoint, options) {
                Ok(placed) => {
                    known.extend(placed.platforms);
                    InstancePlace::Address(placed.address)
                }
                Err((message, help)) => {
                    faults.add(&format!("node `{name}`: {message}"), help.as_deref());
                    return None;
                }
            },
            "docker-container" => {
                let container = NodeAddress::container(&format!("{CONTAINER}{name}"), context());
                let Some(address) = container else {
                    faults.add(&format!("this is no name of a node: {name}"), None);
                    return None;
                };
                InstancePlace::Address(address)
            }
            "docker" => InstancePlace::Address(NodeAddress::Docker { context: context() }),
            "kubernetes" => InstancePlace::Deployment(deployment(&name, &endpoint, options)),
            // Told for the file as a whole.
            _ => return None,
        };
        Some(InstanceNode { name, place, platforms: known })
    }
}

/// The address of a remote node, with the files that its options name.
fn remote(endpoint: &str, options: &BTreeMap<String, String>) -> Result<PlacedAddress, (String, Option<String>)> {
    let mut placed = PlacedAddress::parse(endpoint).map_err(|fault| (fault.message, fault.help))?;
    let given = |name: &str| options.get(name).filter(|value| !value.is_empty());
    let wants_tls = TLS_OPTIONS.iter().chain(&["servername"]).any(|name| given(name).is_some());
    if let NodeAddress::Tcp { tls, .. } = &mut placed.address
        && wants_tls
    {
        let tls = tls.get_or_insert_default();
        for name in TLS_OPTIONS {
            let Some(path) = given(name) else { continue };
            if !path.starts_with('/') {
                return Err((format!("the path of `{name}` is not absolute: {path}"), None));
            }
            let file = match name {
                "cacert" => &mut tls.cacert,
                "cert" => &mut tls.cert,
                _ => &mut tls.key,
            };
            *file = Some(path.into());
        }
        tls.servername = given("servername").cloned().or(tls.servername.take());
        if tls.cert.is_some() != tls.key.is_some() {
            return Err(("`cert` and `key` come together".to_owned(), None));
        }
    }
    Ok(placed)
}

fn deployment(node: &str, endpoint: &str, options: &BTreeMap<String, String>) -> Deployment {
    let query = endpoint.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let pairs: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let given = |all: &BTreeMap<String, String>, name: &str| {
        all.get(name).filter(|value| !value.is_empty() && !value.starts_with('-')).cloned()
    };
    Deployment {
        // Names in Kubernetes have no underscore.
        name: given(&pairs, "deployment").unwrap_or_else(|| node.to_owned()).replace('_', "-"),
        namespace: given(options, "namespace").or_else(|| given(&pairs, "namespace")),
        kubeconfig: given(&pairs, "kubeconfig"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Instance, Vec<String>> {
        Instance::parse(Path::new("/b/fleet"), text.as_bytes())
            .map_err(|all| all.into_iter().map(|fault| fault.message).collect())
    }

    #[test]
    fn nodes_of_each_driver() {
        let text = |driver: &str, endpoint: &str| {
            format!(
                r#"{{"Name":"F","Driver":"{driver}","Nodes":[{{"Name":"n_0","Endpoint":"{endpoint}","Flags":null,
                "Platforms":[{{"architecture":"arm","os":"linux","variant":"v7"}}],
                "DriverOpts":{{"namespace":"ci","cacert":"/ca.pem","default-load":"true"}},"Files":null}}],"Dynamic":false}}"#
            )
        };
        let place = |driver: &str, endpoint: &str| {
            let found = read(&text(driver, endpoint)).expect(driver);
            assert_eq!(found.nodes[0].platforms, [Platform::normalised("linux", "arm", Some("v7"))]);
            assert!(found.default_load);
            found.nodes[0].place.clone()
        };
        let InstancePlace::Address(NodeAddress::Tcp { tls: Some(tls), .. }) = place("remote", "tcp://h:1") else {
            panic!("not by TLS")
        };
        assert_eq!(tls.cacert, Some("/ca.pem".into()));
        let container = NodeAddress::container("buildx_buildkit_n_0", Some("far".to_owned())).expect("a name");
        assert_eq!(place("docker-container", "far"), InstancePlace::Address(container));
        assert_eq!(place("docker", ""), InstancePlace::Address(NodeAddress::Docker { context: None }));
        let endpoint = "kubernetes:///F?deployment=n_0&kubeconfig=/k";
        let wanted = Deployment { name: "n-0".into(), namespace: Some("ci".into()), kubeconfig: Some("/k".into()) };
        assert_eq!(place("kubernetes", endpoint), InstancePlace::Deployment(wanted));
    }

    #[test]
    fn all_faults_of_a_file_are_told() {
        let text = r#"{"Driver":"remote","Nodes":[{"Name":"a","Endpoint":"tcp://h"},{"Endpoint":"unix:///s"},
            {"Name":"c","Endpoint":"tcp://h:1","DriverOpts":{"cert":"x"},"Platforms":[{"os":"linux"}]}]}"#;
        let faults = read(text).expect_err("bad");
        assert_eq!(
            faults,
            [
                "`/b/fleet`: the builder has no name",
                "`/b/fleet`: node `a`: the address names no port: tcp://h",
                "`/b/fleet`: node 2 has no name",
                "`/b/fleet`: a platform of node `c` has no os or no architecture",
                "`/b/fleet`: node `c`: the path of `cert` is not absolute: x",
            ]
        );
        assert_eq!(read(r#"{"Name":"a","Driver":"dokcer"}"#).expect_err("bad").len(), 2);
        assert_eq!(read("{").expect_err("bad").len(), 1);
    }
}
