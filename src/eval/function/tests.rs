//! Calls of every function, with the results that the language defines.

use super::{builtin::*, table::*};
use crate::eval::value::{json, types::Value};

fn world() -> FunctionWorld {
    FunctionWorld::new((1_709_211_909, 0), [7; 32], "/home/me".to_owned())
}

/// Calls `name` with arguments written as JSON; arrays are tuples, objects objects.
fn run(name: &str, args: &str) -> Result<Value, FunctionError> {
    let args = json::parse(&format!("[{args}]")).unwrap_or_else(|error| panic!("{args}: {error}"));
    let builtin = lookup(name).unwrap_or_else(|| panic!("no function {name}"));
    call(builtin, args.items().unwrap(), &world())
}

#[track_caller]
fn check(name: &str, args: &str, expected: &str) {
    let shown = match run(name, args) {
        Ok(value) => value.to_json_text(false),
        Err(error) => format!("error: {}", error.message),
    };
    assert_eq!(shown, expected, "{name}({args})");
}

#[track_caller]
fn fails(name: &str, args: &str) {
    if let Ok(value) = run(name, args) {
        panic!("{name}({args}) must fail, gave {}", value.to_json_text(false));
    }
}

#[test]
fn all_functions_are_listed_once_and_sorted_by_lookup() {
    let rows: usize = FAMILIES.iter().map(|family| family.len()).sum();
    assert_eq!(rows, names().len(), "no name twice");
    let ours = FAMILIES.iter().flat_map(|family| family.iter()).filter(|it| it.is_ours).count();
    assert_eq!((rows - ours, ours), (106, 4));
    assert_eq!(signature(lookup("join").unwrap()), "join(separator string, lists list(string)...)");
    assert_eq!(signature(lookup("uuidv4").unwrap()), "uuidv4()");
}

#[test]
fn arguments_are_counted_converted_and_checked_for_null() {
    assert_eq!(run("upper", "").unwrap_err().message, "`upper` takes 1 argument, got 0: `str` is missing");
    assert_eq!(run("upper", "\"a\",\"b\"").unwrap_err().message, "`upper` takes 1 argument, got 2");
    assert_eq!(run("upper", "[\"a\"]").unwrap_err().message, "`str` of `upper`: string expected, got tuple");
    assert_eq!(run("add", "1,null").unwrap_err(), FunctionError::at(1, "`b` of `add` must not be null"));
    check("add", "-1.5,\"0.25\"", "-1.25");
    check("upper", "12", "\"12\"");
}

#[test]
fn texts() {
    check("upper", "\"straße-abc\"", "\"STRAßE-ABC\"");
    check("lower", "\"ÀB\"", "\"àb\"");
    check("title", "\"hello big-world of_bake a1b\"", "\"Hello Big-World Of_bake A1b\"");
    check("reverse", "\"aé日\"", "\"日éa\"");
    check("strlen", "\"👨‍👩‍👧é\"", "2");
    for (args, expected) in
        [("1,3", "bcd"), ("-2,2", "ef"), ("2,-1", "cdef"), ("0,99", "abcdef"), ("9,1", ""), ("0,0", "")]
    {
        check("substr", &format!("\"abcdef\",{args}"), &format!("\"{expected}\""));
    }
    check("substr", "\"日本語\",1,1", "\"本\"");
    check("split", "\",\",\"\"", "[\"\"]");
    check("split", "\"\",\"ab\"", "[\"a\",\"b\"]");
    check("replace", "\"abc\",\"\",\"_\"", "\"_a_b_c_\"");
    check("trim", "\"xyaxy\",\"yx\"", "\"a\"");
    check("chomp", "\"a\\r\\n\\n\"", "\"a\"");
    check("indent", "2,\"a\\nb\"", "\"a\\n  b\"");
    fails("indent", "-1,\"a\"");
    fails("indent", "1e12,\"a\\nb\"");
    check("join", "\"-\",[\"a\"],[\"b\",3]", "\"a-b-3\"");
    fails("join", "\"-\",[null]");
    fails("join", "\"-\"");
    check("sanitize", "\"a.b/ç_-1\"", "\"a_b___-1\"");
}

