//! Reading structured fields. One function for each algorithm of RFC 9651 §4.2, in its order.

use base64::Engine as _;

use super::{BareItem, ByKey, Dictionary, Item, LENIENT_BASE64, MAX_MEMBERS, Member, Parameters};

const INTEGER_DIGITS: usize = 15;
const DECIMAL_WHOLE_DIGITS: usize = 12;
const DECIMAL_FRACTION_DIGITS: usize = 3;

/// RFC 9651 §4.2 with the type Item.
pub(super) fn item(field: &str) -> Option<Item> {
    let mut input = Input(field.as_bytes());
    input.skip_spaces();
    let item = input.item()?;
    input.skip_spaces();
    input.0.is_empty().then_some(item)
}

/// RFC 9651 §4.2 with the type Dictionary, and §4.2.2.
pub(super) fn dictionary(field: &str) -> Option<Dictionary> {
    let mut input = Input(field.trim_matches(' ').as_bytes());
    let mut dictionary = Dictionary::default();
    if input.0.is_empty() {
        return Some(dictionary);
    }
    loop {
        let key = input.key()?;
        let member = if input.skip(b'=') {
            input.item_or_inner_list()?
        } else {
            Member::Item(Item { bare: BareItem::Boolean(true), parameters: input.parameters()? })
        };
        insert(&mut dictionary, key, member)?;
        input.skip_optional_whitespace();
        if input.0.is_empty() {
            return Some(dictionary);
        }
        input.expect(b',')?;
        input.skip_optional_whitespace();
    }
}

fn insert<T>(by_key: &mut ByKey<T>, key: &str, value: T) -> Option<()> {
    by_key.insert(key, value);
    (by_key.len() <= MAX_MEMBERS).then_some(())
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, expected: u8) -> bool {
        let is_next = self.0.first() == Some(&expected);
        if is_next {
            self.next();
        }
        is_next
    }

    fn expect(&mut self, expected: u8) -> Option<()> {
        self.skip(expected).then_some(())
    }

    fn skip_spaces(&mut self) {
        while self.skip(b' ') {}
    }

    fn skip_optional_whitespace(&mut self) {
        while self.skip(b' ') || self.skip(b'\t') {}
    }

    /// Takes what comes before the first byte that is not `wanted`. It is a text, since all that
    /// is ever wanted is ASCII.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| !wanted(*byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        str::from_utf8(taken).ok()
    }

    /// §4.2.1.1
    fn item_or_inner_list(&mut self) -> Option<Member> {
        if !self.skip(b'(') {
            return self.item().map(Member::Item);
        }
        let mut items = Vec::new();
        loop {
            self.skip_spaces();
            if self.skip(b')') {
                return Some(Member::InnerList(items, self.parameters()?));
            }
            items.push(self.item()?);
            let ends = matches!(self.0.first(), Some(b' ' | b')'));
            if !ends || items.len() > MAX_MEMBERS {
                return None;
            }
        }
    }

    /// §4.2.3
    fn item(&mut self) -> Option<Item> {
        Some(Item { bare: self.bare_item()?, parameters: self.parameters()? })
    }

    /// §4.2.3.1
    fn bare_item(&mut self) -> Option<BareItem> {
        match self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string().map(BareItem::String),
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.take_while(is_token).map(|token| BareItem::Token(token.to_owned()))
            }
            b':' => self.bytes().map(BareItem::Bytes),
            b'?' => self.boolean().map(BareItem::Boolean),
            b'@' => self.date().map(BareItem::Date),
            b'%' => self.display_string().map(BareItem::DisplayString),
            _ => None,
        }
    }

    /// §4.2.3.2
    fn parameters(&mut self) -> Option<Parameters> {
        let mut parameters = Parameters::default();
        while self.skip(b';') {
            self.skip_spaces();
            let key = self.key()?;
            let value = if self.skip(b'=') { self.bare_item()? } else { BareItem::Boolean(true) };
            insert(&mut parameters, key, value)?;
        }
        Some(parameters)
    }

    /// §4.2.3.3
    fn key(&mut self) -> Option<&'a str> {
        self.take_while(is_key).filter(|key| key.starts_with(is_key_start))
    }

    /// §4.2.4
    fn number(&mut self) -> Option<BareItem> {
        let sign = if self.skip(b'-') { -1 } else { 1 };
        let whole = self.take_while(|byte| byte.is_ascii_digit())?;
        if !self.skip(b'.') {
            let is_short = whole.len() <= INTEGER_DIGITS;
            let number = whole.parse::<i64>().ok().filter(|_| is_short)?;
            return number.checked_mul(sign).map(BareItem::Integer);
        }
        let fraction = self.take_while(|byte| byte.is_ascii_digit())?;
        let is_short = !whole.is_empty()
            && whole.len() <= DECIMAL_WHOLE_DIGITS
            && (1..=DECIMAL_FRACTION_DIGITS).contains(&fraction.len());
        let thousandths = format!("{whole}{fraction:0<DECIMAL_FRACTION_DIGITS$}");
        let number = thousandths.parse::<i64>().ok().filter(|_| is_short)?;
        number.checked_mul(sign).map(BareItem::Decimal)
    }

    /// §4.2.5
    fn string(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut string = String::new();
        loop {
            match self.next()? {
                b'"' => return Some(string),
                b'\\' => {
                    let escaped = self.next().filter(|byte| matches!(byte, b'"' | b'\\'))?;
                    string.push(char::from(escaped));
                }
                byte @ 0x20..=0x7e => string.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    /// §4.2.7
    fn bytes(&mut self) -> Option<Vec<u8>> {
        self.expect(b':')?;
        let text = self.take_while(|byte| byte != b':' && byte.is_ascii())?;
        self.expect(b':')?;
        LENIENT_BASE64.decode(text).ok()
    }

    /// §4.2.8
    fn boolean(&mut self) -> Option<bool> {
        self.expect(b'?')?;
        match self.next()? {
            b'0' => Some(false),
            b'1' => Some(true),
            _ => None,
        }
    }

    /// §4.2.9
    fn date(&mut self) -> Option<i64> {
        self.expect(b'@')?;
        if let BareItem::Integer(seconds) = self.number()? { Some(seconds) } else { None }
    }

    /// §4.2.10
    fn display_string(&mut self) -> Option<String> {
        self.expect(b'%')?;
        self.expect(b'"')?;
        let mut bytes = Vec::new();
        loop {
            match self.next()? {
                b'"' => return String::from_utf8(bytes).ok(),
                b'%' => {
                    let (digits, rest) = self.0.split_first_chunk::<2>()?;
                    self.0 = rest;
                    let is_lower_hex =
                        digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                    let digits = str::from_utf8(digits).ok().filter(|_| is_lower_hex)?;
                    bytes.push(u8::from_str_radix(digits, 16).ok()?);
                }
                byte @ 0x20..=0x7e => bytes.push(byte),
                _ => return None,
            }
        }
    }
}

/// `lcalpha` or `*`
pub(super) fn is_key_start(first: char) -> bool {
    first.is_ascii_lowercase() || first == '*'
}

pub(super) fn is_key(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
}

/// `tchar` of RFC 9110 §5.6.2, and `:` and `/`
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}
