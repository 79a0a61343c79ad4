//! The pin of an overlay, `source.commit`: where its digits stand in the text, and how to change them and nothing else,
//! so that comments, order and style stay as their author left them.

use std::fmt;
use std::ops::Range;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::digest::ObjectId;
use crate::refusal::{Code, Refusal};
use crate::yaml;

/// Hex digits of a pin.
const DIGITS: usize = 40;

/// Finds the 40 digits of the quoted `source.commit` in the text of an overlay; without them, `PIN_INVALID`.
pub fn find(text: &str) -> Result<Range<usize>, Refusal> {
    locate(text, &yaml::parse_layer(text.as_bytes())?)
}

/// As [`find`], for a text that was parsed to `value`.
pub(crate) fn locate(text: &str, value: &Value) -> Result<Range<usize>, Refusal> {
    let refuse = |detail: &str| Refusal::new(Code::PinInvalid, format!("source.commit: {detail}"));
    let pin = value.pointer("/source/commit");
    let pin = pin.ok_or_else(|| refuse("missing; nothing floats"))?;
    let digits = pin.as_str().filter(|pin| pin.parse::<ObjectId>().is_ok());
    let digits =
        digits.ok_or_else(|| refuse("expected a full commit id of 40 lower-case hex digits"))?;
    let unquoted = || refuse("expected the commit id itself, between quotes");
    let start = start(text).ok_or_else(unquoted)?;
    let scalar = &text[start..];
    let quoted = |quote: char| {
        let rest = scalar.strip_prefix(quote)?.strip_prefix(digits)?;
        rest.starts_with(quote)
            .then_some(start + 1..start + 1 + DIGITS)
    };
    quoted('"').or_else(|| quoted('\'')).ok_or_else(unquoted)
}

/// Sets the pin of an overlay to `commit` and leaves every other byte as it is.
pub fn set(text: &str, commit: ObjectId) -> Result<String, Refusal> {
    let mut value = yaml::parse_layer(text.as_bytes())?;
    let mut changed = text.to_owned();
    changed.replace_range(locate(text, &value)?, &commit.to_string());
    if let Some(pin) = value.pointer_mut("/source/commit") {
        *pin = Value::String(commit.to_string());
    }
    if yaml::parse_layer(changed.as_bytes())? != value {
        return Err(Refusal::new(
            Code::PinInvalid,
            "source.commit: other fields are aliases of it; write them out",
        ));
    }
    Ok(changed)
}

/// The byte at which the scalar `source.commit` begins. serde_yaml tells places only in errors, so one is provoked there.
fn start(text: &str) -> Option<usize> {
    let path = Path(&["source", "commit"]);
    let error = path
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    let index = error.location()?.index();
    text.is_char_boundary(index).then_some(index)
}

/// Walks down a path of keys and fails at its end.
struct Path(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Path {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            [] => deserializer.deserialize_any(Nothing),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Path {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.0.split_first() {
                Some((first, rest)) if *first == key => map.next_value_seed(Path(rest))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Accepts no value at all: reading one fails, and the error tells where it stands.
struct Nothing;

impl Visitor<'_> for Nothing {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "0123456789abcdef0123456789abcdef01234567";
    const NEW: ObjectId = ObjectId([0xee; 20]);

    #[test]
    fn every_quoted_style_is_found_and_only_the_digits_change() {
        for text in [
            format!("source: {{ commit: \"{OLD}\" }}\n"),
            format!("source: {{commit: '{OLD}', branch: x}}\n"),
            format!(
                "# {OLD}\nsource:\n  # ü: \"{OLD}\"\n  branch: \"{OLD}\"\n  commit: \"{OLD}\" # why\nkeep: 3\n"
            ),
            format!(
                "run: {{environment: {{SOURCE: \"größer 世界\"}}}}\r\nsource:\r\n    commit:\r\n        '{OLD}'\r\n"
            ),
            format!("{{\"source\": {{\"commit\": \"{OLD}\"}}}}"),
            format!("? source\n: commit:   \"{OLD}\"\nx: {{source: {{commit: no}}}}"),
        ] {
            let range = find(&text).unwrap();
            assert_eq!(&text[range.clone()], OLD);
            let changed = set(&text, NEW).unwrap();
            assert_eq!(changed[..range.start], text[..range.start]);
            assert_eq!(changed[range.clone()], NEW.to_string());
            assert_eq!(changed[range.end..], text[range.end..]);
        }
    }

    #[test]
    fn what_is_not_a_quoted_full_commit_id_is_refused() {
        let digits = "1234567890123456789012345678901234567890";
        let zero = "0123456789012345678901234567890123456789";
        for pin in [
            OLD.into(),
            digits.into(),
            zero.into(),
            "123456789e9".into(),
            "main".into(),
            "\"main\"".into(),
            format!("\"{}\"", &OLD[1..]),
            format!("\"{}\"", OLD.to_uppercase()),
            format!("\"{OLD}0\""),
            format!("\"\\x30{}\"", &OLD[1..]),
            format!("&a \"{OLD}\""),
            format!("|-\n    {OLD}"),
            "{}".into(),
            "~".into(),
        ] {
            let text = format!("source:\n  commit: {pin}\n");
            let refusal = find(&text).expect_err(&text);
            assert_eq!(refusal.code, Code::PinInvalid, "{text}: {refusal}");
        }
        for text in ["keep: 3\n", "source: {branch: main}\n", "source: main\n"] {
            assert_eq!(find(text).unwrap_err().code, Code::PinInvalid, "{text}");
        }
    }

    #[test]
    fn a_pin_that_others_alias_is_not_changed() {
        let text = format!("source: &s {{commit: \"{OLD}\"}}\nplace: *s\n");
        assert!(find(&text).is_ok());
        assert_eq!(set(&text, NEW).unwrap_err().code, Code::PinInvalid);
    }

    proptest! {
        #[test]
        fn any_text_around_the_pin_stays(before in "[ -~äß世]{0,30}", after in "[ -~\u{e9}\u{1f600}]{0,30}") {
            let text = format!("# {before}\nrun: {{command: ['{}']}}\nsource: {{commit: \"{OLD}\"}} # {after}\n", before.replace('\'', ""));
            let changed = set(&text, NEW).unwrap();
            prop_assert_eq!(changed.replace(&NEW.to_string(), OLD), text.replace(&NEW.to_string(), OLD));
        }
    }
}
