//! Small values in instructions: durations, sizes, ports, signals, modes; and Go's formats of some of them, which
//! BuildKit writes to the history.
//!
//! Parsers return a message without a place; the caller adds the span.

/// Parses a duration in Go's format (`1m30s`, `500ms`), in nanoseconds (<https://pkg.go.dev/time#ParseDuration>).
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let bad = || format!("not a duration: {text}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole_text, after) = rest.split_at(whole);
        let fraction = match after.strip_prefix('.') {
            Some(after) => &after[..after.bytes().take_while(u8::is_ascii_digit).count()],
            None => "",
        };
        if whole_text.is_empty() && fraction.is_empty() {
            return Err(bad());
        }
        let after = if after.starts_with('.') { &after[1 + fraction.len()..] } else { after };
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3600 * 1_000_000_000,
            "" => return Err(format!("the duration has no unit: {text}")),
            _ => return Err(format!("unknown unit in duration: {text}")),
        };
        let whole: i128 = if whole_text.is_empty() { 0 } else { whole_text.parse().map_err(|_| bad())? };
        let mut value = whole.checked_mul(unit).ok_or_else(bad)?;
        let mut scale = unit;
        for digit in fraction.bytes() {
            scale /= 10;
            value += i128::from(digit - b'0') * scale;
        }
        total += value;
        if total > i128::from(i64::MAX) {
            return Err(format!("the duration is too long: {text}"));
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| bad())
}

/// Formats nanoseconds as Go does: `5m0s`, `1.5s`, `500ms`, `0s`.
pub(super) fn print_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let decimal = |value: u64, unit: u64| {
        let (whole, part) = (value / unit, value % unit);
        if part == 0 {
            return whole.to_string();
        }
        let width = unit.ilog10() as usize;
        format!("{whole}.{}", format!("{part:0width$}").trim_end_matches('0'))
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{ns}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(ns, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(ns, 1_000_000)),
        _ => {
            let seconds = decimal(ns % 60_000_000_000, 1_000_000_000);
            let minutes = ns / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// A parsed port specification of EXPOSE (<https://docs.docker.com/reference/dockerfile/#expose>).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ports {
    /// `port/protocol`, a range unrolled.
    pub(super) ports: Vec<String>,
    /// The protocol was not written in lower case.
    pub(super) odd_protocol: bool,
    /// It maps an address or a port of the host.
    pub(super) maps_host: bool,
}

/// Parses a port specification of EXPOSE: `[[ip:]host:]port[-port][/protocol]`.
///
/// # Errors
/// When the port is missing or a part is not valid; the text is for the user.
pub(super) fn ports(text: &str) -> Result<Ports, String> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let address = parts.next().unwrap_or_default();
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err(format!("no port specified: {text}"));
    }
    let lower = match protocol.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(format!("invalid protocol `{protocol}`, not one of tcp, udp, sctp: {text}")),
    };
    let bare = address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && bare.parse::<core::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address `{address}`: {text}"));
    }
    let (start, end) =
        port_range(range).ok_or_else(|| format!("invalid port, not a number or range of 0 to 65535: {text}"))?;
    if !host.is_empty() {
        let (host_start, host_end) = port_range(host).ok_or_else(|| format!("invalid host port `{host}`: {text}"))?;
        if end - start != host_end - host_start && end != start {
            return Err(format!("the ranges of container and host ports differ in length: {text}"));
        }
    }
    Ok(Ports {
        ports: (start..=end).map(|port| format!("{port}/{lower}")).collect(),
        odd_protocol: protocol != protocol.to_ascii_lowercase(),
        maps_host: !address.is_empty() || !host.is_empty(),
    })
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (port(start)?, port(end)?);
    (start <= end).then_some((start, end))
}

/// Whether STOPSIGNAL accepts the text: a number, or a name with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |text: &str, max: u32| text.parse::<u32>().is_ok_and(|it| (1..=max).contains(&it));
    match name {
        "RTMIN" | "RTMAX" => true,
        _ if name.starts_with("RTMIN+") => real_time(&name["RTMIN+".len()..], 15),
        _ if name.starts_with("RTMAX-") => real_time(&name["RTMAX-".len()..], 14),
        _ => SIGNALS.contains(&name),
    }
}

