//! Two lists of parts ─► what differs, the most telling first. Pure.

use std::collections::{HashMap, HashSet};

use super::{
    difference::{Difference, DifferenceKind, Explanation},
    parts::{PartKind, ReadPart, StepPart, StepParts},
};
use crate::{
    report::hidden::MASK,
    solve::content::files::{FileList, ListedFile},
    spec::pattern::Patterns,
};

/// So many files are named.
const MOST_FILES: usize = 10;

/// Two parts of one name, of which one may be absent.
type PartPair<'a> = (Option<&'a StepPart>, Option<&'a StepPart>);

/// How many parts differ. Parts that are not known of one of the two do not count.
pub(crate) fn distance(before: &StepParts, now: &StepParts) -> usize {
    differing(before, now).len() + usize::from(before.text != now.text)
}

/// What differs between an earlier run of a step and the step as it is. `files` gives the names that were read, by the key
/// under which they are kept; `None` if they are not known any more.
pub(crate) fn explain(
    before: &StepParts,
    now: &StepParts,
    files: &dyn Fn(&ReadPart) -> Option<FileList>,
) -> Explanation {
    let pairs = paired(differing(before, now));
    let is_other_text = before.text != now.text && pairs.iter().any(|pair| is_written(&before.text, pair));
    let of_variables = pairs.iter().any(|pair| matches!(kind(pair), PartKind::Argument | PartKind::Environment));
    let mut explanation = Explanation::default();
    let mut root = None;
    let mut read = Vec::new();
    for pair in &pairs {
        let is_source = |part: &&StepPart| part.kind == PartKind::Copy && part.name.starts_with("source");
        let other_source = pairs.iter().any(|pair| pair.0.or(pair.1).as_ref().is_some_and(is_source));
        match kind(pair) {
            PartKind::Command | PartKind::Copy if is_other_text => (),
            PartKind::Workdir if is_other_text && is_instruction(&now.text, "WORKDIR") => (),
            PartKind::EnvironmentOrder if of_variables => (),
            // Of another source everything differs.
            PartKind::Files if other_source => (),
            PartKind::Files => read.push(*pair),
            PartKind::Root => root = Some(root_difference(pair)),
            kind => explanation.differences.push(setting(kind, pair)),
        }
    }
    explanation.differences.sort_by_key(|it| it.kind);
    if is_other_text {
        let mut instruction = Difference::plain(DifferenceKind::Instruction);
        (instruction.before, instruction.now) = (Some(before.text.clone()), Some(now.text.clone()));
        let before_variables = |it: &Difference| it.kind < DifferenceKind::Instruction;
        let at = explanation.differences.iter().take_while(|it| before_variables(it)).count();
        explanation.differences.insert(at, instruction);
    }
    for pair in read {
        add_files(&mut explanation, pair, files);
    }
    explanation.differences.extend(root);
    explanation
}

/// Whether a part differs because of the words of the instruction.
fn is_written(before: &str, pair: &PartPair<'_>) -> bool {
    match kind(pair) {
        PartKind::Command
        | PartKind::Copy
        | PartKind::Mount
        | PartKind::Secret
        | PartKind::Agent
        | PartKind::Network
        | PartKind::Security => true,
        PartKind::Workdir => is_instruction(before, "WORKDIR"),
        _ => false,
    }
}

fn is_instruction(text: &str, word: &str) -> bool {
    text.split_whitespace().next().is_some_and(|it| it.eq_ignore_ascii_case(word))
}

fn kind(pair: &PartPair<'_>) -> PartKind {
    pair.0.or(pair.1).map_or(PartKind::Root, |part| part.kind)
}

