//! What a YAML file may not be, and which bound tells it so.

use super::*;

/// Parses as a layer, where most may stand, and expects `CONFIG_INVALID`.
#[track_caller]
fn refused(text: &str) -> String {
    let refusal = parse_layer(text.as_bytes()).expect_err("this should be refused");
    assert_eq!(refusal.code, Code::ConfigInvalid, "{refusal}");
    refusal.detail
}

#[test]
fn maps_lists_texts_whole_numbers_and_truth_values_pass() {
    let text = "a: {b: [x, 'y', \"z!\"]}\nn: -9007199254740991\nt: true # ! not a tag\nl: |\n  !no\n  tag\n";
    let json = serde_json::json!({
        "a": {"b": ["x", "y", "z!"]}, "n": -9_007_199_254_740_991_i64, "t": true, "l": "!no\ntag\n",
    });
    assert_eq!(parse(text.as_bytes()).unwrap(), json);
}

#[test]
fn aliases_expand() {
    let value = parse(b"a: &x [1, 2]\nb: *x\n").unwrap();
    assert_eq!(value["b"], serde_json::json!([1, 2]));
}

#[test]
fn a_refusal_names_the_field_the_line_and_the_column() {
    assert_eq!(
        refused("run:\n  limits:\n    tasks: 1\n    tasks: 2\n"),
        "run.limits: duplicate key `tasks` at line 3 column 5"
    );
    assert_eq!(
        refused("run:\n  steps:\n  - 1.5\n"),
        "run.steps[0]: a number that is not whole; quote it if it is a text at line 3 column 5"
    );
    assert_eq!(
        refused("run: [a\nb: c\n"),
        "did not find expected ',' or ']' at line 2 column 2, while parsing a flow sequence at line 1 column 6"
    );
}

#[test]
fn what_reads_one_way_and_means_another_is_refused() {
    for (text, expected) in [
        ("a: 1\na: 2\n", "duplicate key"),
        ("a: 1.0\n", "not whole"),
        ("a: 1e3\n", "not whole"),
        ("a: .nan\n", "not whole"),
        ("a: 9007199254740992\n", "2^53"),
        ("a: -9007199254740992\n", "2^53"),
        ("a: 18446744073709551616\n", "2^53"),
        ("a: -9223372036854775809\n", "2^53"),
        ("1: a\n", "as key"),
        ("true: a\n", "as key"),
        ("~: a\n", "as key"),
        ("? [a]\n: b\n", "as key"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "merge keys"),
        ("a: [null]\n", "null"),
        ("a: [{b: ~}]\n", "null"),
        ("a: \"\\0\"\n", "NUL"),
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("---\n", "expected a map"),
        ("- a\n", "expected a map"),
        ("a\n", "expected a map"),
        ("1\n", "expected a map"),
        ("a: 1\n---\nb: 2\n", "more than one document"),
        ("a: 1\n...\n@\n", "more than one document"),
        ("\u{feff}a: 1\n", "byte order mark"),
        ("%YAML 1.1\n---\na: 1\n", "directives"),
        ("a: *b\n", "unknown anchor"),
    ] {
        let detail = refused(text);
        assert!(detail.contains(expected), "{text:?}: {detail}");
    }
}

#[test]
fn null_stands_only_where_it_removes() {
    assert!(parse_layer(b"a: {b: null, c: ~, d: }\n").is_ok());
    assert!(parse(b"a: {b: null}\n").is_err());
}

