//! One item at a time: JSON to CBOR, and CBOR to JSON.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::{any_item, bignum, bytes, hex, to_cbor, to_json};
use crate::protocol::samples::any_json;

/// RFC 8949, appendix A: what JSON can hold too, in its preferred serialization.
const APPENDIX_A: &[(&str, &str)] = &[
    ("00", "0"),
    ("01", "1"),
    ("0a", "10"),
    ("17", "23"),
    ("1818", "24"),
    ("1819", "25"),
    ("1864", "100"),
    ("1903e8", "1000"),
    ("1a000f4240", "1000000"),
    ("1b000000e8d4a51000", "1000000000000"),
    ("1bffffffffffffffff", "18446744073709551615"),
    ("c249010000000000000000", "18446744073709551616"),
    ("3bffffffffffffffff", "-18446744073709551616"),
    ("c349010000000000000000", "-18446744073709551617"),
    ("20", "-1"),
    ("29", "-10"),
    ("3863", "-100"),
    ("3903e7", "-1000"),
    ("f90000", "0.0"),
    ("f98000", "-0.0"),
    ("f93c00", "1.0"),
    ("fb3ff199999999999a", "1.1"),
    ("f93e00", "1.5"),
    ("f97bff", "65504.0"),
    ("fa47c35000", "100000.0"),
    ("fa7f7fffff", "3.4028234663852886e+38"),
    ("fb7e37e43c8800759c", "1e+300"),
    ("f90001", "5.960464477539063e-8"),
    ("f90400", "0.00006103515625"),
    ("f9c400", "-4.0"),
    ("fbc010666666666666", "-4.1"),
    ("f4", "false"),
    ("f5", "true"),
    ("f6", "null"),
    ("60", r#""""#),
    ("6161", r#""a""#),
    ("6449455446", r#""IETF""#),
    ("62225c", r#""\"\\""#),
    ("62c3bc", r#""ü""#),
    ("63e6b0b4", r#""水""#),
    ("64f0908591", r#""𐅑""#),
    ("80", "[]"),
    ("83010203", "[1,2,3]"),
    ("8301820203820405", "[1,[2,3],[4,5]]"),
    (
        "98190102030405060708090a0b0c0d0e0f101112131415161718181819",
        "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25]",
    ),
    ("a0", "{}"),
    ("a26161016162820203", r#"{"a":1,"b":[2,3]}"#),
    ("826161a161626163", r#"["a",{"b":"c"}]"#),
    ("a56161614161626142616361436164614461656145", r#"{"a":"A","b":"B","c":"C","d":"D","e":"E"}"#),
];

#[test]
fn the_vectors_of_the_rfc_go_both_ways() {
    for (item, json) in APPENDIX_A {
        assert_eq!(hex(&to_cbor(json)), *item, "{json}");
        let read = to_json(&bytes(item)).expect(item);
        assert_eq!(Tree::of(&read), Tree::of(json), "{item}");
    }
}

#[test]
fn the_vectors_of_the_rfc_that_only_come_in_are_read() {
    for (item, json) in [
        ("fa00000000", "0.0"),
        ("fb3ff0000000000000", "1.0"),
        ("1800", "0"),
        ("1b0000000000000001", "1"),
        ("c074323031332d30332d32315432303a30343a30305a", r#""2013-03-21T20:04:00Z""#),
        ("c11a514b67b0", "1363896240"),
        ("c1fb41d452d9ec200000", "1363896240.5"),
        ("d74401020304", r#""01020304""#),
        ("d818456449455446", r#""ZElFVEY=""#),
        ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", r#""http://www.example.com""#),
        ("4401020304", r#""AQIDBA==""#),
        ("40", r#""""#),
        ("5f42010243030405ff", r#""AQIDBAU=""#),
        ("7f657374726561646d696e67ff", r#""streaming""#),
        ("7fff", r#""""#),
        ("9fff", "[]"),
        ("9f018202039f0405ffff", "[1,[2,3],[4,5]]"),
        ("9f01820203820405ff", "[1,[2,3],[4,5]]"),
        ("83018202039f0405ff", "[1,[2,3],[4,5]]"),
        ("83019f0203ff820405", "[1,[2,3],[4,5]]"),
        ("bf61610161629f0203ffff", r#"{"a":1,"b":[2,3]}"#),
        ("826161bf61626163ff", r#"["a",{"b":"c"}]"#),
        ("bf6346756ef563416d7421ff", r#"{"Fun":true,"Amt":-2}"#),
    ] {
        assert_eq!(to_json(&bytes(item)).as_deref(), Ok(json), "{item}");
    }
}

#[test]
fn byte_strings_within_become_text_as_the_rfc_says() {
    for (item, json) in [
        ("8143fbff00", r#"["-_8A"]"#),
        ("8142fbff", r#"["-_8"]"#),
        ("81d542fbff", r#"["-_8"]"#),
        ("81d642fbff", r#"["+/8="]"#),
        ("81d742fbff", r#"["FBFF"]"#),
        // A hint holds for all within, until another one.
        ("d78242fbff81d642fbff", r#"["FBFF",["+/8="]]"#),
        ("d7a1616142fbff", r#"{"a":"FBFF"}"#),
        ("82d742fbff42fbff", r#"["FBFF","-_8"]"#),
        ("d642fbff", r#""+/8=""#),
        ("d542fbff", r#""-_8""#),
    ] {
        assert_eq!(to_json(&bytes(item)).as_deref(), Ok(json), "{item}");
    }
}

#[test]
fn numbers_by_tag_become_numbers() {
    for (item, json) in [
        ("c240", "0"),
        ("c2420100", "256"),
        ("c340", "-1"),
        ("c25f41014100ff", "256"),
        ("c34101", "-2"),
        ("c482190190 01", "1e400"),
        ("c48221196ab3", "27315e-2"),
        ("c49f2120ff", "-1e-2"),
        ("c48221c249010000000000000000", "18446744073709551616e-2"),
        ("81c2420100", "[256]"),
    ] {
        assert_eq!(to_json(&bytes(item)).as_deref(), Ok(json), "{item}");
    }
}

#[test]
fn a_value_that_json_can_not_have_is_unfit() {
    for (item, unfit) in [
        ("f97e00", "NaN or infinity"),
        ("fa7f800000", "NaN or infinity"),
        ("fbfff0000000000000", "NaN or infinity"),
        ("f7", "undefined"),
        ("e0", "a simple value"),
        ("f0", "a simple value"),
        ("f8ff", "a simple value"),
        ("62c328", "text that is not UTF-8"),
        ("63eda080", "text that is not UTF-8"),
        // A character may not be cut in two by the chunks.
        ("7f61c361bcff", "text that is not UTF-8"),
        ("a201020304", "a map key that is not text"),
        ("a1416101", "a map key that is not text"),
        ("a18001", "a map key that is not text"),
        ("a1c2410101", "a number that is misshapen or too long"),
        ("c201", "a number that is misshapen or too long"),
        ("c400", "a number that is misshapen or too long"),
        ("c480", "a number that is misshapen or too long"),
        ("c48101", "a number that is misshapen or too long"),
        ("c483010203", "a number that is misshapen or too long"),
        ("c482f93c0001", "a number that is misshapen or too long"),
        ("c482016161", "a number that is misshapen or too long"),
        ("c48201c482014101", "a number that is misshapen or too long"),
    ] {
        assert_eq!(to_json(&bytes(item)).expect_err(item), unfit, "{item}");
    }
}

#[test]
fn what_is_not_cbor_is_malformed() {
    for item in [
        "",
        "18",
        "19 00",
        "1a 000000",
        "1b 00000000000000",
        "1c",
        "1d",
        "1e",
        "1f",
        "3f",
        "df",
        "41",
        "61",
        "62 61",
        "5c",
        "7d",
        "81",
        "9f",
        "9f 01",
        "a1",
        "a1 6161",
        "bf",
        "bf 6161",
        "bf 6161 ff",
        "c0",
        "f8",
        "f8 00",
        "f8 1f",
        "f9 00",
        "fa 000000",
        "fb 00000000000000",
        "fc",
        "fd",
        "fe",
        "ff",
        "81 ff",
        "82 01 ff",
        "a1 6161 ff",
        "5f 01 ff",
        "5f 6161 ff",
        "7f 4161 ff",
        "5f 5f 4161 ff ff",
        "5f 4161",
        "00 00",
        "c2 ff",
    ] {
        let error = to_json(&bytes(item)).expect_err(item);
        assert!(error.contains("at byte"), "{item}: {error}");
    }
}

#[test]
fn a_declared_length_reserves_no_memory() {
    for major in [0x40, 0x60, 0x80, 0xa0] {
        for length in [u32::MAX.into(), 1 << 62, u64::MAX] {
            let mut item = vec![major | 27];
            item.extend(u64::to_be_bytes(length));
            assert!(to_json(&item).unwrap_err().contains("an end too early"));
        }
    }
}

#[test]
fn nesting_does_not_overflow_the_stack_and_is_counted() {
    let nested = |depth| [vec![0x81; depth], vec![0x01]].concat();
    assert!(to_json(&nested(64)).is_ok());
    for bomb in [nested(65), vec![0x81; 1 << 20], vec![0x9f; 1 << 20], vec![0xbf; 1 << 20]] {
        assert!(to_json(&bomb).is_err());
    }
    assert!(to_json(&[vec![0xc6; 1 << 20], vec![0x01]].concat()).is_ok(), "tags are no nesting");
    let json = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
    assert_eq!(to_cbor(&json).len(), 1 << 20);
}

#[test]
fn a_number_that_is_too_long_is_refused_coming_in_and_rounded_going_out() {
    let bignum = |length| {
        let mut item = vec![0xc2, 0x59];
        item.extend(u16::to_be_bytes(length));
        item.resize(item.len() + usize::from(length), 0xff);
        item
    };
    assert!(to_json(&bignum(256)).is_ok());
    assert!(to_json(&bignum(257)).is_err());
    let digits = "123456789".repeat(100_000);
    let kept = &digits[..bignum::MAX_DIGITS];
    let exponent = digits.len() - kept.len();
    assert_eq!(to_json(&to_cbor(&digits)), Ok(format!("{kept}e{exponent}")));
    let longest = &digits[..bignum::MAX_DIGITS];
    assert_eq!(to_json(&to_cbor(longest)).as_deref(), Ok(longest));
    assert_eq!(to_json(&to_cbor(&format!("-{longest}"))), Ok(format!("-{longest}")));
}

#[test]
fn a_number_is_an_integer_a_float_or_at_the_worst_a_decimal() {
    for (json, item) in [
        ("-0", "f98000"),
        ("0e99999999999999999999", "f90000"),
        ("-0.000", "f98000"),
        ("1E2", "f95640"),
        ("1e400", "c482190190 01".replace(' ', "").as_str()),
        ("-1.5e400", "c48219018f2e"),
        ("1e-400", "c48239018f01"),
        ("0.5e-400", "c4823901900 5".replace(' ', "").as_str()),
        ("1e99999999999999999999", "c4821b7fffffffffffffff01"),
        ("1e-99999999999999999999", "c4823b7fffffffffffffff01"),
        ("5e-324", "fb0000000000000001"),
        ("9007199254740993", "1b0020000000000001"),
        ("-9223372036854775809", "3b8000000000000000"),
    ] {
        assert_eq!(hex(&to_cbor(json)), item, "{json}");
    }
}

#[test]
fn half_a_surrogate_pair_becomes_the_replacement_character() {
    for (json, text) in [
        (r#""\ud83d\ude00""#, "😀"),
        (r#""a\ud800b""#, "a\u{fffd}b"),
        (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
        (r#""\"\\\/\b\f\n\r\t\u0041\u00e4""#, "\"\\/\u{8}\u{c}\n\r\tAä"),
        (r#""ends with \\""#, "ends with \\"),
    ] {
        let read: String = ciborium::from_reader(&to_cbor(json)[..]).unwrap();
        assert_eq!(read, text);
    }
}

/// What a JSON text says, however it is spelt: floats to their last bit, integers to their last digit.
#[derive(Debug, PartialEq)]
enum Tree {
    Word(String),
    Number(String),
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn of(json: &str) -> Self {
        match json.as_bytes()[0] {
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(json).unwrap();
                Tree::Array(items.into_iter().map(|item| Tree::of(item.get())).collect())
            }
            b'{' => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
                let member = |(name, item): (String, &RawValue)| (name, Tree::of(item.get()));
                Tree::Object(members.into_iter().map(member).collect())
            }
            b'"' => Tree::Text(serde_json::from_str(json).unwrap()),
            b't' | b'f' | b'n' => Tree::Word(json.to_owned()),
            _ if json != "-0" && !json.contains(['.', 'e', 'E']) => Tree::Number(json.to_owned()),
            _ => Tree::Number(format!("{:?}", json.parse::<f64>().unwrap())),
        }
    }

    /// What an item is as JSON; `None` where it is unfit.
    fn of_item(item: &ciborium::Value, is_alone: bool) -> Option<Self> {
        use ciborium::Value;
        Some(match item {
            Value::Integer(number) => Tree::Number(i128::from(*number).to_string()),
            Value::Float(number) if number.is_finite() => Tree::Number(format!("{number:?}")),
            Value::Text(text) => Tree::Text(text.clone()),
            Value::Bytes(bytes) if is_alone => Tree::Text(BASE64_STANDARD.encode(bytes)),
            Value::Bytes(bytes) => Tree::Text(BASE64_URL_SAFE_NO_PAD.encode(bytes)),
            Value::Bool(yes) => Tree::Word(yes.to_string()),
            Value::Null => Tree::Word("null".to_owned()),
            Value::Tag(_, value) => Tree::of_item(value, is_alone)?,
            Value::Array(items) => {
                let items = items.iter().map(|item| Tree::of_item(item, false));
                Tree::Array(items.collect::<Option<_>>()?)
            }
            Value::Map(members) => {
                let member = |(name, item): &(Value, Value)| {
                    Some((name.as_text()?.to_owned(), Tree::of_item(item, false)?))
                };
                let members: Option<BTreeMap<_, _>> = members.iter().map(member).collect();
                Tree::Object(members?.into_iter().collect())
            }
            _ => return None,
        })
    }
}

proptest! {
    #[test]
    fn what_another_writer_wrote_is_read(item in any_item()) {
        let mut data = Vec::new();
        ciborium::into_writer(&item, &mut data).unwrap();
        let read = to_json(&data).ok().map(|json| Tree::of(&json));
        prop_assert_eq!(read, Tree::of_item(&item, true));
    }

    #[test]
    fn json_keeps_its_value_on_the_way_to_cbor_and_back(json in any_json()) {
        let back = to_json(&to_cbor(&json)).unwrap();
        prop_assert_eq!(Tree::of(&back), Tree::of(&json));
        prop_assert_eq!(to_json(&to_cbor(&back)), Ok(back));
    }

    #[test]
    fn integers_of_any_size_come_back_digit_for_digit(digits in "-?[1-9][0-9]{0,200}") {
        prop_assert_eq!(to_json(&to_cbor(&digits)), Ok(digits));
    }

    #[test]
    fn a_float_is_as_short_as_another_writer_makes_it(number in prop_oneof![
        any::<f64>(),
        any::<f32>().prop_map(f64::from),
        any::<u16>().prop_map(|bits| f64::from(bits) / 4096.0),
        (any::<u16>(), 0..40_i32).prop_map(|(bits, shift)| f64::from(bits) * 2_f64.powi(-shift)),
    ].prop_filter("finite", |number| number.is_finite())) {
        let mut theirs = Vec::new();
        ciborium::into_writer(&number, &mut theirs).unwrap();
        let json = serde_json::to_string(&number).unwrap();
        prop_assert_eq!(to_cbor(&json), theirs);
    }
}