#[test]
fn numbers() {
    check("divide", "1,4", "0.25");
    fails("divide", "1,0");
    fails("modulo", "1,0");
    check("modulo", "5.5,2", "1.5");
    check("negate", "0", "0");
    check("log", "8,2", "3");
    fails("log", "0,10");
    check("pow", "2,10", "1024");
    check("pow", "2,0.5", "1.4142135623730951");
    check("pow", "2,64", "18446744073709550000");
    check("pow", "2,-60", "0.0000000000000000008673617379884035");
    fails("pow", "10,1000000");
    check("signum", "-12", "-1");
    fails("signum", "1.5");
    check("parseint", "\"Zz\",62", "3817");
    check("parseint", "\"FF\",16", "255");
    check("parseint", "\"-1010\",2", "-10");
    for args in ["\"9\",8", "12,10", "\"\",10", "\"1\",63", "\"a b\",16"] {
        fails("parseint", args);
    }
    check("max", "3,12,-4", "12");
    fails("min", "");
}

#[test]
fn lists_and_maps() {
    check("chunklist", "[1,2,3],2", "[[1,2],[3]]");
    check("chunklist", "[1],0", "[[1]]");
    check("coalesce", "null,3,\"z\"", "\"3\"");
    fails("coalesce", "null,null");
    check("coalescelist", "[],[1]", "[1]");
    fails("coalescelist", "[1],\"a\"");
    fails("coalescelist", "null,[1]");
    fails("contains", "[null],null");
    check("concat", "[[1],[]],[2,\"a\"]", "[[1],[],2,\"a\"]");
    check("contains", "[1,2],\"1\"", "false");
    check("distinct", "[\"b\",\"a\",\"b\"]", "[\"b\",\"a\"]");
    check("distinct", "[1,1.0,2]", "[1,2]");
    check("element", "[\"a\",\"b\",\"c\"],-1", "\"c\"");
    fails("element", "[],0");
    check("flatten", "[1,[2,[3,[]]],\"x\"]", "[1,2,3,\"x\"]");
    check("hasindex", "[1],1", "false");
    check("index", "{\"a\":5},\"a\"", "5");
    fails("index", "[1],1");
    fails("indexof", "[],1");
    check("length", "{\"a\":1}", "1");
    fails("length", "\"text\"");
    check("lookup", "{\"a\":\"x\"},\"q\",\"d\"", "\"d\"");
    check("merge", "{\"a\":1},null,{\"a\":2,\"b\":3}", "{\"a\":2,\"b\":3}");
    fails("merge", "[1]");
    check("range", "3", "[0,1,2]");
    check("range", "-2", "[0,-1]");
    check("range", "0,1,0.5", "[0,0.5]");
    for args in ["1,5,0", "1,5,-1", "0,2000", ""] {
        fails("range", args);
    }
    check("reverselist", "[1,2]", "[2,1]");
    check("setproduct", "[\"a\",\"b\"],[1,2]", "[[\"a\",1],[\"a\",2],[\"b\",1],[\"b\",2]]");
    fails("setproduct", "[1]");
    let wide = format!("[{}0]", "0,".repeat(999));
    fails("setproduct", &format!("{wide},{wide},{wide}"));
    check("slice", "[1,2,3],1,2", "[2]");
    fails("slice", "[1],0,4");
    fails("slice", "[1,2],2,1");
    check("sort", "[\"B\",\"a\",\"b\"]", "[\"B\",\"a\",\"b\"]");
    check("zipmap", "[\"a\",\"b\"],[1,\"two\"]", "{\"a\":1,\"b\":\"two\"}");
    fails("zipmap", "[\"a\"],[1,2]");
}

