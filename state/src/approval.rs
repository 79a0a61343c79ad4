//! The approval: a person's word that one change of one service may be admitted.
//!
//! It names the change so exactly (from, to, and since which admission) that it is good for once. Policy and agents
//! count approvals with [`Asked`] and [`Standing`]; who may not approve because he had a part in the change is found
//! by [`crate::verify`].

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::admitted::evidence;
use crate::digest::{Domain, ReleaseId};
use crate::manifest::{Change, Subject};
use crate::name::{EnvironmentName, Label};
use crate::sshsig::{Namespace, Signature};
use crate::statement::{Lines, print_id, print_time};
use crate::tree::Files;
use crate::trust::{Author, Right, Trust};
use crate::{Code, Refusal};

/// The first line of a statement.
const TITLE: &str = "writ approval v1";

/// The most bytes that a statement or its signature has.
pub const MAX_BYTES: u64 = 4 << 10;

/// What is approved, and until when that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The fleet.
    pub domain: Domain,
    /// What is to change: `environment`, `service` (or the rules), `from` and `to`.
    pub change: Change,
    /// The sequence of the last manifest that changed the service there; 0 if none did.
    pub since: u64,
    /// When the approval ends, in whole seconds.
    pub expires: Timestamp,
}

impl Approval {
    /// Reads a statement in its exact form.
    ///
    /// # Errors
    /// `APPROVAL_MISSING`: what is not in form approves nothing.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = |why| missing(format!("approval: {why}"));
        let approval = Self::read(bytes).map_err(malformed)?;
        if approval.print().as_bytes() != bytes {
            return Err(malformed("a value is not in its one spelling".to_owned()));
        }
        Ok(approval)
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut lines = Lines::new(bytes, TITLE)?;
        let domain = lines.value("domain")?;
        let change = Change {
            environment: lines.value("environment")?,
            subject: lines.value("service")?,
            from: lines.id("from")?,
            to: lines.id("to")?,
        };
        let approval = Self {
            domain,
            change,
            since: lines.value("since")?,
            expires: lines.value("expires")?,
        };
        lines.end()?;
        Ok(approval)
    }

    /// The bytes that are signed.
    pub fn print(&self) -> String {
        let Change {
            environment,
            subject,
            from,
            to,
        } = &self.change;
        format!(
            "{TITLE}\ndomain: {}\nenvironment: {environment}\nservice: {subject}\nfrom: {}\nto: {}\nsince: {}\n\
             expires: {}\n",
            self.domain,
            print_id(*from),
            print_id(*to),
            self.since,
            print_time(self.expires),
        )
    }
}

/// An approval as it was handed in: its bytes, and the signature over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The statement.
    pub statement: Vec<u8>,
    /// The armored signature.
    pub signature: Vec<u8>,
}

/// The approvals that lie in an admitted tree for a place.
pub fn admitted(files: &Files, environment: &EnvironmentName, subject: &Subject) -> Vec<Signed> {
    let folder = evidence(environment, subject);
    let within = files
        .range(folder.clone()..)
        .take_while(|(path, _)| path.starts_with(&folder));
    let signed = |(path, statement): (&String, &std::sync::Arc<[u8]>)| {
        let signature = files.get(&format!("{path}.sig"))?;
        Some(Signed {
            statement: statement.to_vec(),
            signature: signature.to_vec(),
        })
    };
    within.filter_map(signed).collect()
}

/// A change for which approvals are asked, and as of which manifest they are judged.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The fleet.
    pub domain: Domain,
    /// The change.
    pub change: &'a Change,
    /// The sequence of the last manifest before that changed the same place; 0 if none did.
    pub since: u64,
    /// The trust file that the manifest names.
    pub trust: &'a Trust,
    /// The one in force, which says whose keys have ended.
    pub newest: &'a Trust,
    /// The manifest's sequence.
    pub sequence: u64,
    /// When the manifest was issued.
    pub issued: Timestamp,
}

