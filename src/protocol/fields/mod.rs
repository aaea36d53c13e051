//! Structured fields: the grammar that newer HTTP fields share, read and written.
//!
//! Pure: it knows no field's meaning. A field that doesn't parse is to be ignored as a whole or
//! refused, as the field's own specification says; hence there is no error but "no".
//!
//! - RFC 9651 (which obsoletes RFC 8941): Items and Dictionaries with all their types. Lists as a
//!   whole field are left out, since no field here is one.
//! - RFC 9651 §4.2: several lines of a field are joined with `, ` before they are read

mod parse;
#[cfg(test)]
mod tests;
mod write;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Standard base64 that forgives a missing padding and stray last bits, which some clients send
/// (RFC 9651 §4.2.7 asks for that). Where the length of what it means is known, check that too.
pub(crate) const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The largest number that an Integer holds (RFC 9651 §3.3.1); its negative is the smallest.
pub const MAX_INTEGER: i64 = 999_999_999_999_999;

/// The most members of a Dictionary, parameters of an Item and items of an Inner List that are
/// read. RFC 9651 §3 asks for 1024, 256 and 256; the bound keeps the search for repeated keys short.
pub const MAX_MEMBERS: usize = 1024;

/// A value without parameters (RFC 9651 §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BareItem {
    /// At most [`MAX_INTEGER`]: `12`.
    Integer(i64),
    /// In thousandths, at most [`MAX_INTEGER`] of them: `4.5` is 4500.
    Decimal(i64),
    /// Printable ASCII: `"text"`.
    String(String),
    /// A word: `text/plain`.
    Token(String),
    /// Any bytes: `:AQID:`.
    Bytes(Vec<u8>),
    /// `?1` or `?0`.
    Boolean(bool),
    /// Seconds since 1970-01-01T00:00:00Z, at most [`MAX_INTEGER`]: `@1659578233`.
    Date(i64),
    /// Unicode: `%"f%c3%bc"`.
    DisplayString(String),
}

impl BareItem {
    /// The Integer of this number; `None` above [`MAX_INTEGER`].
    pub fn unsigned(number: u64) -> Option<Self> {
        i64::try_from(number).ok().filter(|number| *number <= MAX_INTEGER).map(Self::Integer)
    }

    /// The number, when it is an Integer that is not negative: a length or an offset, say.
    pub fn as_unsigned(&self) -> Option<u64> {
        if let Self::Integer(number) = self { u64::try_from(*number).ok() } else { None }
    }

    /// The truth value, when it is a Boolean.
    pub fn as_boolean(&self) -> Option<bool> {
        if let Self::Boolean(value) = self { Some(*value) } else { None }
    }

    /// The bytes, when it is a Byte Sequence.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// Values by key, in the order in which the keys came first; a later one replaces an earlier one
/// of the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByKey<T>(Vec<(String, T)>);

impl<T> Default for ByKey<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByKey<T> {
    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&T> {
        self.0.iter().find(|(existing, _)| existing == key).map(|(_, value)| value)
    }

    /// All keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the value of a key: at its place if it is there, else at the end.
    pub fn insert(&mut self, key: &str, value: impl Into<T>) {
        match self.0.iter_mut().find(|(existing, _)| existing == key) {
            Some((_, existing)) => *existing = value.into(),
            None => self.0.push((key.to_owned(), value.into())),
        }
    }
}

/// The parameters of an Item or an Inner List (RFC 9651 §3.1.2).
pub type Parameters = ByKey<BareItem>;

/// An Item (RFC 9651 §3.3): a value with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value.
    pub bare: BareItem,
    /// What is told about it. Who doesn't know a parameter ignores it.
    pub parameters: Parameters,
}

impl Item {
    /// Reads the whole value of a field (RFC 9651 §4.2). `None` when it is not one Item.
    pub fn parse(field: &str) -> Option<Self> {
        parse::item(field)
    }

    /// The value of a field (RFC 9651 §4.1). `None` when a part can't be written: a number out of
    /// range, a key or a token with other characters than the grammar allows, a String with other
    /// than printable ASCII ones.
    pub fn to_field(&self) -> Option<String> {
        write::item(self)
    }
}

impl From<BareItem> for Item {
    fn from(bare: BareItem) -> Self {
        Self { bare, parameters: Parameters::default() }
    }
}

/// A value in a Dictionary (RFC 9651 §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// A single Item.
    Item(Item),
    /// An Inner List (RFC 9651 §3.1.1) and its parameters.
    InnerList(Vec<Item>, Parameters),
}

impl Member {
    /// The value without its parameters; `None` for an Inner List.
    pub fn bare(&self) -> Option<&BareItem> {
        match self {
            Self::Item(item) => Some(&item.bare),
            Self::InnerList(_, _) => None,
        }
    }
}

impl<T: Into<Item>> From<T> for Member {
    fn from(item: T) -> Self {
        Self::Item(item.into())
    }
}

/// A Dictionary (RFC 9651 §3.2).
pub type Dictionary = ByKey<Member>;

impl Dictionary {
    /// Reads the whole value of a field (RFC 9651 §4.2). `None` when it is not a Dictionary, or
    /// one with more than [`MAX_MEMBERS`] members.
    pub fn parse(field: &str) -> Option<Self> {
        parse::dictionary(field)
    }

    /// The value of a field (RFC 9651 §4.1.2). `None` when a part can't be written, as in
    /// [`Item::to_field`]. When it is empty, the field must not be sent at all.
    pub fn to_field(&self) -> Option<String> {
        write::dictionary(self)
    }
}
