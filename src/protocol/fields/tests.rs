//! The examples of RFC 9651 §3, and round trips.

use proptest::prelude::*;

use super::*;

fn bare(field: &str) -> Option<BareItem> {
    Item::parse(field).map(|item| item.bare)
}

fn rewritten(field: &str) -> Option<String> {
    Dictionary::parse(field)?.to_field()
}

#[test]
fn the_examples_of_rfc_9651_are_read() {
    let token = |text: &str| Some(BareItem::Token(text.to_owned()));
    assert_eq!(bare("42"), Some(BareItem::Integer(42)));
    assert_eq!(bare("4.5"), Some(BareItem::Decimal(4500)));
    assert_eq!(bare("\"hello world\""), Some(BareItem::String("hello world".to_owned())));
    assert_eq!(bare("foo123/456"), token("foo123/456"));
    let bytes = Some(BareItem::Bytes(b"pretend this is binary content.".to_vec()));
    assert_eq!(bare(":cHJldGVuZCB0aGlzIGlzIGJpbmFyeSBjb250ZW50Lg==:"), bytes);
    assert_eq!(bare("?1"), Some(BareItem::Boolean(true)));
    assert_eq!(bare("@1659578233"), Some(BareItem::Date(1_659_578_233)));
    let display = "This is intended for display to %c3%bcsers.";
    let expected = "This is intended for display to üsers.".to_owned();
    assert_eq!(bare(&format!("%\"{display}\"")), Some(BareItem::DisplayString(expected)));

    let item = Item::parse("5; foo=bar").unwrap();
    assert_eq!(item.parameters.value("foo").cloned(), token("bar"));
}

#[test]
fn the_dictionaries_of_rfc_9651_are_read_and_written() {
    for unchanged in [
        r#"en="Applepie", da=:w4ZibGV0w6ZydGU=:"#,
        "rating=1.5, feelings=(joy sadness)",
        "a=(1 2), b=3, c=4;aa=bb, d=(5 6);valid",
        "",
    ] {
        assert_eq!(rewritten(unchanged).as_deref(), Some(unchanged));
    }
    for (field, shortest) in [
        ("a=?0, b, c; foo=bar", "a=?0, b, c;foo=bar"),
        ("a=( 1  2 ),\t b=3", "a=(1 2), b=3"),
        (" a=1 , a=2,b ", "a=2, b"),
        ("a;x;x=0;y=?1", "a;x=0;y"),
    ] {
        assert_eq!(rewritten(field).as_deref(), Some(shortest));
    }
}

#[test]
fn the_fields_of_the_resumption_draft_are_read() {
    assert_eq!(bare("?1").unwrap().as_boolean(), Some(true));
    assert_eq!(bare(" 12;x=y ").unwrap().as_unsigned(), Some(12));
    assert_eq!(bare("-1").unwrap().as_unsigned(), None);
    assert_eq!(bare("1.0").unwrap().as_unsigned(), None);
    let mut limits = Dictionary::default();
    limits.insert("max-size", BareItem::unsigned(10).unwrap());
    limits.insert("min-size", BareItem::unsigned(0).unwrap());
    assert_eq!(limits.to_field().unwrap(), "max-size=10, min-size=0");
    let read = Dictionary::parse("max-size=10, min-size=0").unwrap();
    assert_eq!(read, limits);
    assert_eq!(read.value("max-size").and_then(Member::bare), Some(&BareItem::Integer(10)));
}

#[test]
fn numbers_have_their_bounds() {
    assert_eq!(bare("-0"), Some(BareItem::Integer(0)));
    assert_eq!(bare("007"), Some(BareItem::Integer(7)));
    assert_eq!(bare("-999999999999999"), Some(BareItem::Integer(-MAX_INTEGER)));
    assert_eq!(bare("999999999999.999"), Some(BareItem::Decimal(MAX_INTEGER)));
    assert_eq!(bare("-0.05"), Some(BareItem::Decimal(-50)));
    for wrong in ["1000000000000000", "1.", ".5", "1.2345", "1000000000000.0", "-", "--1", "+1"] {
        assert_eq!(bare(wrong), None, "{wrong:?}");
    }
    assert_eq!(BareItem::unsigned(1_000_000_000_000_000), None);
    for (thousandths, text) in [(0, "0.0"), (50, "0.05"), (-50, "-0.05"), (1500, "1.5")] {
        let item = Item::from(BareItem::Decimal(thousandths));
        assert_eq!(item.to_field().as_deref(), Some(text));
    }
}