impl Asked<'_> {
    /// The statement that approves the change until `expires`.
    pub fn statement(&self, expires: Timestamp) -> Approval {
        Approval {
            domain: self.domain,
            change: self.change.clone(),
            since: self.since,
            expires,
        }
    }

    /// Checks one approval, and returns who gave it. Whether he had a part in the change is not looked at.
    ///
    /// # Errors
    /// `SIGNATURE_NONCANONICAL`, `AUTHOR_UNKNOWN`, `AUTHOR_BAD_SIGNATURE`, `KEY_ENDED`, `PATH_NOT_ALLOWED`,
    /// `WRONG_DOMAIN`, `APPROVAL_MISSING` if it is for another change or has expired.
    pub fn check(&self, signed: &Signed) -> Result<&Author, Refusal> {
        let signature = Signature::parse(&signed.signature)?;
        let author = self.trust.author(signature.key(), Right::Approve)?;
        let name = &author.name;
        let verified = signature.verify(Namespace::Approval, &signed.statement);
        verified.map_err(|why| {
            Refusal::new(
                Code::AuthorBadSignature,
                format!("approval by '{name}': {why}"),
            )
        })?;
        self.check_right(author)?;
        let approval = Approval::parse(&signed.statement)?;
        let refuse =
            |code, why: String| Err(Refusal::new(code, format!("approval by '{name}': {why}")));
        if approval.domain != self.domain {
            let why = format!("domain {}, expected {}", approval.domain, self.domain);
            return refuse(Code::WrongDomain, why);
        }
        let expected = self.statement(approval.expires);
        if approval != expected {
            let why = format!(
                "it is for {}, expected {}",
                shown(&approval),
                shown(&expected)
            );
            return refuse(Code::ApprovalMissing, why);
        }
        if approval.expires <= self.issued {
            let why = format!("expired at {}, it is {}", approval.expires, self.issued);
            return refuse(Code::ApprovalMissing, why);
        }
        Ok(author)
    }

    /// Checks that `author` may approve here with his key.
    fn check_right(&self, author: &Author) -> Result<(), Refusal> {
        self.newest.check_author_key(&author.key, self.sequence)?;
        author.check_path(&format!(
            "environments/{}/{}.yaml",
            self.change.environment, self.change.subject
        ))
    }

    /// Counts the approvals among `signed`; `barred` are those who had a part in the change.
    ///
    /// One name is one person, however many keys signed for it.
    pub fn count(&self, signed: &[Signed], barred: BTreeSet<Label>) -> Standing {
        let name = |signed| self.check(signed).ok().map(|author| author.name.clone());
        let all: BTreeSet<Label> = signed.iter().filter_map(name).collect();
        let may = |author: &&Author| {
            author.may.contains(Right::Approve) && self.check_right(author).is_ok()
        };
        let able = self.trust.authors.iter().filter(may);
        Standing {
            given: all.difference(&barred).cloned().collect(),
            able: able
                .map(|author| author.name.clone())
                .filter(|name| !barred.contains(name) && !all.contains(name))
                .collect(),
            barred,
        }
    }
}

/// How far the approvals of one change are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Who approved and counts.
    pub given: BTreeSet<Label>,
    /// Who else could.
    pub able: BTreeSet<Label>,
    /// Who had a part in the change, so that his approval does not count.
    pub barred: BTreeSet<Label>,
}

impl Standing {
    /// Checks that at least `required` persons approved.
    ///
    /// # Errors
    /// `APPROVAL_MISSING`, with who could give what is missing.
    pub fn check(&self, required: u32) -> Result<(), Refusal> {
        let (given, required) = (self.given.len(), required as usize);
        if given >= required {
            return Ok(());
        }
        let mut detail = format!("{given} of {required} approvals");
        if given > 0 {
            let _ = write!(detail, ", by {}", list(&self.given));
        }
        let _ = match self.able.is_empty() {
            true => write!(detail, "; nobody else may approve this"),
            false => write!(detail, "; could approve: {}", list(&self.able)),
        };
        if !self.barred.is_empty() {
            let part = list(&self.barred);
            let _ = write!(detail, "; not, having signed a part of it: {part}");
        }
        Err(missing(detail))
    }
}

fn list(names: &BTreeSet<Label>) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    names.join(", ")
}

/// A statement in one line.
fn shown(approval: &Approval) -> String {
    let Change {
        environment,
        subject,
        from,
        to,
    } = &approval.change;
    let short = |id: &Option<ReleaseId>| id.map_or_else(|| "-".to_owned(), |id| id.short());
    let (from, to, since) = (short(from), short(to), approval.since);
    format!("{environment} {subject} {from} -> {to} since {since}")
}

fn missing(detail: String) -> Refusal {
    Refusal::new(Code::ApprovalMissing, detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn approval() -> Approval {
        Approval {
            domain: Domain([1; 32]),
            change: Change {
                environment: "prod".parse().unwrap(),
                subject: "web".parse().unwrap(),
                from: None,
                to: Some(ReleaseId([2; 32])),
            },
            since: 0,
            expires: "2026-11-27T23:50:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_approval_has_the_form_of_the_specification() {
        insta::assert_snapshot!(approval().print(), @r"
        writ approval v1
        domain: 0101010101010101010101010101010101010101010101010101010101010101
        environment: prod
        service: web
        from: -
        to: 0202020202020202020202020202020202020202020202020202020202020202
        since: 0
        expires: 2026-11-27T23:50:00Z
        ");
        assert_eq!(
            Approval::parse(approval().print().as_bytes()),
            Ok(approval())
        );
    }

    #[test]
    fn what_is_missing_is_said_with_who_could_give_it_and_who_could_not() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let standing = Standing {
            given: names(&["bob"]),
            able: names(&["carol", "dan"]),
            barred: names(&["alice"]),
        };
        assert_eq!(standing.check(1), Ok(()));
        let detail = standing.check(2).unwrap_err().detail;
        insta::assert_snapshot!(detail, @"1 of 2 approvals, by 'bob'; could approve: 'carol', 'dan'; not, having signed a part of it: 'alice'");
    }

    proptest! {
        #[test]
        fn what_was_read_prints_as_the_same_bytes(at in 0_usize..400, byte: u8) {
            let mut bytes = approval().print().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(approval) = Approval::parse(&bytes) {
                prop_assert_eq!(approval.print().into_bytes(), bytes);
            }
        }
    }
}