/// The names of signals that STOPSIGNAL accepts, without `SIG`.
pub(super) const SIGNALS: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "UNUSED", "URG",
    "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Formats a text as Go's `%q` does: in double quotes, unprintable characters escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\0'..='\u{1f}' | '\u{7f}' => out.extend(["\\x", &format!("{:02x}", c as u32)]),
            c if c.is_control() || (c.is_whitespace() && c != ' ') => out.extend(["\\u", &format!("{:04x}", c as u32)]),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Formats a list of texts as Go's `%q` does: `["a" "b"]`.
pub(super) fn quoted_list(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|it| quoted(it)).collect::<Vec<_>>().join(" "))
}

/// Parses a boolean as Go's `strconv.ParseBool` does.
pub(super) fn boolean(text: &str) -> Option<bool> {
    crate::spec::boolean(text).ok()
}

/// Parses `--chmod`: octal digits, or the symbolic form of chmod(1) (`u=rwX,go=rX`).
pub(super) fn mode(text: &str) -> Result<crate::oci::ModeChange, String> {
    crate::oci::ModeChange::parse(text).ok_or_else(|| {
        format!("invalid mode, octal digits between 0 and 07777 or the form `u=rwX,go=rX` are expected: {text}")
    })
}

/// Parses one line of comma separated values; a field may be in double quotes, in which two quotes stand for one.
pub(super) fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        if let Some(mut quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            loop {
                let Some(end) = quoted.find('"') else { return Err(format!("a quote is not closed: {text}")) };
                field.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        quoted = after;
                    }
                    None => break,
                }
            }
            fields.push(field);
            match quoted.strip_prefix(',') {
                Some(after) => rest = after,
                None if quoted.is_empty() => return Ok(fields),
                None => return Err(format!("text after a closing quote: {text}")),
            }
        } else {
            let (field, after) = match rest.split_once(',') {
                Some((field, after)) => (field, Some(after)),
                None => (rest, None),
            };
            if field.contains('"') {
                return Err(format!("a quote inside of an unquoted field: {text}"));
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_in_go() {
        for (text, printed) in [
            ("5m", "5m0s"),
            ("1m30s", "1m30s"),
            ("500ms", "500ms"),
            ("1.5s", "1.5s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("36h", "36h0m0s"),
            ("1.5us", "1.5µs"),
            ("-2s", "-2s"),
            (".5s", "500ms"),
        ] {
            assert_eq!(duration(text).map(print_duration).as_deref(), Ok(printed), "{text}");
        }
        for text in ["never", "5", "", "1x", "s", "999999999999h", "1.s.", "-"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_unrolled() {
        let list = |text: &str| ports(text).map(|it| it.ports.join(" "));
        assert_eq!(list("9000-9002").as_deref(), Ok("9000/tcp 9001/tcp 9002/tcp"));
        assert_eq!(list("53/UdP").as_deref(), Ok("53/udp"));
        assert_eq!(list("127.0.0.1:80:81").as_deref(), Ok("81/tcp"));
        assert_eq!(list("[::1]:80:81").as_deref(), Ok("81/tcp"));
        for text in ["abc", "1/x", "2-1", "70000", "", "/tcp", "x:1:1", "-1", "+1"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_and_signals_are_checked() {
        for text in ["0751", "640", "4755", "u=rwX,go=rX", "a+x", "go-r,u+s", "+x", "u=g", "u+r-w"] {
            assert!(mode(text).is_ok(), "{text}");
        }
        for text in ["99x", "999", "10000", "u", "u+q", "", "u+r,", "rwx"] {
            assert!(mode(text).is_err(), "{text}");
        }
        assert!(["SIGTERM", "term", "9", "RTMIN+3", "SIGUSR1"].iter().all(|it| is_signal(it)));
        assert!(!["SIGNOPE", "0", "", "65", "RTMIN+99"].iter().any(|it| is_signal(it)));
    }

    #[test]
    fn fields_may_be_quoted() {
        assert_eq!(
            csv(r#"type=bind,"target=/a,b",x"#).as_deref(),
            Ok(&["type=bind".into(), "target=/a,b".into(), "x".into()][..])
        );
        assert!(csv(r#""a"#).is_err() && csv(r#"a"b"#).is_err() && csv(r#""a"b"#).is_err());
    }
}
