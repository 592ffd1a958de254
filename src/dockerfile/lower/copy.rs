//! COPY and ADD to file operations: kinds of sources, flags, heredocs, `--link`
//! (<https://docs.docker.com/reference/dockerfile/#copy>).

use super::{
    lowerer::Lowerer,
    meta::{join, owner},
    mount::input,
    state::SourceTree,
    state::StageState,
};
use crate::{
    dockerfile::{
        check,
        expand::ExpandMode,
        fault::fault,
        instruction::{self, Instruction},
        options::NamedContext,
        remote::{self, GitReference},
        stage::NodeIx,
        value,
    },
    graph::{self, File, FileAction, HttpOp, Meta, Op, OwnerChange},
    oci::ModeChange,
    report::{Diagnostic, Span, Spanned, url::without_credentials},
    spec::pattern::Patterns,
};

/// The flags that apply to all sources of a COPY or ADD.
struct CopyFlags {
    owner: Option<OwnerChange>,
    mode: Option<ModeChange>,
    exclude: Vec<String>,
    checksum: Option<Spanned<String>>,
}

impl Lowerer<'_, '_> {
    /// COPY and ADD: adds a step that copies each source, download, repository and here-document to the destination, in
    /// order.
    ///
    /// `from` is what [`InstructionSources`](crate::dockerfile::stage::InstructionSources) has for this instruction.
    /// With `--link` (and no `--chmod`) the step works on an empty tree that is then merged, so that the copy does not depend
    /// on the layers below.
    ///
    /// # Errors
    /// When a variable cannot be expanded, or a flag, source or checksum is not valid
    /// (<https://docs.docker.com/reference/dockerfile/#copy>).
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        copy: &instruction::CopyInstruction,
        from: &[Option<NodeIx>],
    ) -> Result<(), Diagnostic> {
        let mut text = String::from(if copy.is_add { "ADD" } else { "COPY" });
        let flags = self.flags(state, instruction, copy, &mut text)?;
        let before = std::mem::replace(&mut self.is_guess, false);
        let mut sources = Vec::with_capacity(copy.sources.len());
        for source in &copy.sources {
            sources.push(Spanned::new(self.word(state, instruction, source)?, source.at));
        }
        self.guesses_sources |= self.is_guess;
        self.is_guess |= before;
        let written_dest = self.word(state, instruction, &copy.dest)?;
        if let Some(checksum) = &flags.checksum {
            check_checksum(checksum, copy, &sources)?;
        }
        let dest = destination(&state.cwd, &written_dest);
        let shown = without_credentials(&self.shown(state, &instruction.code, ExpandMode::Word)).into_owned();
        let mut meta = state.meta(self.options, instruction, &shown);
        meta.ignore_cache = state.ignore_cache;

        let link = copy.link && flags.mode.is_none();
        if link && let (Some(owner), Some(chown)) = (&flags.owner, &copy.chown) {
            check_linked_owner(owner, chown.at)?;
        }
        let below = if link { self.scratch(&state.platform.clone()) } else { state.tree };
        let mut inputs = vec![below];
        let mut actions = Vec::with_capacity(sources.len() + copy.heredocs.len());
        for source in &sources {
            text.push(' ');
            text.push_str(&without_credentials(&source.value));
            let (source, path, unpack) = self.source(instruction, copy, source, &flags, from, &meta)?;
            actions.push(FileAction::Copy(Box::new(graph::CopyAction {
                input: input(&mut inputs, source.vertex),
                source: path,
                dest: dest.clone(),
                owner: flags.owner.clone(),
                mode: flags.mode.clone(),
                unpack,
                parents: copy.parents,
                exclude: flags.exclude.clone(),
                optional: false,
                reset_owner: source.reset_owner,
                default_file_mode: source.file_mode,
            })));
        }
        for heredoc in &copy.heredocs {
            text.push_str(" <<");
            text.push_str(&heredoc.name);
            let body: String = if heredoc.strip_tabs {
                heredoc.body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
            } else {
                heredoc.body.clone()
            };
            let body = if heredoc.expand {
                self.text(state, instruction, &body, instruction.at, ExpandMode::Body)?
            } else {
                body
            };
            actions.push(FileAction::Mkfile {
                dest: dest.clone(),
                name: heredoc.name.clone(),
                text: body,
                mode: flags.mode.clone(),
                owner: flags.owner.clone(),
            });
        }
        text.push(' ');
        text.push_str(&written_dest);
        text.push_str(" # buildkit");
        let platform = state.platform.clone();
        let linked = link.then(|| Meta { name: format!("{} (link)", meta.name), ..meta.clone() });
        let mut tree = self.graph.add(Op::File(File { actions }), inputs, platform.clone(), meta);
        if let Some(meta) = linked {
            tree = self.graph.add(Op::Merge, vec![state.tree, tree], platform, meta);
        }
        state.layer(&text, tree);
        Ok(())
    }

    /// Expands and checks the flags; those that history shows are added to its text.
    fn flags(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        copy: &instruction::CopyInstruction,
        text: &mut String,
    ) -> Result<CopyFlags, Diagnostic> {
        let given = |it: String| (!it.is_empty()).then_some(it);
        let mut expand = |flag: &Option<Spanned<String>>| match flag {
            Some(word) => Ok(given(self.word(state, instruction, word)?).map(|it| Spanned::new(it, word.at))),
            None => Ok(None),
        };
        let chown = expand(&copy.chown)?;
        let chmod = expand(&copy.chmod)?;
        let checksum = expand(&copy.checksum)?;
        if copy.parents {
            text.push_str(" --parents");
        }
        if let Some(chown) = &chown {
            text.extend([" --chown=", &chown.value]);
        }
        let mode = match &chmod {
            Some(chmod) => {
                text.extend([" --chmod=", &chmod.value]);
                let mode = value::mode(&chmod.value);
                Some(mode.map_err(|why| fault("bake::dockerfile::bad_chmod", why, chmod.at, "this mode"))?)
            }
            None => None,
        };
        for pattern in &copy.exclude {
            Patterns::new(&[&pattern.value]).map_err(|why| {
                let message = format!("malformed `--exclude`, {why}");
                fault("bake::dockerfile::bad_exclude", message, pattern.at, "this pattern")
            })?;
        }
        Ok(CopyFlags {
            owner: chown.map(|it| owner(&it.value, false)),
            mode,
            exclude: copy.exclude.iter().map(|it| it.value.clone()).collect(),
            checksum,
        })
    }

    /// Where a source comes from, the path in it, and whether archives are unpacked.
    fn source(
        &mut self,
        instruction: &Instruction,
        copy: &instruction::CopyInstruction,
        source: &Spanned<String>,
        flags: &CopyFlags,
        from: &[Option<NodeIx>],
        meta: &Meta,
    ) -> Result<(SourceTree, String, bool), Diagnostic> {
        let text = &source.value;
        let refuse = |what: &str| {
            let message = format!("a source of COPY cannot be {what}, use ADD: {}", without_credentials(text));
            Err(fault("bake::dockerfile::remote_source", message, source.at, "this source"))
        };
        if let Some(git) = remote::git(text, false) {
            if !copy.is_add {
                return refuse("a git repository");
            }
            let git = git.map_err(|why| {
                fault("bake::dockerfile::bad_git_source", format!("bad git source, {why}"), source.at, "this source")
            })?;
            return self.git(copy, git, source, flags, meta).map(|source| (source, "/".to_owned(), false));
        }
        if remote::is_http(text) {
            if !copy.is_add {
                return refuse("a URL");
            }
            let checksum = flags.checksum.as_ref().map(|it| it.value.parse().expect("it was checked"));
            let filename = remote::file_name(text);
            let op = Op::Http(HttpOp { url: text.clone(), checksum, filename: filename.clone(), unpack: false });
            let vertex = self.graph.add(op, Vec::new(), self.options.build_platform.clone(), download(meta));
            let source = SourceTree { vertex, reset_owner: false, file_mode: Some(0o600) };
            return Ok((source, format!("/{filename}"), copy.unpack.unwrap_or(false)));
        }
        let unpack = copy.unpack.unwrap_or(copy.is_add);
        let Some(node) = from.first().copied().flatten() else {
            if !self.is_guess {
                self.check_ignored(instruction, text);
            }
            return Ok((self.main_source(), text.clone(), unpack));
        };
        let found = self.source_of(node).ok_or_else(|| {
            let name = &self.nodes.list[node].label;
            let message = format!("cannot copy from a stage that comes later in the file: {name}");
            let at = copy.from.as_ref().map_or(instruction.at, |it| it.at);
            fault("bake::dockerfile::later_stage", message, at, "used here")
                .help("move the stage before the one that uses it")
        })?;
        Ok((found, text.clone(), unpack))
    }

    /// The tree of a node for COPY `--from` and mounts; `None` if the node has not been lowered.
    pub(super) fn source_of(&self, node: NodeIx) -> Option<SourceTree> {
        self.states[node].as_ref().map(|it| it.source.clone())
    }

    fn git(
        &mut self,
        copy: &instruction::CopyInstruction,
        found: GitReference,
        source: &Spanned<String>,
        flags: &CopyFlags,
        meta: &Meta,
    ) -> Result<SourceTree, Diagnostic> {
        let mut git = found.git;
        match (copy.keep_git_dir, found.keep_git_dir) {
            (Some(flag), Some(query)) if flag != query => {
                let url = without_credentials(&source.value);
                let message = format!("`--keep-git-dir` and the query of the URL disagree: {url}");
                return Err(fault("bake::dockerfile::bad_git_source", message, source.at, "this source"));
            }
            (flag, query) => git.keep_git_dir = flag.or(query).unwrap_or(false),
        }
        if let Some(checksum) = &flags.checksum {
            if git.checksum.as_ref().is_some_and(|it| *it != checksum.value) {
                let message = format!("`--checksum` and the query of the URL disagree: {}", checksum.value);
                return Err(fault("bake::dockerfile::bad_checksum", message, checksum.at, "this flag"));
            }
            git.checksum = Some(checksum.value.clone());
        }
        let vertex = self.graph.add(Op::Git(git), Vec::new(), self.options.build_platform.clone(), download(meta));
        Ok(SourceTree::tree(vertex))
    }

    fn check_ignored(&mut self, instruction: &Instruction, path: &str) {
        let NamedContext::Local(local) = &self.options.main else { return };
        if local.ignore.is_empty() {
            return;
        }
        if self.ignored.is_none() {
            self.ignored = Some(Patterns::new(&local.ignore).unwrap_or_default());
        }
        if let Some(patterns) = &self.ignored {
            check::copy_ignored_file::check_source(&mut self.report, instruction, path, patterns);
        }
    }
}

