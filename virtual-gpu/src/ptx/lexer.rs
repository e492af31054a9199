//! Splits PTX into tokens (PTX ISA 9.0, "Syntax").

use super::SyntaxError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// An identifier, an opcode with its modifiers, or a directive with its dot.
    Word(String),
    Integer(u64),
    Float32(u32),
    Float64(u64),
    Text(String),
    Punct(char),
}

/// The tokens, each with its line.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, SyntaxError> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut line = 1;
    let mut at = 0;
    let fail = |line, message: String| Err(SyntaxError { line, message });
    while at < bytes.len() {
        let c = bytes[at];
        match c {
            b'\n' => {
                line += 1;
                at += 1;
            }
            // A PTX image ends at its terminating NUL.
            0 => break,
            _ if c.is_ascii_whitespace() => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let start = line;
                at += 2;
                loop {
                    match bytes.get(at) {
                        None => return fail(start, "comment is not closed by `*/`".into()),
                        Some(b'*') if bytes.get(at + 1) == Some(&b'/') => break,
                        Some(b'\n') => line += 1,
                        Some(_) => {}
                    }
                    at += 1;
                }
                at += 2;
            }
            b'"' => {
                let end = bytes[at + 1..].iter().position(|b| *b == b'"' || *b == b'\n');
                let Some(end) = end.filter(|end| bytes[at + 1 + end] == b'"') else {
                    return fail(line, "string is not closed by `\"`".into());
                };
                found.push((Token::Text(String::from_utf8_lossy(&bytes[at + 1..at + 1 + end]).into_owned()), line));
                at += end + 2;
            }
            _ if c.is_ascii_digit() => {
                let end = at
                    + bytes[at..]
                        .iter()
                        .position(|b| !b.is_ascii_alphanumeric() && *b != b'.')
                        .unwrap_or(bytes.len() - at);
                // A decimal exponent may have a sign.
                let mut end = end;
                let hex =
                    bytes[at] == b'0' && matches!(bytes.get(at + 1), Some(b'x' | b'X' | b'f' | b'F' | b'd' | b'D'));
                if !hex && matches!(bytes[end - 1], b'e' | b'E') && matches!(bytes.get(end), Some(b'+' | b'-')) {
                    end += 1;
                    end += bytes[end..].iter().take_while(|b| b.is_ascii_digit()).count();
                }
                let word = String::from_utf8_lossy(&bytes[at..end]).into_owned();
                match number(&word) {
                    Some(token) => found.push((token, line)),
                    None => return fail(line, format!("`{word}` is not a number")),
                }
                at = end;
            }
            _ if word_byte(c) => {
                let start = at;
                while at < bytes.len() {
                    // `.shared::cta` and `.L2::128B` are one word each. The colon of a label is not part of the word.
                    if bytes[at..].starts_with(b"::") && bytes.get(at + 2).copied().is_some_and(word_byte) {
                        at += 2;
                    } else if word_byte(bytes[at]) {
                        at += 1;
                    } else {
                        break;
                    }
                }
                let word = String::from_utf8_lossy(&bytes[start..at]);
                match word.strip_prefix('.') {
                    // Directives may be joined, as in `.reg.b32`.
                    Some(rest) => found.extend(rest.split('.').map(|part| (Token::Word(format!(".{part}")), line))),
                    None => found.push((Token::Word(word.into_owned()), line)),
                }
            }
            _ if b"{}()[]<>,;:|!@=+-*~&".contains(&c) => {
                found.push((Token::Punct(c as char), line));
                at += 1;
            }
            _ => return fail(line, format!("unexpected character {:?}", c as char)),
        }
    }
    Ok(found)
}

fn word_byte(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

fn number(word: &str) -> Option<Token> {
    let lower = word.to_ascii_lowercase();
    if let Some(bits) = lower.strip_prefix("0f") {
        return (bits.len() == 8).then(|| u32::from_str_radix(bits, 16).ok().map(Token::Float32))?;
    }
    if let Some(bits) = lower.strip_prefix("0d") {
        return (bits.len() == 16).then(|| u64::from_str_radix(bits, 16).ok().map(Token::Float64))?;
    }
    let plain = lower.strip_suffix('u').unwrap_or(&lower);
    if let Some(digits) = plain.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(Token::Integer);
    }
    if let Some(digits) = plain.strip_prefix("0b") {
        return u64::from_str_radix(digits, 2).ok().map(Token::Integer);
    }
    if plain.contains('.') || plain.contains('e') {
        return plain.parse::<f64>().ok().map(|value| Token::Float64(value.to_bits()));
    }
    if plain.len() > 1 && plain.starts_with('0') {
        return u64::from_str_radix(plain, 8).ok().map(Token::Integer);
    }
    plain.parse().ok().map(Token::Integer)
}
