//! Faults of `--set`.

use super::Page;

const TEXT: &str = "target \"app\" {\n  tags = [\"a\"]\n  secret = [\"id=token,env=TOKEN\"]\n}\n";

/// A page with a case for each argument of `--set`.
fn page(name: &'static str, cases: &[(&str, &str)]) {
    let mut page = Page::new(name);
    for (title, set) in cases {
        page =
            page.with(title, &[("docker-bake.hcl", TEXT)], &["app", "--print", "--set", set], &[("TOKEN", "x")], b"");
    }
    page.check();
}

#[test]
fn set_says_its_form() {
    page(
        "s1_set_form",
        &[
            ("no key", "app"),
            ("no key but a value", "app=x"),
            ("an empty key", "app.=x"),
            ("no value", "app.tags"),
            ("no name", "app.args=1"),
            ("a name where none belongs", "app.tags.x=1"),
            ("nothing to append to", "app.resources.memory+=1g"),
            ("no target", ".tags=x"),
        ],
    );
}

#[test]
fn set_of_an_unknown_key_says_the_nearest_one() {
    page(
        "s2_set_unknown_key",
        &[
            ("as in the file", "app.platforms=linux/arm64"),
            ("misspelt", "app.tgas=x"),
            ("nothing is near", "app.colour=red"),
            ("of the file only", "app.inherits=x"),
            ("a secret without its id", "app.secret=id=a"),
        ],
    );
}

#[test]
fn set_of_a_bad_value_shows_it() {
    page(
        "s3_set_bad_value",
        &[
            ("a bool", "app.no-cache=perhaps"),
            ("push", "app.push=perhaps"),
            ("a number", "app.resources.cpu-shares=many"),
            ("a resource", "app.resources.memroy=1g"),
            ("an output", "app.output=type=image,push"),
            ("a cache", "app.cache-from=mode=max"),
            ("an attestation", "app.attest=disabled=true"),
            ("a secret", "app.secrets=id=a,sorce=x"),
            ("a platform", "app.platform=linus/amd64/x/y"),
            ("a ulimit", "app.ulimits=nofiles=1"),
        ],
    );
}

#[test]
fn set_of_a_secret_wants_one_that_is_declared() {
    page(
        "s4_set_secret",
        &[
            ("not declared", "app.secret.tokn=src=docker-bake.hcl"),
            ("another id", "app.secret.token=id=other,src=docker-bake.hcl"),
        ],
    );
}