/// Refuses names of users and groups, but root: `--link` copies onto an empty tree, which has no files to look them up in.
fn check_linked_owner(owner: &OwnerChange, at: Span) -> Result<(), Diagnostic> {
    let is_name = |text: &str| text != "root" && !text.bytes().all(|it| it.is_ascii_digit());
    let names = std::iter::once(owner.user.as_str()).chain(owner.group.as_deref());
    let Some(name) = names.into_iter().find(|name| is_name(name)) else { return Ok(()) };
    let message = format!("`--link` cannot look up a name of `--chown`, it does not see the layers below: {name}");
    let help = "use numbers, such as `--chown=1000:1000`, or leave out `--link`";
    Err(fault("bake::dockerfile::linked_owner", message, at, "this owner").help(help))
}

/// The meta of the download that a step begins with.
fn download(meta: &Meta) -> Meta {
    Meta { name: format!("{} (download)", meta.name), ..meta.clone() }
}

/// A destination as an absolute, clean path; a trailing slash or `/.` says that it is a directory.
fn destination(cwd: &str, written: &str) -> String {
    let is_dir = matches!(written, "" | "." | "..") || written.ends_with('/') || written.ends_with("/.");
    let path = join(cwd, written);
    let path = if path.starts_with('/') { path } else { join("/", &path) };
    if is_dir && !path.ends_with('/') { format!("{path}/") } else { path }
}

fn check_checksum(
    checksum: &Spanned<String>,
    copy: &instruction::CopyInstruction,
    sources: &[Spanned<String>],
) -> Result<(), Diagnostic> {
    let bad = |message: String| Err(fault("bake::dockerfile::bad_checksum", message, checksum.at, "this checksum"));
    let [source] = sources else {
        return bad(format!("a checksum is for exactly one source, not {}", sources.len() + copy.heredocs.len()));
    };
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_hexdigit());
    if remote::git(&source.value, false).is_some() {
        let fine = is_hex(&checksum.value) && (4..=64).contains(&checksum.value.len());
        if !fine {
            return bad(format!("the checksum of a git source is a commit in hexadecimal digits: {}", checksum.value));
        }
    } else if remote::is_http(&source.value) {
        if checksum.value.parse::<crate::oci::Digest>().is_err() {
            return bad(format!(
                "the checksum of a download is `sha256:` and 64 hexadecimal digits: {}",
                checksum.value
            ));
        }
    } else {
        return bad(format!("a checksum requires an HTTP(S) or git source: {}", source.value));
    }
    Ok(())
}
