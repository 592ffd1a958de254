//! Properties of the language that hold for any input: no panic, results that are bounded, texts that read back as what
//! they were printed from. The parsers of YAML and Compose are held to it in `definition`.

use num_bigint::BigInt;
use proptest::prelude::*;

use super::{
    evaluate::evaluate,
    expression::scope::{Env, Scope},
    input::Input,
    print::plan::PrintPlan,
    value::number::Number,
};
use crate::{
    definition::{hcl, json, load::Definition},
    report::{Diagnostic, SourceMap, Span, Spanned},
    spec::csv,
};

/// A source of pieces that mean something to the parsers, so that random text gets further than the first character.
fn language_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("target \"a\" {\n"),
        Just("}\n"),
        Just(" x = "),
        Just("\""),
        Just("${"),
        Just("%{ if "),
        Just("%{ endif }"),
        Just("%{ for a in b }"),
        Just("[for v in x : v]"),
        Just("{"),
        Just("["),
        Just("]"),
        Just("("),
        Just(")"),
        Just(","),
        Just("<<-E\n"),
        Just("\nE\n"),
        Just("/*"),
        Just("*/"),
        Just("#"),
        Just("..."),
        Just("[*]"),
        Just(".*"),
        Just("."),
        Just("1e9"),
        Just("-"),
        Just("!"),
        Just("?"),
        Just(":"),
        Just("=>"),
        Just("=="),
        Just("\\u00e9"),
        Just("\\"),
        Just("é"),
        Just("\u{feff}"),
        Just("\r\n"),
        Just("\0"),
        Just("null"),
        Just("f(x)"),
        Just("\"a\": "),
        Just("true"),
    ];
    prop_oneof![proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat()), ".{0,60}"]
}

/// An expression of the language, of a few levels.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (-1000i64..1000).prop_map(|n| n.to_string()),
        Just("1e300".to_owned()),
        Just("0.1".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("\"\"".to_owned()),
        Just("\"é${s}\"".to_owned()),
        Just("s".to_owned()),
        Just("l".to_owned()),
        Just("m".to_owned()),
        Just("nope".to_owned()),
        Just("m.a".to_owned()),
        Just("l[0]".to_owned()),
    ];
    let names = super::function::names();
    leaf.prop_recursive(4, 40, 4, move |inner| {
        let function = proptest::sample::select(names.clone());
        let operator = proptest::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            (inner.clone(), inner.clone()).prop_map(|(k, v)| format!("{{ a = {v}, ({k}) = {v} }}")),
            (inner.clone(), inner.clone()).prop_map(|(l, e)| format!("[for k, v in {l} : [k, v, {e}]]")),
            (inner.clone(), inner.clone()).prop_map(|(l, e)| format!("{{ for k, v in {l} : k => {e}... }}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            inner.clone().prop_map(|a| format!("({a})[*].a[*]")),
            inner.clone().prop_map(|a| format!("\"%{{ for v in {a} }}<${{v}}>%{{ endfor }}\"")),
            (function, proptest::collection::vec(inner.clone(), 0..4))
                // Slow on purpose, or of no fixed result.
                .prop_filter("a plain function", |(name, _)| !matches!(*name, "bcrypt" | "uuidv4" | "timestamp"))
                .prop_map(|(name, args)| format!("{name}({})", args.join(", "))),
        ]
    })
}

/// A decimal: its digits, and how many of them stand after the point.
fn decimal() -> impl Strategy<Value = (i64, usize)> {
    (any::<i64>(), 0..25usize)
}

fn decimal_text((digits, places): (i64, usize)) -> String {
    format!("{digits}e-{places}")
}

