//! What a candidate brings besides its content: the trailer of its commit, the approvals of its changes, what is held.
//! Data that rules look at; it is collected before judging, so that judging stays pure.

use std::collections::BTreeMap;

use state::approval::{Signed, Standing};
use state::manifest::{Change, Hold};
use state::name::Label;
use state::tree::Files;
use state::{Refusal, admitted};

use crate::change::Place;

/// What is known about a candidate besides its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What is wrong with the commit where an environment requires the trailer.
    pub trailer: Option<Refusal>,
    /// The approvals, by what they are for; of changes for which none are required there are none.
    pub approvals: BTreeMap<Place, Collected>,
    /// All holds that the next manifest will have.
    pub held: Vec<Hold>,
}

/// The approvals of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// How far they are.
    pub standing: Result<Standing, Refusal>,
    /// Those that count, by who gave them.
    pub given: BTreeMap<Label, Signed>,
}

impl Evidence {
    /// The files that the admission of `changes` puts into the admitted tree.
    pub fn files(&self, changes: &[Change]) -> Files {
        let mut files = Files::new();
        for change in changes {
            let place = (change.environment.clone(), change.subject.clone());
            let folder = admitted::evidence(&change.environment, &change.subject);
            let given = self.approvals.get(&place).map(|collected| &collected.given);
            for (name, signed) in given.into_iter().flatten() {
                let (statement, signature) = (&signed.statement, &signed.signature);
                files.insert(format!("{folder}{name}"), statement.as_slice().into());
                files.insert(format!("{folder}{name}.sig"), signature.as_slice().into());
            }
        }
        files
    }
}

/// Where below the branches `approvals/` a change is approved, with a final `/`.
pub fn folder(change: &Change) -> String {
    format!("{}/{}/", change.environment, change.subject)
}

/// The branch by which `name` approves a change, below `approvals/`.
pub fn branch(change: &Change, name: &Label) -> String {
    format!("{}{name}", folder(change))
}