#[test]
fn sets() {
    check("setunion", "[\"b\"],[\"a\",\"b\"]", "[\"a\",\"b\"]");
    check("setintersection", "[\"a\",\"b\",\"c\"],[\"c\",\"b\"],[\"b\"]", "[\"b\"]");
    check("setsubtract", "[3,1,2],[1]", "[2,3]");
    check("setsymmetricdifference", "[\"a\",\"b\"],[\"b\",\"c\"]", "[\"a\",\"c\"]");
    check("setunion", "[],[]", "[]");
    check("sethaselement", "[1,2],\"1\"", "false");
}

#[test]
fn patterns() {
    check("regex", "\"[0-9]+\",\"build 1234\"", "\"1234\"");
    check("regex", "\"v([0-9]+)(x)?\",\"v12\"", "[\"12\",null]");
    check("regex", "\"(?P<n>[0-9]+)\",\"a7\"", "{\"n\":\"7\"}");
    check("regexall", "\"[a-z]\",\"a1b\"", "[\"a\",\"b\"]");
    for args in ["\"x\",\"none\"", "\"(\",\"a\"", "\"(a)(?P<b>b)\",\"ab\"", "\"(a{1000}){1000}\",\"a\""] {
        fails("regex", args);
    }
    check("regex_replace", "\"John Smith\",\"(\\\\w+) (\\\\w+)\",\"$2, $1\"", "\"Smith, John\"");
    check("regex_replace", "\"k=v\",\"(?P<key>[a-z]+)=\",\"${key}:\"", "\"k:v\"");
    check("regex_replace", "\"baac\",\"a*\",\"x\"", "\"xbxcx\"");
}

