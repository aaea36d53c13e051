//! Structured fields (RFC 9651): what is read can be written and is read again as the same; what
//! can be written is read as what was meant.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use resumed::protocol::fields::{BareItem, Dictionary, Item, MAX_MEMBERS, Member, Parameters};

#[derive(Arbitrary, Debug)]
enum Bare {
    Integer(i64),
    Decimal(i64),
    String(String),
    Token(String),
    Bytes(Vec<u8>),
    Boolean(bool),
    Date(i64),
    DisplayString(String),
}

type Annotated = (Bare, Vec<(String, Bare)>);

#[derive(Arbitrary, Debug)]
enum Input {
    Text(String),
    Meant(Vec<(String, Result<Annotated, Vec<Annotated>>)>),
}

fn bare(bare: Bare) -> BareItem {
    match bare {
        Bare::Integer(number) => BareItem::Integer(number),
        Bare::Decimal(thousandths) => BareItem::Decimal(thousandths),
        Bare::String(string) => BareItem::String(string),
        Bare::Token(token) => BareItem::Token(token),
        Bare::Bytes(bytes) => BareItem::Bytes(bytes),
        Bare::Boolean(value) => BareItem::Boolean(value),
        Bare::Date(seconds) => BareItem::Date(seconds),
        Bare::DisplayString(string) => BareItem::DisplayString(string),
    }
}

fn item((value, about): Annotated) -> Item {
    let mut parameters = Parameters::default();
    for (key, value) in about {
        parameters.insert(&key, bare(value));
    }
    Item { bare: bare(value), parameters }
}

fn is_field_content(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

fn read(text: &str) {
    if let Some(item) = Item::parse(text) {
        let written = item.to_field().expect("what was read can be written");
        assert!(is_field_content(&written));
        assert_eq!(Item::parse(&written), Some(item));
    }
    if let Some(dictionary) = Dictionary::parse(text) {
        assert!(dictionary.len() <= MAX_MEMBERS);
        let written = dictionary.to_field().expect("what was read can be written");
        assert!(is_field_content(&written));
        assert_eq!(Dictionary::parse(&written), Some(dictionary));
    }
}

fn write(members: Vec<(String, Result<Annotated, Vec<Annotated>>)>) {
    let mut dictionary = Dictionary::default();
    for (key, member) in members {
        let member = match member {
            Ok(annotated) => {
                let item = item(annotated);
                if let Some(written) = item.to_field() {
                    assert_eq!(Item::parse(&written).as_ref(), Some(&item), "{written}");
                }
                Member::Item(item)
            }
            Err(items) => {
                let items = items.into_iter().map(item).collect();
                Member::InnerList(items, Parameters::default())
            }
        };
        dictionary.insert(&key, member);
    }
    if let Some(written) = dictionary.to_field() {
        assert!(is_field_content(&written));
        assert_eq!(Dictionary::parse(&written), Some(dictionary), "{written}");
    }
}

fuzz_target!(|input: Input| {
    match input {
        Input::Text(text) => read(&text),
        Input::Meant(members) => write(members),
    }
});