/// The parts that differ, each with its counterpart of the same kind and name.
fn differing<'a>(before: &'a StepParts, now: &'a StepParts) -> Vec<PartPair<'a>> {
    let mut old: HashMap<(PartKind, &str), Vec<&StepPart>> = HashMap::new();
    for part in before.parts.iter().rev() {
        old.entry((part.kind, part.name.as_str())).or_default().push(part);
    }
    let mut pairs = Vec::new();
    for part in &now.parts {
        match old.get_mut(&(part.kind, part.name.as_str())).and_then(Vec::pop) {
            Some(earlier) if earlier.digest.is_some() && part.digest.is_some() => {
                if earlier.digest != part.digest {
                    pairs.push((Some(earlier), Some(part)));
                }
            }
            Some(_) => (),
            None => pairs.push((None, Some(part))),
        }
    }
    let left = before.parts.iter().filter(|part| {
        let is_left = |it: &Vec<&StepPart>| it.iter().any(|it| std::ptr::eq(*it, *part));
        old.get(&(part.kind, part.name.as_str())).is_some_and(is_left)
    });
    pairs.extend(left.map(|part| (Some(part), None)));
    pairs
}

/// Takes one part that is gone and one that is new for one that has got another name, if there are no others of the kind.
fn paired(pairs: Vec<PartPair<'_>>) -> Vec<PartPair<'_>> {
    let mut joined: Vec<PartPair<'_>> = Vec::new();
    for pair in &pairs {
        let of_kind = |(before, now): (bool, bool)| {
            let mut all =
                pairs.iter().filter(|it| kind(it) == kind(pair) && (it.0.is_some(), it.1.is_some()) == (before, now));
            (all.next(), all.next())
        };
        let is_renamed = matches!(kind(pair), PartKind::Secret | PartKind::Agent | PartKind::Mount | PartKind::Files);
        match (of_kind((true, false)), of_kind((false, true))) {
            ((Some(gone), None), (Some(new), None)) if is_renamed && (pair.0.is_none() || pair.1.is_none()) => {
                // What is read at another place is still the same if its content is.
                let is_same = kind(pair) == PartKind::Files
                    && gone.0.is_some_and(|gone| new.1.is_some_and(|new| gone.digest == new.digest));
                if pair.0.is_none() && !is_same {
                    joined.push((gone.0, new.1));
                }
            }
            _ => joined.push(*pair),
        }
    }
    joined
}

/// The difference of a part that has a value.
fn setting(kind: PartKind, (before, now): &PartPair<'_>) -> Difference {
    let kind = match kind {
        PartKind::Platform => DifferenceKind::Platform,
        PartKind::Secret => DifferenceKind::Secret,
        PartKind::Agent => DifferenceKind::Agent,
        PartKind::Mount => DifferenceKind::Mount,
        PartKind::Network => DifferenceKind::Network,
        PartKind::Security => DifferenceKind::Security,
        PartKind::Workdir => DifferenceKind::Workdir,
        PartKind::User => DifferenceKind::User,
        PartKind::Hostname => DifferenceKind::Hostname,
        PartKind::ShmSize => DifferenceKind::ShmSize,
        PartKind::Limit => DifferenceKind::Limit,
        PartKind::Host => DifferenceKind::Host,
        PartKind::Command => DifferenceKind::Command,
        PartKind::Copy => DifferenceKind::Copy,
        PartKind::Argument => DifferenceKind::Argument,
        PartKind::Environment | PartKind::EnvironmentOrder => DifferenceKind::Environment,
        PartKind::Files => DifferenceKind::Files,
        PartKind::Root => DifferenceKind::EarlierStep,
    };
    let name = now.or(*before).map(|part| part.name.clone()).unwrap_or_default();
    let (before, now) = match (shown(before.as_ref()), shown(now.as_ref())) {
        (Some(before), Some(now)) => differing_line(before, now),
        (before, now) => (before.map(str::to_owned), now.map(str::to_owned)),
    };
    Difference { kind, name, before, now, note: None }
}

/// The value of a part as it is told.
fn shown<'a>(part: Option<&&'a StepPart>) -> Option<&'a str> {
    part.map(|part| part.shown.as_deref().unwrap_or(MASK))
}

