//! RUN to a process: argument vector, heredocs, network, history text
//! (<https://docs.docker.com/reference/dockerfile/#run>).

use std::collections::BTreeSet;

use super::{lowerer::Lowerer, state::StageState};
use crate::{
    dockerfile::{
        expand::ExpandMode,
        fault::fault,
        instruction::{Heredoc, Instruction, RunInstruction},
        stage::NodeIx,
    },
    graph::{Exec, MountOp, MountOpKind, Op, SecretEnv, StepSource, StepSourceKind},
    report::{Diagnostic, Span, Spanned, hidden::MASK},
    spec::{NetworkMode, SecurityMode},
};

/// Where scripts of heredocs that begin with `#!` are mounted.
const SCRIPTS: &str = "/dev/pipes";

impl Lowerer<'_, '_> {
    /// RUN: adds a step that runs the command in the tree of the stage, with its mounts, network and variables.
    ///
    /// `from` has the node of each mount. Here-documents become the script of the shell, or files that are mounted.
    ///
    /// # Errors
    /// When the command is empty, a flag is not valid, or a variable in a flag cannot be expanded
    /// (<https://docs.docker.com/reference/dockerfile/#run>).
    pub(super) fn run_step(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        run: &RunInstruction,
        from: &[Option<NodeIx>],
    ) -> Result<(), Diagnostic> {
        let mut inputs = vec![state.tree];
        let mounted = self.mounts(state, instruction, &run.mounts, from, &mut inputs)?;
        let mut mounts = mounted.mounts;
        let (args, script) = arguments(state, run);
        mounts.extend(script);
        if args.is_empty() {
            let message = "RUN requires arguments, the array is empty".to_owned();
            return Err(fault("bake::dockerfile::arguments", message, instruction.at, "nothing to run"));
        }
        let network = self.network(run.network.as_ref(), instruction.at)?;
        let security = self.security(run.security.as_ref())?;
        let created_by = history_text(state, &args, &self.options.hidden_args);
        let mut meta = {
            let shown = self.shown_run(state, instruction, run, &mounted.secret_env);
            state.meta(self.options, instruction, &shown)
        };
        meta.ignore_cache = state.ignore_cache;
        let hostname = self.options.hostname.clone();
        let hostname = hostname.or_else(|| self.options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned());
        let sources = self.sources(&mounts, &mounted.secret_env);
        let exec = Exec {
            args,
            env: state.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            cwd: state.cwd.clone(),
            user: state.run.user.clone(),
            hostname: hostname.filter(|it| !it.is_empty()),
            network,
            security,
            mounts,
            extra_hosts: self.options.extra_hosts.clone(),
            ulimits: self.options.ulimits.clone(),
            shm_size: self.options.shm_size,
            proxy: self.proxies(state),
            secret_env: mounted.secret_env,
            sources,
            resources: self.options.resources.clone(),
        };
        let tree = self.graph.add(Op::Exec(Box::new(exec)), inputs, state.platform.clone(), meta);
        state.layer(&created_by, tree);
        Ok(())
    }

    /// The secrets and agents of a process, each with its origin in the build.
    fn sources(&self, mounts: &[MountOp], env: &[SecretEnv]) -> Vec<StepSource> {
        let source = |kind, id: &String| {
            let known = match kind {
                StepSourceKind::Secret => &self.options.secrets,
                StepSourceKind::Agent => &self.options.agents,
            };
            StepSource { kind, id: id.clone(), origin: known.get(id).cloned() }
        };
        let mounted = mounts.iter().filter_map(|mount| match &mount.kind {
            MountOpKind::Secret { id, .. } => Some(source(StepSourceKind::Secret, id)),
            MountOpKind::Ssh { id, .. } => Some(source(StepSourceKind::Agent, id)),
            _ => None,
        });
        let env = env.iter().map(|secret| source(StepSourceKind::Secret, &secret.id));
        mounted.chain(env).collect()
    }

    fn network(&self, flag: Option<&Spanned<String>>, at: Span) -> Result<NetworkMode, Diagnostic> {
        let (network, at) = match flag.map(|it| (it.value.as_str(), it.at)) {
            Some(("none", at)) => (NetworkMode::None, at),
            Some(("host", at)) => (NetworkMode::Host, at),
            _ => (self.options.network, at),
        };
        if network == NetworkMode::Host && !self.options.allow.network_host {
            return Err(not_allowed("network.host", at));
        }
        Ok(network)
    }