#[test]
fn tags_are_refused_whoever_defines_them() {
    for text in [
        "a: !b c\n",
        "a: !b {c: d}\n",
        "a: ! c\n",
        "a: !!str 1\n",
        "a: !!binary aGk=\n",
        "a: !!map {b: c}\n",
        "a: !<tag:yaml.org,2002:str> 1\n",
        "a: !<anything> 1\n",
        "!!map\na: b\n",
        "!!str a: b\n",
        "a: &x !!str 1\n",
        "a: [b, !!int \"1\"]\n",
    ] {
        assert!(
            refused(text).starts_with("tags are not allowed")
                || refused(text).contains(": tags are not allowed"),
            "{text:?}"
        );
    }
    for text in [
        "a: b!c !d\n",
        "a: [sh, -c, test ! -e x]\n",
        "a: '!b'\n",
        "a: >\n  !b\n",
        "a: b\n  !c\n# !d\n",
    ] {
        assert!(parse(text.as_bytes()).is_ok(), "{text:?}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    for bytes in [&b"a: \xff"[..], b"\xff\xfea\0:\0 \0b\0", b"\xed\xa0\x80: a"] {
        assert!(parse(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_number_in_the_place_of_a_pin_is_told_apart() {
    refused("build: {source: {commit: 1.5}}");
    for number in [
        "1234567890123456789012345678901234567890",
        "1.5",
        "7",
        "123456789e9",
        "-1",
    ] {
        let refusal = parse(format!("source: {{commit: {number}}}").as_bytes()).unwrap_err();
        assert_eq!(refusal.code, Code::PinInvalid, "{number}");
    }
}

#[test]
fn an_alias_bomb_ends_at_the_first_value_too_many() {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (name, below) in ('b'..='i').zip('a'..) {
        bomb += &format!(
            "{name}: &{name} [{}]\n",
            vec![format!("*{below}"); 9].join(",")
        );
    }
    let wide = format!(
        "a: &a [{}]\nb: [{}]\n",
        ["x"; 400].join(","),
        ["*a"; 300].join(",")
    );
    for text in [bomb, wide] {
        let mut reading = Reading::default();
        let document = Node::document(&mut reading, Null::Refused);
        let refused = document.deserialize(serde_yaml::Deserializer::from_str(&text));
        refused.expect_err("more values than may be");
        assert!(
            reading.nodes <= node::MAX_NODES + 1,
            "{} read",
            reading.nodes
        );
    }
}

#[test]
fn a_long_text_repeated_by_aliases_ends_at_the_first_byte_too_many() {
    let text = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(100_000),
        ["*a"; 40_000].join(",")
    );
    let detail = refused(&text);
    assert!(
        detail.contains("b[9]: more than 1048576 bytes of text"),
        "{detail}"
    );
}

#[test]
fn seventeen_levels_are_one_too_many() {
    let nested = |levels: usize| format!("{}x{}", "{a: ".repeat(levels), "}".repeat(levels));
    assert!(parse(nested(16).as_bytes()).is_ok());
    assert!(refused(&nested(17)).contains("nested deeper than 16"));
    assert!(refused("a: &a [[[[[[[[[]]]]]]]]]\nb: [[[[[[[*a]]]]]]]\n").contains("nested deeper"));
}

#[test]
fn however_deep_the_nesting_the_level_too_many_is_named() {
    for (open, close, nested) in [
        ("[", "]", "nested deeper than 16 at line 2 column 18"),
        ("{a: ", "}", "nested deeper than 16 at line 2 column 63"),
        ("- ", "", "nested deeper than 16 at line 2 column 33"),
        ("? ", "", "as key (quote it) at line 2 column 5"),
        ("[{? ", "}]", "as key (quote it) at line 2 column 7"),
    ] {
        let longest = MAX_BYTES / (open.len() + close.len()) - 4;
        let brackets = open.matches(['[', '{']).count();
        for depth in [500, 10_000, longest] {
            let too_many = brackets * depth > MAX_BRACKETS;
            let expected = if too_many {
                "more than 2048 of"
            } else {
                nested
            };
            let text = |close: &str| format!("a:\n  {}x{close}", open.repeat(depth));
            let detail = refused(&text(&close.repeat(depth)));
            assert!(detail.contains(expected), "{open:?} {depth}: {detail}");
            refused(&text(""));
        }
    }
}

#[test]
fn what_libyaml_would_take_long_over_never_reaches_it() {
    // Its time grows with brackets times bytes: the file may be the longest, the brackets are few.
    let open = "[".repeat(MAX_BRACKETS + 1);
    let detail = refused(&format!("a: {open}{}", "b,".repeat(100_000)));
    assert!(detail.starts_with("more than 2048 of"), "{detail}");
    let huge = vec![b'['; 100 << 20];
    let detail = parse(&huge).unwrap_err().detail;
    assert_eq!(detail, "104857600 bytes, expected at most 262144");
}

#[test]
fn a_refusal_never_quotes_a_whole_file() {
    let long = format!("a: {}", "k".repeat(100_000));
    let value = parse(long.as_bytes()).unwrap();
    assert!(
        typed::<std::collections::BTreeMap<String, u32>>(&value)
            .unwrap_err()
            .detail
            .len()
            < 1000
    );
    assert!(refused(&format!("{0}: a\n{0}: b\n", "k".repeat(1000))).len() < 2000);
}

#[test]
fn a_typed_refusal_names_the_field() {
    let value = parse(b"run:\n  command: [a]\n  limts: {}\n").unwrap();
    let refusal = typed::<crate::service::Service>(&value).unwrap_err();
    assert!(
        refusal
            .detail
            .starts_with("run.limts: unknown field `limts`, expected one of"),
        "{refusal}"
    );
}
