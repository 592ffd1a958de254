//! The fields of a tar header, read and written: texts, numbers, checksum, and the records of PAX headers.
//!
//! Formats: POSIX.1-2017, `pax` ("ustar Interchange Format", "pax Header Block"), and the manual of GNU tar for binary numbers.
//! Which headers a member has is decided in `read` and `write`.

/// The size of a header, and the unit that data is padded to.
pub(super) const BLOCK: usize = 512;

/// The zero bytes that fill the last block of data of this size.
pub(crate) fn tar_padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    &ZEROS[..((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize]
}

/// The first record of the text of a PAX header: its key, its value, and the text after it. `None` if it is malformed.
pub(super) fn parse_record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = text.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&text[..space])?).ok()?;
    let body = text.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &text[length..]))
}

/// Whether a block is the header of a tar archive, judged by its checksum. The zeros of an empty archive are not one.
pub(crate) fn is_tar_header(block: &[u8; BLOCK]) -> bool {
    block.iter().any(|byte| *byte != 0) && has_right_checksum(block)
}

/// Whether the checksum of a header is that of its bytes, which some old programs added up as signed numbers.
pub(super) fn has_right_checksum(block: &[u8; BLOCK]) -> bool {
    let with_spaces = |(i, byte): (usize, &u8)| if (148..156).contains(&i) { b' ' } else { *byte };
    let unsigned: i64 = block.iter().enumerate().map(|byte| i64::from(with_spaces(byte))).sum();
    let signed: i64 = block.iter().enumerate().map(|byte| i64::from(with_spaces(byte).cast_signed())).sum();
    let sum = number(&block[148..156]);
    sum == Some(unsigned) || sum == Some(signed)
}

/// The text of a field, which ends at a zero byte or with the field.
pub(super) fn field(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_owned()
}

/// The path of a header without extensions: the name, behind the prefix that a ustar header may have.
pub(super) fn header_path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = field(&block[..100]);
    // GNU headers have other things where ustar has the prefix.
    if block[257..263] != *b"ustar\0" || block[345] == 0 {
        return name;
    }
    [field(&block[345..500]), name].join(&b'/')
}

/// The value of a numeric field: octal digits among spaces and zero bytes, or binary if the first bit is set (GNU tar).
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Two's complement with the first bit as a mark.
        let mut value: i128 = if first & 0x40 != 0 { -1 } else { 0 };
        for (i, byte) in field.iter().enumerate() {
            let byte = if i == 0 { byte & 0x7f | (first & 0x40) << 1 } else { *byte };
            value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        }
        return i64::try_from(value).ok();
    }
    let is_blank = |byte: &u8| matches!(*byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let mut value = 0_i64;
    for byte in &digits[..end] {
        let digit = i64::from(byte.checked_sub(b'0').filter(|digit| *digit < 8)?);
        value = value.checked_mul(8)?.checked_add(digit)?;
    }
    Some(value)
}

/// The number that a text of decimal digits alone stands for.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The time of a PAX record: seconds and nanoseconds since 1970, the fraction rounded down.
pub(super) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanoseconds = 0_u32;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for i in 0..9 {
            nanoseconds = nanoseconds * 10 + fraction.get(i).map_or(0, |byte| u32::from(byte - b'0'));
        }
    }
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

/// Completes a header: type, magic of ustar, checksum.
pub(super) fn seal(header: &mut [u8; BLOCK], flag: u8) {
    header[156] = flag;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    put_number(&mut header[148..155], sum);
}

/// Writes the ASCII characters of a text, as many as fit; a cut text does not end with a slash, which some readers take for a
/// directory.
pub(super) fn put_text(field: &mut [u8], text: &[u8]) {
    let ascii: Vec<u8> = text.iter().copied().filter(u8::is_ascii).collect();
    let mut n = ascii.len().min(field.len());
    if ascii.len() > field.len() {
        while n > 0 && ascii[n - 1] == b'/' {
            n -= 1;
        }
    }
    field[..n].copy_from_slice(&ascii[..n]);
}

/// Writes a number in octal with leading zeros, closed by a zero byte. It must fit.
pub(super) fn put_number(field: &mut [u8], mut value: u64) {
    let last = field.len() - 1;
    field[last] = 0;
    for digit in field[..last].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Appends a PAX record: `LENGTH KEY=VALUE\n`, where the length counts its own digits.
pub(super) fn put_record(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"99"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"7"), Some((7, 0)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        for bad in ["", "nan", "1e5", "99999999999999999999", "1.x", "--1"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn records_say_their_own_length() {
        assert_eq!(parse_record(b"11 path=ab\nrest"), Some((&b"path"[..], &b"ab"[..], &b"rest"[..])));
        assert_eq!(parse_record(b"12 path=ab\n"), None);
        assert_eq!(parse_record(b"3 x\n"), None);
        assert_eq!(parse_record(b"99999999999999999999999 x=y\n"), None);
    }

    #[test]
    fn lengths_of_records_count_themselves() {
        for n in [1, 80, 88, 89, 90, 91, 988, 989, 990] {
            let mut body = Vec::new();
            put_record(&mut body, b"key", &vec![b'v'; n]);
            let said: usize = String::from_utf8_lossy(&body).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, body.len());
        }
    }
}
