//! Why Writ refused, held or failed something: a stable code, and what was got and expected.

mod class;
mod code;

use std::fmt;

use serde::Serialize;

pub use self::class::Class;
pub use self::code::Code;
use crate::durable::Extra;
use crate::text::Escaped;

/// Something was refused: what, why, and (by its code) what to do about it. What runs is left alone.
///
/// `detail` may quote untrusted text; `Display` escapes it, so the value can be printed as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize, thiserror::Error)]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What was got and what was expected, without a full stop.
    pub detail: String,
    /// What a newer version says beside that.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Refusal {
    /// Refuses with `code`; `detail` names the object, what was got and what was expected.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            extra: Extra::default(),
        }
    }

    /// Puts `what` and a colon before the detail: where the thing stood that was refused.
    #[must_use]
    pub fn at(mut self, what: impl fmt::Display) -> Self {
        self.detail = format!("{what}: {}", self.detail);
        self
    }

    /// The same of a file that an author is writing: what nobody knows there is a slip of the pen first of all.
    #[must_use]
    pub fn of_draft(mut self) -> Self {
        if matches!(self.code, Code::ReleaseNewer | Code::RulesNewer) {
            self.code = Code::ConfigInvalid;
        }
        self
    }

    /// The code's remedy.
    pub fn remedy(&self) -> &'static str {
        self.code.remedy()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, Escaped(&self.detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_every_one_has_a_remedy() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(
                code.as_str()
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(
                !code.remedy().is_empty() && !code.remedy().ends_with('.'),
                "{code}"
            );
        }
    }

    #[test]
    fn a_refusal_cannot_carry_an_escape_to_a_terminal() {
        let refusal = Refusal::new(Code::ConfigInvalid, "unknown field `\u{1b}[2J`")
            .at("services/web/service.yaml");
        assert_eq!(
            refusal.to_string(),
            r"CONFIG_INVALID: services/web/service.yaml: unknown field `\u{1b}[2J`"
        );
    }
}
