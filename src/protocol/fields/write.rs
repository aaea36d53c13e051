//! Writing structured fields: RFC 9651 §4.1. What can't be written is `None`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::parse::{is_key, is_key_start, is_token};
use super::{BareItem, Dictionary, Item, MAX_INTEGER, Member, Parameters};

pub(super) fn item(item: &Item) -> Option<String> {
    let mut output = String::new();
    write_item(&mut output, item)?;
    Some(output)
}

/// §4.1.2
pub(super) fn dictionary(dictionary: &Dictionary) -> Option<String> {
    let mut output = String::new();
    for (key, member) in dictionary.iter() {
        if !output.is_empty() {
            output.push_str(", ");
        }
        write_key(&mut output, key)?;
        match member {
            Member::Item(Item { bare: BareItem::Boolean(true), parameters }) => {
                write_parameters(&mut output, parameters)?;
            }
            Member::Item(item) => {
                output.push('=');
                write_item(&mut output, item)?;
            }
            Member::InnerList(items, parameters) => {
                output.push('=');
                write_inner_list(&mut output, items, parameters)?;
            }
        }
    }
    Some(output)
}

/// §4.1.1.1
fn write_inner_list(output: &mut String, items: &[Item], parameters: &Parameters) -> Option<()> {
    output.push('(');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            output.push(' ');
        }
        write_item(output, item)?;
    }
    output.push(')');
    write_parameters(output, parameters)
}

/// §4.1.3
fn write_item(output: &mut String, item: &Item) -> Option<()> {
    write_bare_item(output, &item.bare)?;
    write_parameters(output, &item.parameters)
}

/// §4.1.1.2
fn write_parameters(output: &mut String, parameters: &Parameters) -> Option<()> {
    for (key, value) in parameters.iter() {
        output.push(';');
        write_key(output, key)?;
        if *value != BareItem::Boolean(true) {
            output.push('=');
            write_bare_item(output, value)?;
        }
    }
    Some(())
}

/// §4.1.1.3
fn write_key(output: &mut String, key: &str) -> Option<()> {
    if !key.starts_with(is_key_start) || !key.bytes().all(is_key) {
        return None;
    }
    output.push_str(key);
    Some(())
}

/// §4.1.3.1
fn write_bare_item(output: &mut String, bare: &BareItem) -> Option<()> {
    match bare {
        BareItem::Integer(number) => write!(output, "{}", within_range(*number)?).ok(),
        BareItem::Decimal(thousandths) => write_decimal(output, within_range(*thousandths)?),
        BareItem::String(string) => write_string(output, string),
        BareItem::Token(token) => {
            let is_start = |first: char| first.is_ascii_alphabetic() || first == '*';
            let is_right = token.starts_with(is_start) && token.bytes().all(is_token);
            is_right.then(|| output.push_str(token))
        }
        BareItem::Bytes(bytes) => write!(output, ":{}:", STANDARD.encode(bytes)).ok(),
        BareItem::Boolean(value) => write!(output, "?{}", u8::from(*value)).ok(),
        BareItem::Date(seconds) => write!(output, "@{}", within_range(*seconds)?).ok(),
        BareItem::DisplayString(string) => write_display_string(output, string),
    }
}

fn within_range(number: i64) -> Option<i64> {
    (-MAX_INTEGER..=MAX_INTEGER).contains(&number).then_some(number)
}

/// §4.1.5: at least one digit after the point, and no zero after that one.
fn write_decimal(output: &mut String, thousandths: i64) -> Option<()> {
    let sign = if thousandths < 0 { "-" } else { "" };
    let digits = format!("{:04}", thousandths.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len().checked_sub(3)?);
    let fraction = fraction.trim_end_matches('0');
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    write!(output, "{sign}{whole}.{fraction}").ok()
}

/// §4.1.6
fn write_string(output: &mut String, string: &str) -> Option<()> {
    if !string.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return None;
    }
    output.push('"');
    for character in string.chars() {
        if matches!(character, '"' | '\\') {
            output.push('\\');
        }
        output.push(character);
    }
    output.push('"');
    Some(())
}

/// §4.1.11
fn write_display_string(output: &mut String, string: &str) -> Option<()> {
    output.push_str("%\"");
    for byte in string.bytes() {
        match byte {
            b'%' | b'"' | 0x00..=0x1f | 0x7f..=0xff => write!(output, "%{byte:02x}").ok()?,
            _ => output.push(char::from(byte)),
        }
    }
    output.push('"');
    Some(())
}