#[test]
fn what_the_grammar_does_not_allow_is_no_field() {
    for wrong in [
        "",
        "?2",
        "?",
        "\"a",
        "\"a\\x\"",
        "\"ü\"",
        ":a b:",
        ":YQ",
        "1 2",
        "1,2",
        "(1 2)",
        "@1.5",
        "%\"%C3%BC\"",
        "%\"%ff\"",
        "%\"%f",
        "1;",
        "1;A=2",
        "1;a=",
        "\t1",
        "a b",
        "ü",
        "1\n",
    ] {
        assert_eq!(Item::parse(wrong), None, "{wrong:?}");
    }
    for wrong in [
        "a=1,", ",", "a=1 b=2", "A=1", "a=", "a =1", "a= 1", "a=(1 2", "a=(1,2)", "1=a", "a;;b",
        "a==1",
    ] {
        assert_eq!(Dictionary::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_missing_padding_is_forgiven() {
    assert_eq!(bare(":YQ:"), Some(BareItem::Bytes(b"a".to_vec())));
    assert_eq!(bare("::"), Some(BareItem::Bytes(Vec::new())));
}

#[test]
fn more_members_than_the_bound_are_no_field() {
    let members = |count: usize| (0..count).map(|n| format!("k{n}")).collect::<Vec<_>>();
    let at_bound = members(MAX_MEMBERS).join(",");
    assert_eq!(Dictionary::parse(&at_bound).unwrap().len(), MAX_MEMBERS);
    assert_eq!(Dictionary::parse(&members(MAX_MEMBERS + 1).join(",")), None);
    assert_eq!(Item::parse(&format!("1;{}", members(MAX_MEMBERS + 1).join(";"))), None);
    assert_eq!(Dictionary::parse(&format!("a=({})", "1 ".repeat(MAX_MEMBERS + 1))), None);
}

#[test]
fn what_cannot_be_written_is_not_written() {
    for wrong in [
        BareItem::Integer(MAX_INTEGER + 1),
        BareItem::Decimal(-MAX_INTEGER - 1),
        BareItem::Date(i64::MIN),
        BareItem::String("line\r\nSet-Cookie: a".to_owned()),
        BareItem::Token("a b".to_owned()),
        BareItem::Token(String::new()),
        BareItem::Token("1".to_owned()),
    ] {
        assert_eq!(Item::from(wrong.clone()).to_field(), None, "{wrong:?}");
    }
    for key in ["", "A", "a b", "1", "a\r\n", "-a"] {
        let mut dictionary = Dictionary::default();
        dictionary.insert(key, BareItem::Boolean(true));
        assert_eq!(dictionary.to_field(), None, "{key:?}");
    }
}

fn any_bare_item() -> impl Strategy<Value = BareItem> {
    let numbers = -MAX_INTEGER..=MAX_INTEGER;
    prop_oneof![
        numbers.clone().prop_map(BareItem::Integer),
        numbers.clone().prop_map(BareItem::Decimal),
        numbers.prop_map(BareItem::Date),
        "[ -~]{0,20}".prop_map(BareItem::String),
        "[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]{0,20}".prop_map(BareItem::Token),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(BareItem::Bytes),
        any::<bool>().prop_map(BareItem::Boolean),
        ".{0,20}".prop_map(BareItem::DisplayString),
    ]
}

fn any_by_key<T: std::fmt::Debug>(
    values: impl Strategy<Value = T>,
) -> impl Strategy<Value = ByKey<T>> {
    proptest::collection::btree_map("[a-z*][a-z0-9_.*-]{0,8}", values, 0..5)
        .prop_map(|pairs| ByKey(pairs.into_iter().collect()))
}

fn any_item() -> impl Strategy<Value = Item> {
    (any_bare_item(), any_by_key(any_bare_item()))
        .prop_map(|(bare, parameters)| Item { bare, parameters })
}

fn any_member() -> impl Strategy<Value = Member> {
    prop_oneof![
        any_item().prop_map(Member::Item),
        (proptest::collection::vec(any_item(), 0..4), any_by_key(any_bare_item()))
            .prop_map(|(items, parameters)| Member::InnerList(items, parameters)),
    ]
}

proptest! {
    #[test]
    fn a_written_item_is_read_as_the_same(item in any_item()) {
        let field = item.to_field().unwrap();
        prop_assert_eq!(Item::parse(&field), Some(item));
    }

    #[test]
    fn a_written_dictionary_is_read_as_the_same(dictionary in any_by_key(any_member())) {
        let field = dictionary.to_field().unwrap();
        prop_assert!(field.bytes().all(|byte| matches!(byte, 0x20..=0x7e)));
        prop_assert_eq!(Dictionary::parse(&field), Some(dictionary));
    }

    #[test]
    fn any_text_is_read_or_not_and_writes_as_what_was_read(
        field in prop_oneof![".*", r#"([a-z*;=, "?:%@()0-9.\\-]|\PC){0,40}"#],
    ) {
        if let Some(item) = Item::parse(&field) {
            prop_assert_eq!(Item::parse(&item.to_field().unwrap()), Some(item));
        }
        if let Some(dictionary) = Dictionary::parse(&field) {
            prop_assert_eq!(Dictionary::parse(&dictionary.to_field().unwrap()), Some(dictionary));
        }
    }
}
