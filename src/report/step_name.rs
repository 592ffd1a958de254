//! The names of steps, `[web build 2/5] RUN make`, and how users mean one of them.

/// The place in a name: `web build 2/5`.
pub(crate) fn place(name: &str) -> &str {
    name.split_once(']').map_or(name, |(place, _)| place).trim_start_matches('[')
}

/// The steps that a text means, by their index in `names`: the one of this name or place, else all whose names have it as a
/// part.
pub(crate) fn matching(names: &[&str], wanted: &str) -> Vec<usize> {
    let all = |is_meant: &dyn Fn(&str) -> bool| -> Vec<usize> {
        names.iter().enumerate().filter(|(_, name)| is_meant(name)).map(|(ix, _)| ix).collect()
    };
    let exact = all(&|name| name == wanted || place(name) == wanted.trim_matches(['[', ']']));
    // Of a step that was tried twice the last counts.
    match exact.last().filter(|last| exact.iter().all(|ix| names[*ix] == names[**last])) {
        Some(last) => vec![*last],
        None => all(&|name| name.contains(wanted)),
    }
}

/// The places of the first of several steps, as a text that asks for one of them.
pub(crate) fn name_one(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let names: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", place(name))).collect();
    format!("name one: {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_by_place_or_by_a_part() {
        let steps = ["[web 1/2] RUN a", "[web 2/2] RUN b", "[web 12/2] RUN b"];
        assert_eq!(matching(&steps, "web 2/2"), [1]);
        assert_eq!(matching(&steps, "[web 2/2]"), [1]);
        assert_eq!(matching(&steps, "RUN b"), [1, 2]);
        assert!(matching(&steps, "RUN c").is_empty());
        assert_eq!(name_one(&steps), "name one: `web 1/2`, `web 2/2`, `web 12/2`");
    }
}