/// Of texts of several lines the first line that differs.
fn differing_line(before: &str, now: &str) -> (Option<String>, Option<String>) {
    if !before.contains('\n') || !now.contains('\n') {
        return (Some(before.to_owned()), Some(now.to_owned()));
    }
    let (mut olds, mut news) = (before.lines(), now.lines());
    loop {
        match (olds.next(), news.next()) {
            (Some(old), Some(new)) if old == new => (),
            (None, None) => return (None, None),
            (old, new) => return (old.map(str::to_owned), new.map(str::to_owned)),
        }
    }
}

fn root_difference((before, now): &PartPair<'_>) -> Difference {
    let told = |part: Option<&&StepPart>| shown(part).map(str::to_owned);
    let (before, now) = (told(before.as_ref()), told(now.as_ref()));
    let is_image = |text: &Option<String>| text.as_ref().is_some_and(|text| text.starts_with("FROM "));
    let kind =
        if is_image(&before) && is_image(&now) { DifferenceKind::BaseImage } else { DifferenceKind::EarlierStep };
    Difference { before, now, ..Difference::plain(kind) }
}

/// Adds the files that differ in what one part reads.
fn add_files(explanation: &mut Explanation, pair: PartPair<'_>, files: &dyn Fn(&ReadPart) -> Option<FileList>) {
    let (Some(before), Some(now)) = pair else {
        explanation.differences.push(setting(PartKind::Files, &pair));
        return;
    };
    let (Some(old), Some(new)) = (&before.read, &now.read) else { return };
    let found = files(old).zip(files(new)).map(|(olds, news)| changes(&olds, &news)).unwrap_or_default();
    if found.is_empty() {
        let note = Some(format!("of {}", new.tree)).filter(|_| !new.tree.is_empty());
        let name = now.name.clone();
        explanation.differences.push(Difference { name, note, ..Difference::plain(DifferenceKind::Files) });
        return;
    }
    let n_named = explanation.differences.iter().filter(|it| is_file(it.kind)).count();
    let room = MOST_FILES.saturating_sub(n_named);
    explanation.n_more_files += found.len().saturating_sub(room);
    for mut change in found.into_iter().take(room) {
        change.note = match change.kind {
            DifferenceKind::FileRemoved => hidden(&change.name, new).map(|by| format!("hidden by {by}")),
            DifferenceKind::FileAdded => hidden(&change.name, old).map(|by| format!("it was hidden by {by}")),
            _ => None,
        };
        if change.note.is_none() && new.ignore_file.is_none() && !new.tree.starts_with("the build context") {
            change.note = Some(format!("of {}", new.tree));
        }
        explanation.differences.push(change);
    }
}

fn is_file(kind: DifferenceKind) -> bool {
    kind >= DifferenceKind::FileChanged && kind <= DifferenceKind::Files
}

/// The pattern of the ignore file that hides a path.
fn hidden(path: &str, read: &ReadPart) -> Option<String> {
    let all = Patterns::new(&read.ignore).ok()?;
    let is_in_hidden_folder = path.char_indices().filter(|(_, c)| *c == '/').any(|(end, _)| all.matches(&path[..end]));
    if !all.matches(path) && !is_in_hidden_folder {
        return None;
    }
    let matches = |pattern: &&String| {
        let one = Patterns::new(std::slice::from_ref(*pattern));
        let parents = path.char_indices().filter(|(_, c)| *c == '/').map(|(end, _)| &path[..end]);
        !pattern.starts_with('!') && one.is_ok_and(|one| parents.chain([path]).any(|path| one.matches(path)))
    };
    let pattern = read.ignore.iter().rev().find(matches)?;
    Some(format!("`{pattern}` in {}", read.ignore_file.as_deref().unwrap_or("the ignore file")))
}

