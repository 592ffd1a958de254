//! Where a plan is built: `--builder`, else `BAKE_BUILDER`, else `BUILDX_BUILDER`, else in this process.
//!
//! The builder that buildx is set to use is taken only where it is asked for, as `current`: whoever begins to use `bake` would
//! else build somewhere without having said so. For the same reason `BUILDX_BUILDER` that names the Docker context in use is
//! passed over: Docker's own command line sets it for every `docker build`.

use std::{path::PathBuf, sync::Arc};

use super::{environment::from_fault, settings::Environment};
use crate::{
    buildkit::{ConnectSetup, builder::BuilderName},
    report::Diagnostic,
    sandbox,
};

/// What builds in this process.
pub(crate) const EMBEDDED: &str = "embedded";
const FLAG: &str = "--builder";
const OWN: &str = "BAKE_BUILDER";
const PEER: &str = "BUILDX_BUILDER";

/// Where a plan is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum BuilderChoice {
    /// In this process.
    #[default]
    Embedded,
    /// On the nodes of these builders, of which there is at least one.
    Nodes(Vec<BuilderName>),
}

impl BuilderChoice {
    /// What the flags, else the environment, choose.
    pub(super) fn new(flags: &[String], env: &Environment, faults: &mut Vec<Diagnostic>) -> Self {
        let given: Vec<&str> = flags.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        let variable = |name: &str| env.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let (texts, named_by) = match (given.is_empty(), variable(OWN), variable(PEER)) {
            (false, ..) => (given, FLAG),
            (true, Some(own), _) => (vec![own], OWN),
            (true, None, Some(peer)) if !is_of_docker(peer, env) => (vec![peer], PEER),
            (true, None, _) => return Self::Embedded,
        };
        let (own, others): (Vec<&str>, Vec<&str>) = texts.iter().partition(|text| **text == EMBEDDED);
        if !own.is_empty() && !others.is_empty() {
            let message = format!("`{named_by}`: this process is no node beside others: {EMBEDDED}");
            let fault = Diagnostic::error("bake::cli::bad_builder", message);
            faults.push(fault.help(format!("leave out --builder {EMBEDDED}, or the others")));
        }
        let mut names = Vec::new();
        for text in others {
            match BuilderName::parse(text) {
                Ok(name) => names.push(name),
                Err(fault) => faults.push(from_fault("bake::cli::bad_builder", named_by, fault)),
            }
        }
        if names.is_empty() { Self::Embedded } else { Self::Nodes(names) }
    }

    /// What is chosen where `docker buildx` is served: a name that nothing stands behind is that of a builder which a script
    /// has just created, and all of these are this process. Returns the warning that says so.
    pub(super) fn of_plugin(self, setup: &ConnectSetup) -> (Self, Option<Diagnostic>) {
        let Self::Nodes(names) = &self else { return (self, None) };
        let Some(name) = names.iter().find(|name| !name.is_known(setup)) else { return (self, None) };
        let message = format!("no builder has this name, everything is built in this process: {name}");
        let warning = Diagnostic::warning("bake::cli::no_builders", message);
        (Self::Embedded, Some(warning.help("`bake builders` lists those that there are")))
    }
}

/// Whether the value of `BUILDX_BUILDER` is what Docker's command line sets by itself.
fn is_of_docker(name: &str, env: &Environment) -> bool {
    name == "default" || name == connect_setup(env).docker(|docker| docker.chosen())
}

/// What connections to nodes need.
pub(crate) fn connect_setup(env: &Environment) -> ConnectSetup {
    ConnectSetup {
        docker_config: docker_config(env),
        env: Arc::new(env.clone()),
        command: |program| sandbox::command(program),
        starts_containers: true,
    }
}

/// The folder of Docker's configuration: `DOCKER_CONFIG`, else `~/.docker`.
fn docker_config(env: &Environment) -> Option<PathBuf> {
    let set = |name: &str| env.get(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(flags: &[&str], env: &[(&str, &str)]) -> Result<String, Vec<String>> {
        let flags: Vec<String> = flags.iter().map(|&text| text.to_owned()).collect();
        let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut faults = Vec::new();
        let choice = BuilderChoice::new(&flags, &env, &mut faults);
        if !faults.is_empty() {
            return Err(faults.into_iter().map(|fault| fault.message).collect());
        }
        Ok(match choice {
            BuilderChoice::Embedded => EMBEDDED.to_owned(),
            BuilderChoice::Nodes(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        })
    }

    #[test]
    fn flags_go_before_variables_and_nothing_is_chosen_silently() {
        let chosen = |flags: &[&str], env: &[(&str, &str)]| choice(flags, env).expect("good");
        assert_eq!(chosen(&[], &[]), "embedded");
        assert_eq!(chosen(&["a", "tcp://h:1"], &[("BAKE_BUILDER", "b")]), "a tcp://h:1");
        assert_eq!(chosen(&[""], &[("BAKE_BUILDER", "b"), ("BUILDX_BUILDER", "c")]), "b");
        assert_eq!(chosen(&[], &[("BUILDX_BUILDER", "c")]), "c");
        assert_eq!(chosen(&["embedded"], &[("BAKE_BUILDER", "b")]), "embedded");
        assert_eq!(chosen(&[], &[("BAKE_BUILDER", "default"), ("BUILDX_BUILDER", "c")]), "default");
        // As Docker sets it.
        assert_eq!(chosen(&[], &[("BUILDX_BUILDER", "default")]), "embedded");
        assert_eq!(chosen(&[], &[("BUILDX_BUILDER", "far"), ("DOCKER_CONTEXT", "far")]), "embedded");
    }

    #[test]
    fn faults_name_what_gave_the_value() {
        let faults = choice(&["a b", "tpc://h:1", "embedded"], &[]).expect_err("bad");
        assert_eq!(
            faults,
            [
                "`--builder`: this process is no node beside others: embedded",
                "`--builder`: neither the name of a builder nor the address of a node: a b",
                "`--builder`: nodes are not reached by `tpc://`: tpc://h:1",
            ]
        );
        let faults = choice(&[], &[("BAKE_BUILDER", "unix://x")]).expect_err("bad");
        assert_eq!(faults, ["`BAKE_BUILDER`: the path of a socket is absolute: unix://x"]);
    }
}