    fn security(&self, flag: Option<&Spanned<String>>) -> Result<SecurityMode, Diagnostic> {
        match flag {
            Some(it) if it.value == "insecure" && !self.options.allow.security_insecure => {
                Err(not_allowed("security.insecure", it.at))
            }
            Some(it) if it.value == "insecure" => Ok(SecurityMode::Insecure),
            _ => Ok(SecurityMode::Sandbox),
        }
    }

    /// The instruction for its step's name: variables shown, secret ones masked, a heredoc summarised.
    fn shown_run(
        &self,
        state: &StageState,
        instruction: &Instruction,
        run: &RunInstruction,
        secrets: &[SecretEnv],
    ) -> String {
        let mut shown = if secrets.is_empty() {
            self.shown(state, &instruction.code, ExpandMode::Display)
        } else {
            let mut masked = state.clone();
            for secret in secrets {
                masked.env.insert(secret.name.clone(), "****".to_owned());
            }
            self.shown(&masked, &instruction.code, ExpandMode::Display)
        };
        if let (true, Some(heredoc)) = (run.is_heredoc, run.heredocs.first()) {
            let mut lines = heredoc.body.trim().lines();
            let first = lines.next().unwrap_or_default();
            shown.extend([" (", first, if lines.next().is_some() { "...)" } else { ")" }]);
        }
        shown
    }
}

fn not_allowed(entitlement: &str, at: Span) -> Diagnostic {
    let message = format!("the build is not allowed to use an entitlement: {entitlement}");
    fault("bake::dockerfile::entitlement", message, at, "needs it")
        .help(format!("{entitlement} is not allowed, give `--allow {entitlement}` and `entitlements` in the target"))
}

/// The argument vector, and the mount of a script if it is one.
fn arguments(state: &StageState, run: &RunInstruction) -> (Vec<String>, Option<MountOp>) {
    if run.command.json {
        return (run.command.args.clone(), None);
    }
    let text = run.command.args.join(" ");
    let Some(first) = run.heredocs.first() else { return (state.with_shell(text), None) };
    if run.is_heredoc {
        let body = body(first);
        if !body.starts_with("#!") {
            return (state.with_shell(body), None);
        }
        let target = format!("{SCRIPTS}/{}", first.name);
        let mount = MountOp { target: target.clone(), kind: MountOpKind::Text { text: body, mode: 0o755 } };
        return (state.with_shell(target), Some(mount));
    }
    // The shell reads the bodies itself.
    let mut whole = text;
    for heredoc in &run.heredocs {
        whole.push('\n');
        whole.push_str(&unix_lines(&heredoc.body));
        whole.push_str(&heredoc.name);
    }
    (state.with_shell(whole), None)
}

/// The text of a here-document: leading tabs are dropped for `<<-`, and CR LF becomes LF if all lines end so.
pub(super) fn body(heredoc: &Heredoc) -> String {
    let text = unix_lines(&heredoc.body);
    if !heredoc.strip_tabs {
        return text;
    }
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// A script whose lines all end in CR LF was written by an editor that does so: the shell gets LF.
fn unix_lines(text: &str) -> String {
    let all = !text.is_empty() && text.split_inclusive('\n').all(|line| line.ends_with("\r\n"));
    if all { text.replace("\r\n", "\n") } else { text.to_owned() }
}

/// `RUN |2 A=1 B= /bin/sh -c make # buildkit`.
fn history_text(state: &StageState, args: &[String], hidden: &BTreeSet<String>) -> String {
    let mut text = String::from("RUN ");
    if !state.args.is_empty() {
        text.extend(["|", &state.args.len().to_string(), " "]);
        for (name, value) in &state.args {
            let value = state.env.get(name).or(value.as_ref()).map_or("", String::as_str);
            let value = if hidden.contains(name) { MASK } else { value };
            text.extend([name, "=", value, " "]);
        }
    }
    text.push_str(&args.join(" "));
    text.push_str(" # buildkit");
    text
}