/// `digits` × 10^-`places` written out: shortest, without exponent.
fn written(digits: &BigInt, places: usize) -> String {
    let text = format!("{:0>width$}", digits.magnitude().to_string(), width = places + 1);
    let (whole, fraction) = text.split_at(text.len() - places);
    let fraction = fraction.trim_end_matches('0');
    let sign = if digits.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn inside(fault: &Diagnostic, len: usize) -> bool {
    fault.labels.iter().all(|label| label.at.start <= label.at.end && label.at.end as usize <= len)
}

/// What `--print` shows, or nothing when there is a fault.
fn printed(body: crate::definition::syntax::Body) -> Option<String> {
    let definition = Definition { files: vec![body], ..Definition::default() };
    let input = Input { names: vec!["t".to_owned()], ..Input::default() };
    let (evaluated, diagnostics) = evaluate(&definition, &input, "linux/amd64");
    (!diagnostics.iter().any(Diagnostic::is_error)).then(|| PrintPlan::new(&evaluated).to_json())
}

/// A string as a bake file writes it: nothing in it is a template or an escape.
fn quoted(text: &str) -> String {
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out.replace("${", "$${").replace("%{", "%%{")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_text_is_parsed_without_panic_and_faults_lie_inside_it(text in language_text()) {
        for parse in [hcl::parse, json::parse] {
            let mut sources = SourceMap::default();
            let (body, faults) = parse(sources.add("f", text.as_str()), &text);
            for fault in &faults {
                prop_assert!(inside(fault, text.len()), "{text:?}: {fault:?}");
            }
            prop_assert!(body.at.end as usize <= text.len());
        }
    }

    #[test]
    fn any_expression_has_a_value_or_a_fault(text in expression()) {
        let file = format!("s = \"text\"\nl = [1, \"a\", null]\nm = {{ a = 1, b = [2] }}\nx = {text}\n");
        let mut sources = SourceMap::default();
        let (body, faults) = hcl::parse(sources.add("f", file.as_str()), &file);
        prop_assert!(faults.is_empty(), "{text}: {faults:?}");
        let input = Input::default();
        let at = body.at;
        let definition = Definition { files: vec![body], ..Definition::default() };
        let scope = Scope::new(&definition, &input, "linux/amd64");
        let value = scope.variable(&"x".into(), at, Env::PLAIN);
        let told = scope.all_faults();
        match value {
            Ok(value) => prop_assert!(value.to_json_text(false).len() < 1 << 20, "{text}"),
            Err(_) => prop_assert!(told.iter().any(Diagnostic::is_error), "{text} failed without a word"),
        }
        for fault in &told {
            prop_assert!(inside(fault, file.len()), "{text}: {fault:?}");
        }
    }

    #[test]
    fn numbers_print_exactly_and_read_back(a in decimal()) {
        let number = Number::parse(&decimal_text(a)).expect("a number");
        prop_assert_eq!(number.to_string(), written(&BigInt::from(a.0), a.1));
        prop_assert_eq!(Number::parse(&number.to_string()), Some(number));
    }

    #[test]
    fn arithmetic_agrees_with_whole_numbers(a in decimal(), b in decimal()) {
        let places = a.1.max(b.1);
        let scaled = |(digits, own): (i64, usize)| {
            BigInt::from(digits) * BigInt::from(10).pow(u32::try_from(places - own).expect("small"))
        };
        let (x, y) = (scaled(a), scaled(b));
        let (m, n) = (Number::parse(&decimal_text(a)).expect("one"), Number::parse(&decimal_text(b)).expect("two"));
        prop_assert_eq!(m.add(&n).expect("a sum").to_string(), written(&(&x + &y), places));
        prop_assert_eq!(m.sub(&n).expect("a difference").to_string(), written(&(&x - &y), places));
        prop_assert_eq!(m.mul(&n).expect("a product").to_string(), written(&(&x * &y), 2 * places));
        prop_assert_eq!(m.cmp(&n), x.cmp(&y));
        if b.0 != 0 {
            prop_assert_eq!(m.rem(&n).expect("a remainder").to_string(), written(&(&x % &y), places));
            let back = m.div(&n).expect("a quotient").mul(&n).expect("a product");
            let error = back.sub(&m).expect("a difference").abs();
            let allowed = m.abs().mul(&Number::parse("1e-150").expect("tiny")).expect("a product");
            prop_assert!(error <= allowed, "{m} / {n} is off by {error}");
        }
    }

    #[test]
    fn floats_become_a_decimal_that_names_them(float in proptest::num::f64::NORMAL) {
        let number = Number::from_f64(float).expect("a float");
        // At a power of two the decimal may be nearer to the float below.
        let back = number.to_f64();
        prop_assert!((back - float).abs() <= float.abs() * f64::EPSILON, "{float:e} became {number}");
    }

    #[test]
    fn csv_fields_read_back(fields in proptest::collection::vec("[ -~é\n]{0,8}", 1..5)) {
        let quoted: Vec<String> = fields.iter().map(|it| format!("\"{}\"", it.replace('"', "\"\""))).collect();
        prop_assert_eq!(csv::fields(&quoted.join(",")).expect("valid"), fields);
    }

    #[test]
    fn any_text_is_read_as_csv_without_panic(text in "[a\",=\n\r é]{0,12}") {
        if let Ok(fields) = csv::fields(&text) {
            prop_assert!(!fields.is_empty());
        }
    }

    #[test]
    fn any_override_is_taken_or_told(text in "(t|[*]|x)?[.]?(args|tags|output|labels|secrets|platform|foo)?[.]?[a\\[+=.,\"é]{0,8}") {
        let file = "target \"t\" { tags = [\"a\"] }\n";
        let mut sources = SourceMap::default();
        let (body, _) = hcl::parse(sources.add("f", file), file);
        let source = sources.add("--set", text.as_str());
        let at = Span { source, start: 0, end: u32::try_from(text.len()).expect("short") };
        let input = Input {
            names: vec!["t".to_owned()],
            overrides: vec![Spanned { value: text.clone(), at }],
            ..Input::default()
        };
        let (evaluated, diagnostics) = evaluate(&Definition { files: vec![body], ..Definition::default() }, &input, "linux/amd64");
        prop_assert!(!evaluated.targets.is_empty() || diagnostics.iter().any(Diagnostic::is_error), "{text}");
    }

    #[test]
    fn what_is_printed_reads_back_as_itself(
        args in proptest::collection::btree_map("[A-Z]{1,3}", "[ -~é\n\u{2028}]{0,12}", 0..4),
        labels in proptest::collection::btree_map("[a-z.]{1,4}", "[$%{}a\"\\\\<>&]{0,8}", 0..4),
        inline in "[$%{}a\n]{0,8}",
        no_cache in any::<bool>(),
    ) {
        let map = |entries: &std::collections::BTreeMap<String, String>| -> String {
            entries.iter().map(|(key, value)| format!("{} = {}\n", quoted(key), quoted(value))).collect()
        };
        let file = format!(
            "target \"t\" {{\n args = {{\n{}}}\n labels = {{\n{}}}\n dockerfile-inline = {}\n no-cache = {no_cache}\n \
             output = [\"type=image,name=x\"]\n secret = [\"id=a,env=B\"]\n ssh = [\"default\"]\n attest = [\"type=sbom,disabled=true\"]\n}}\n",
            map(&args), map(&labels), quoted(&inline)
        );
        let mut sources = SourceMap::default();
        let (body, faults) = hcl::parse(sources.add("docker-bake.hcl", file.as_str()), &file);
        prop_assert!(faults.is_empty(), "{file}: {faults:?}");
        let first = printed(body).expect("a plan");
        let (body, faults) = json::parse(sources.add("docker-bake.json", first.as_str()), &first);
        prop_assert!(faults.is_empty(), "{first}: {faults:?}");
        prop_assert_eq!(printed(body), Some(first));
    }
}
