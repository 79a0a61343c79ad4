//! The freshness statement: policy's (or a `fresh` key's) word that a manifest is still the newest one.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::digest::{Domain, Sha256Hash};
use crate::floor::SKEW;
use crate::manifest::Link;
use crate::statement::{Lines, print_time};
use crate::unit::Period;
use crate::{Code, Refusal};

/// The first line of a statement.
const TITLE: &str = "writ freshness v1";

/// Which manifest is the newest, and until when that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The fleet.
    pub domain: Domain,
    /// The sequence of the newest manifest.
    pub sequence: u64,
    /// Its hash.
    pub manifest: Sha256Hash,
    /// When this was signed, in whole seconds.
    pub issued: Timestamp,
    /// When it ends, in whole seconds.
    pub expires: Timestamp,
}

impl Freshness {
    /// Reads a statement in its exact form.
    ///
    /// # Errors
    /// `FRESHNESS_MALFORMED`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = |why| Refusal::new(Code::FreshnessMalformed, format!("freshness: {why}"));
        let freshness = Self::read(bytes).map_err(malformed)?;
        if freshness.print().as_bytes() != bytes {
            return Err(malformed("a value is not in its one spelling".to_owned()));
        }
        Ok(freshness)
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut lines = Lines::new(bytes, TITLE)?;
        let freshness = Self {
            domain: lines.value("domain")?,
            sequence: lines.value("sequence")?,
            manifest: lines.value("manifest")?,
            issued: lines.value("issued")?,
            expires: lines.value("expires")?,
        };
        lines.end()?;
        Ok(freshness)
    }

    /// The bytes that are signed.
    pub fn print(&self) -> String {
        format!(
            "{TITLE}\ndomain: {}\nsequence: {}\nmanifest: {}\nissued: {}\nexpires: {}\n",
            self.domain,
            self.sequence,
            self.manifest,
            print_time(self.issued),
            print_time(self.expires),
        )
    }

    /// Checks what the statement alone shows: its fleet, its time and its length.
    ///
    /// # Errors
    /// `WRONG_DOMAIN`, `ISSUED_IN_FUTURE`, `FRESHNESS_MISMATCH` if it lives longer than `longest`.
    pub fn check(&self, domain: &Domain, longest: Period, now: Timestamp) -> Result<(), Refusal> {
        let refuse = |code, why: String| Err(Refusal::new(code, format!("freshness: {why}")));
        if self.domain != *domain {
            let why = format!("domain {}, expected {domain}", self.domain);
            return refuse(Code::WrongDomain, why);
        }
        if self.issued.duration_since(now) > SKEW {
            let why = format!("issued {}, now is {now}", self.issued);
            return refuse(Code::IssuedInFuture, why);
        }
        if self.expires.duration_since(self.issued).unsigned_abs() > longest.duration()
            || self.expires < self.issued
        {
            let why = format!(
                "issued {}, expires {}, expected at most {longest} later",
                self.issued, self.expires
            );
            return refuse(Code::FreshnessMismatch, why);
        }
        Ok(())
    }

    /// Until when the statement proves that `tip` is the newest manifest; `None` if it is about an older one.
    ///
    /// # Errors
    /// `LOG_FORK` if it names another manifest of the same sequence, `LOG_WITHHELD` if it knows a newer one.
    pub fn extends(&self, tip: &Link) -> Result<Option<Timestamp>, Refusal> {
        let refuse = |code| {
            let Self {
                sequence, manifest, ..
            } = self;
            let detail = format!(
                "freshness: names manifest {sequence} {manifest}, the tip is {} {}",
                tip.sequence, tip.hash
            );
            Err(Refusal::new(code, detail))
        };
        match self.sequence.cmp(&tip.sequence) {
            Ordering::Less => Ok(None),
            Ordering::Equal if self.manifest == tip.hash => Ok(Some(self.expires)),
            Ordering::Equal => refuse(Code::LogFork),
            Ordering::Greater => refuse(Code::LogWithheld),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn freshness() -> Freshness {
        Freshness {
            domain: Domain([1; 32]),
            sequence: 42,
            manifest: Sha256Hash([2; 32]),
            issued: "2026-11-20T23:50:00Z".parse().unwrap(),
            expires: "2026-11-21T23:50:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_freshness_statement_has_the_form_of_the_specification() {
        insta::assert_snapshot!(freshness().print(), @r"
        writ freshness v1
        domain: 0101010101010101010101010101010101010101010101010101010101010101
        sequence: 42
        manifest: 0202020202020202020202020202020202020202020202020202020202020202
        issued: 2026-11-20T23:50:00Z
        expires: 2026-11-21T23:50:00Z
        ");
        assert_eq!(
            Freshness::parse(freshness().print().as_bytes()),
            Ok(freshness())
        );
    }

    #[test]
    fn anything_but_the_exact_form_is_refused() {
        let good = freshness().print();
        for bad in [
            good.replace("v1", "v2"),
            good.replace("42", "042"),
            good.replace("expires", "until"),
            good.replace("00Z", "00.0Z"),
            format!("{good}x"),
            String::new(),
        ] {
            let refusal = Freshness::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, Code::FreshnessMalformed, "{bad}");
        }
    }

    #[test]
    fn a_statement_of_another_fleet_from_the_future_or_too_long_is_refused() {
        let code = |domain: u8, longest: &str, now: &str| {
            let longest = longest.parse().unwrap();
            let result = freshness().check(&Domain([domain; 32]), longest, now.parse().unwrap());
            result.err().map(|refusal| refusal.code)
        };
        let now = "2026-11-20T23:45:00Z";
        assert_eq!(code(1, "24h", now), None);
        assert_eq!(code(2, "24h", now), Some(Code::WrongDomain));
        assert_eq!(
            code(1, "24h", "2026-11-20T23:44:59Z"),
            Some(Code::IssuedInFuture)
        );
        assert_eq!(code(1, "23h", now), Some(Code::FreshnessMismatch));
        let (issued, expires) = (freshness().expires, freshness().issued);
        let reversed = Freshness {
            issued,
            expires,
            ..freshness()
        };
        let refusal = reversed
            .check(&Domain([1; 32]), Period::minutes(9999), issued)
            .unwrap_err();
        assert_eq!(refusal.code, Code::FreshnessMismatch);
    }

    #[test]
    fn only_a_statement_about_the_tip_extends_it() {
        let tip = |sequence, byte| Link {
            sequence,
            hash: Sha256Hash([byte; 32]),
            ..Link::START
        };
        let code = |tip: Link| freshness().extends(&tip).unwrap_err().code;
        assert_eq!(
            freshness().extends(&tip(42, 2)),
            Ok(Some(freshness().expires))
        );
        assert_eq!(freshness().extends(&tip(43, 2)), Ok(None));
        assert_eq!(code(tip(42, 3)), Code::LogFork);
        assert_eq!(code(tip(41, 2)), Code::LogWithheld);
    }

    proptest! {
        #[test]
        fn what_was_read_prints_as_the_same_bytes(at in 0_usize..300, byte: u8) {
            let mut bytes = freshness().print().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(freshness) = Freshness::parse(&bytes) {
                prop_assert_eq!(freshness.print().into_bytes(), bytes);
            }
        }
    }
}