/// The names that differ between two lists that are sorted by path. Folders count where nothing in them says it: their mode,
/// and whether they are there while they are empty.
fn changes(before: &FileList, now: &FileList) -> Vec<Difference> {
    let (mut gone, mut new, mut other) = (Vec::new(), Vec::new(), Vec::new());
    let (mut olds, mut news) = (before.files.iter().peekable(), now.files.iter().peekable());
    loop {
        match (olds.peek(), news.peek()) {
            (Some(old), Some(this)) if old.path == this.path => {
                other.extend(change(old, this));
                olds.next();
                news.next();
            }
            (Some(old), Some(this)) if old.path < this.path => gone.extend(olds.next()),
            (_, Some(_)) => new.extend(news.next()),
            (Some(_), None) => gone.extend(olds.next()),
            (None, None) => break,
        }
    }
    differences_of_names(told(&gone), told(&new), other)
}

/// Those of the names, sorted by path, that say something: a folder says nothing that a name in it does not say.
fn told<'a>(all: &[&'a ListedFile]) -> Vec<&'a ListedFile> {
    let is_told = |file: &&&ListedFile| {
        let inside = format!("{}/", file.path);
        let next = all.partition_point(|it| it.path < inside);
        file.kind != 'd' || !all.get(next).is_some_and(|it| it.path.starts_with(&inside))
    };
    all.iter().filter(is_told).copied().collect()
}

/// Adds to `differences` the names that are gone and those that are new; one of each with equal content is a file that was
/// renamed.
fn differences_of_names(
    gone: Vec<&ListedFile>,
    new: Vec<&ListedFile>,
    mut differences: Vec<Difference>,
) -> Vec<Difference> {
    let content_key = |file: &ListedFile| (file.kind, file.mode, file.digest.clone());
    let mut by_content: HashMap<_, Vec<&ListedFile>> = HashMap::new();
    for file in gone.iter().rev().filter(|file| file.kind != 'd') {
        by_content.entry(content_key(file)).or_default().push(file);
    }
    let mut renamed = HashSet::new();
    for file in new {
        let earlier = by_content.get_mut(&content_key(file)).and_then(Vec::pop);
        let mut difference = Difference { name: file.path.clone(), ..Difference::plain(DifferenceKind::FileAdded) };
        if let Some(earlier) = earlier {
            renamed.insert(earlier.path.as_str());
            (difference.kind, difference.before) = (DifferenceKind::FileRenamed, Some(earlier.path.clone()));
        } else {
            difference.now = Some(content(file));
        }
        differences.push(difference);
    }
    let left = gone.into_iter().filter(|file| !renamed.contains(file.path.as_str()));
    differences.extend(left.map(|file| Difference {
        name: file.path.clone(),
        before: Some(content(file)),
        ..Difference::plain(DifferenceKind::FileRemoved)
    }));
    differences
}

/// How one name differs, if it does: in content, mode and owner.
fn change(before: &ListedFile, now: &ListedFile) -> impl Iterator<Item = Difference> {
    let of = |kind, before: String, now: String| {
        (before != now).then(|| Difference { before: Some(before), now: Some(now), ..Difference::plain(kind) })
    };
    let mode = |file: &ListedFile| format!("{:04o}", file.mode);
    let owner = |file: &ListedFile| format!("{}:{}", file.owner.0, file.owner.1);
    let is_same = (before.kind, &before.digest, before.size) == (now.kind, &now.digest, now.size);
    let changed = [
        (!is_same).then(|| Difference {
            before: Some(content(before)),
            now: Some(content(now)),
            ..Difference::plain(DifferenceKind::FileChanged)
        }),
        of(DifferenceKind::FileMode, mode(before), mode(now)),
        of(DifferenceKind::FileOwner, owner(before), owner(now)),
    ];
    let name = now.path.clone();
    changed.into_iter().flatten().map(move |found| Difference { name: name.clone(), ..found })
}

/// Size and digest of a file, or what else it is.
fn content(file: &ListedFile) -> String {
    match file.kind {
        'f' => format!("{} bytes, sha256 {}…", file.size, file.digest.get(..12).unwrap_or(&file.digest)),
        'd' => "a folder".to_owned(),
        'l' => "a link".to_owned(),
        _ => "a special file".to_owned(),
    }
}