#[test]
fn formats() {
    for (args, expected) in [
        (r#""%s is %d and %.2f", "Kim", 30, 1.7"#, "Kim is 30 and 1.70"),
        (r#""%05d|%-6s|%6s|%+d", 42, "ab", "cd", 7"#, "00042|ab    |    cd|+7"),
        (r#""%x %X %o %b %#x", 255, 255, 8, 5, 255"#, "ff FF 10 101 0xff"),
        (r#""%q %v %v", "a\"b", [1, "x"], true"#, r#""a\"b" [1,"x"] true"#),
        (r#""%[2]s-%[1]s", "a", "b""#, "b-a"),
        (r#""%#v", {"a":1}"#, r#"{"a":1}"#),
        (r#""%e %g %f", 12345.678, 0.00001, 2"#, "1.234568e+04 1e-05 2.000000"),
        (r#""%3s|%.1s", "日本", "日本""#, " 日本|日"),
        (r#""%v %v %v", 100000, 1000000, 12345678"#, "100000 1e+06 1.2345678e+07"),
        (r#""%.1f %.1f %.0f %.2f", 0.25, 0.75, 2.5, 1.005"#, "0.2 0.8 2 1.00"),
        (r#""%.3g %.3g %G", 1234567, 0.00012345, 1e-10"#, "1.23e+06 0.000123 1E-10"),
        (r#""%08.3f|%-8.1f|% d", -3.14159, 2.25, 5"#, "-003.142|2.2     | 5"),
        (r#""%v %v", null, 0"#, "null 0"),
        (r#""%.1f %e %g", 9.96, 0, 0"#, "10.0 0.000000e+00 0"),
        (r#""%%""#, "%"),
    ] {
        assert_eq!(run("format", args).unwrap().as_str(), Some(expected), "{args}");
    }
    for args in [
        r#""%d","abc""#,
        r#""%d",1.5"#,
        r#""%s""#,
        r#""a","b""#,
        r#""%s",null"#,
        r#""%y",1"#,
        r#""%""#,
        r#""%999999999d",1"#,
        r#""%é",1"#,
        r#""%[0]d",1"#,
    ] {
        fails("format", args);
    }
    check("formatlist", r#""%s/%s","reg",["a","b"]"#, r#"["reg/a","reg/b"]"#);
    check("formatlist", r#""%s",[]"#, "[]");
    fails("formatlist", r#""%s %s",["a"],["b","c"]"#);
}

#[test]
fn encodings() {
    check("base64encode", "\"héllo>>\"", "\"aMOpbGxvPj4=\"");
    check("base64decode", "\"aMOpbGxvPj4=\"", "\"héllo>>\"");
    fails("base64decode", "\"***\"");
    fails("base64decode", "\"//79\"");
    check("urlencode", "\"a b&c=d/é?~-_.\"", "\"a+b%26c%3Dd%2F%C3%A9%3F~-_.\"");
    check("jsondecode", r#""{\"a\": [1, null]}""#, r#"{"a":[1,null]}"#);
    check("csvdecode", r#""a,b\n1,\"x,y\"\n""#, r#"[{"a":"1","b":"x,y"}]"#);
    fails("csvdecode", r#""a,a\n1,2""#);
    fails("csvdecode", r#""a,b\n1""#);
    fails("csvdecode", r#""""#);
    check("csvdecode", r#""a\r\n\"x\"\"y\"\r\n\n\"1\n2\"""#, r#"[{"a":"x\"y"},{"a":"1\n2"}]"#);
    for bad in [r#""a\n\"x""#, r#""a\nx\"y""#, r#""a\n\"x\"y""#] {
        fails("csvdecode", bad);
    }
    fails("byteslen", "\"a\"");
}

#[test]
fn digests_and_identifiers() {
    check("md5", "\"ship it\"", "\"17bbe9ab925ab3d05ebde0f9dccd3333\"");
    check("sha1", "\"\"", "\"da39a3ee5e6b4b0d3255bfef95601890afd80709\"");
    check("uuidv5", "\"oid\",\"1.2.3\"", "\"42d5e23b-3a02-5135-85c6-52d1102f1f00\"");
    fails("uuidv5", "\"nope\",\"x\"");
    fails("rsadecrypt", "\"AAAA\",\"not a key\"");
    let hash = run("bcrypt", "\"pw\",4").unwrap();
    let hash = hash.as_str().unwrap();
    assert!(hash.starts_with("$2a$04$") && bcrypt::verify("pw", hash).unwrap(), "{hash}");
    fails("bcrypt", "\"pw\",31");
    let world = world();
    let uuid = lookup("uuidv4").unwrap();
    let draw = || call(uuid, &[], &world).unwrap();
    assert_ne!(draw(), draw());
}

#[test]
fn times() {
    check("timestamp", "", "\"2024-02-29T13:05:09Z\"");
    check("timeadd", "\"2024-02-28T23:30:00Z\",\"45m\"", "\"2024-02-29T00:15:00Z\"");
    check("timeadd", "\"2024-01-01T00:00:00+01:00\",\"-1h30m15s\"", "\"2023-12-31T22:29:45+01:00\"");
    check("timeadd", "\"2024-01-01T00:00:00Z\",\"1.5s\"", "\"2024-01-01T00:00:01Z\"");
    for args in [
        "\"2024-01-01T00:00:00Z\",\"1d\"",
        "\"2024-01-01T00:00:00Z\",\"\"",
        "\"2024-02-30T00:00:00Z\",\"1s\"",
        "\"2024-01-01T00:00:00Z\",\"99999999999h\"",
    ] {
        fails("timeadd", args);
    }
    let date = "\"2024-12-01T00:30:00-05:30\"";
    check("formatdate", &format!("\"D MMMM YYYY 'at' h aa Z\",{date}"), "\"1 December 2024 at 0 am -05:30\"");
    check("formatdate", &format!("\"EEEE, DD-MMM-YY HH:mm AA ZZZ\",{date}"), "\"Sunday, 01-Dec-24 12:30 AM -0530\"");
    check("formatdate", "\"ZZZ ZZZZ ZZZZZ Z ''\",\"2024-02-29T13:05:09Z\"", "\"UTC +0000 +00:00 Z '\"");
    fails("formatdate", "\"YYYY\",\"yesterday\"");
    fails("formatdate", "\"yyyy\",\"2024-02-29T13:05:09Z\"");
    fails("formatdate", "\"'open\",\"2024-02-29T13:05:09Z\"");
    check("formattimestamp", "\"X\",\"1970-01-01T00:01:00Z\"", "\"60\"");
    check("formattimestamp", "\"hh:mm\",60", "\"00:01\"");
    fails("formattimestamp", "\"YYYY\",1.5");
    check(
        "unixtimestampparse",
        "1709211909",
        r#"{"day":29,"hour":13,"iso_week":9,"iso_year":2024,"minute":5,"month":2,"month_name":"February","rfc3339":"2024-02-29T13:05:09Z","second":9,"weekday":4,"weekday_name":"Thursday","year":2024,"year_day":60}"#,
    );
    fails("unixtimestampparse", "1e18");
}

#[test]
fn paths() {
    for (path, base, dir) in [
        ("/usr/lib/x.so", "x.so", "/usr/lib"),
        ("", ".", "."),
        ("/", "/", "/"),
        ("a/b/", "b", "a/b"),
        ("plain", "plain", "."),
        ("a/../b/c", "c", "b"),
    ] {
        check("basename", &format!("\"{path}\""), &format!("\"{base}\""));
        check("dirname", &format!("\"{path}\""), &format!("\"{dir}\""));
    }
    check("homedir", "", "\"/home/me\"");
}

#[test]
fn networks() {
    check("cidrhost", "\"10.1.0.0/16\",258", "\"10.1.1.2\"");
    check("cidrhost", "\"10.1.0.0/24\",-2", "\"10.1.0.254\"");
    check("cidrhost", "\"fd00::/64\",17", "\"fd00::11\"");
    fails("cidrhost", "\"10.0.0.0/30\",4");
    check("cidrnetmask", "\"172.16.0.0/12\"", "\"255.240.0.0\"");
    check("cidrsubnet", "\"10.0.0.0/8\",8,17", "\"10.17.0.0/16\"");
    check("cidrsubnet", "\"fd00:a::/32\",16,5", "\"fd00:a:5::/48\"");
    fails("cidrsubnet", "\"10.0.0.0/30\",8,1");
    fails("cidrsubnet", "\"10.0.0.0/8\",2,4");
    check(
        "cidrsubnets",
        "\"10.20.0.0/16\",4,4,8,2",
        r#"["10.20.0.0/20","10.20.16.0/20","10.20.32.0/24","10.20.64.0/18"]"#,
    );
    fails("cidrsubnets", "\"10.20.0.0/16\",1,1,1");
    fails("cidrnetmask", "\"10.0.0.1\"");
    fails("cidrnetmask", "\"10.0.0.1/+8\"");
    check("cidrhost", "\"::/0\",-1", "\"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\"");
}

#[test]
fn versions() {
    for (version, constraint, fits) in [
        ("1.4.2", ">=1.4, <2", true),
        ("2.0.0", "~1.4", false),
        ("1.9.0", "^1.2.3", true),
        ("v1.2.3", "1.2.x", true),
        ("1.2.3-beta.1", ">=1.2.0", false),
        ("1.2.3-beta.1", ">=1.2.0-0", true),
        ("1.2", "=1.2.0", true),
        ("3.1.0", "<2 || >3", false),
        ("3.1.0", "<2 || >3.0", true),
        ("1.5.0", "1.2 - 1.6", true),
        ("1.0.0", "!=1.0.0", false),
        ("5.6.7", "*", true),
        ("0.3.1", "^0.2.3", false),
        ("0.2.9", "^0.2.3", true),
        ("1.2.9", "~>1.2.3", true),
        ("1.3.0", "!=1.2.x >1", false),
        ("2.3.0", "!=1.2.x >1", true),
        ("1.0.0-alpha.2", ">1.0.0-alpha.1 <1.0.0", true),
    ] {
        check("semvercmp", &format!("\"{version}\",\"{constraint}\""), if fits { "true" } else { "false" });
    }
    for (version, constraint) in
        [("1.0.0", ">>1"), ("1.0.0", ""), ("x", "1"), ("1.0.0", ">1<2"), ("1.0.0-01", "1"), ("1.*", "1")]
    {
        fails("semvercmp", &format!("\"{version}\",\"{constraint}\""));
    }
}
