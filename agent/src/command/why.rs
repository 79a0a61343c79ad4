//! `agent why SERVICE`: why something did, or did not, happen to a service, with the evidence.

mod answer;

use jiff::Timestamp;
use state::name::ServiceName;
use state::{Code, Refusal};

use self::answer::Known;
use super::{Exit, Place, history, status};
use crate::deployment::record::Guard;
use crate::output::{self, Paint};

/// How far back the journal is looked through.
const ENTRIES: usize = 500;

/// Explain the last deployment of a service, and what keeps another from it
#[derive(Debug, clap::Args)]
pub(super) struct WhyArgs {
    /// The service.
    service: ServiceName,
}

pub(super) fn cmd_why(place: &Place, args: &WhyArgs) -> anyhow::Result<Exit> {
    let service = &args.service;
    let shown = status::read(place)?;
    let record = Guard::read(&place.layout.service(service).record(), service)?;
    let entries = history::read(place, Some(service), ENTRIES)?;
    let known = Known {
        service,
        shown: shown.as_ref(),
        record: record.as_ref(),
        entries: &entries,
    };
    if record.is_none() && known.view().is_none() {
        let detail = format!("'{service}'");
        return Err(Refusal::new(Code::UnknownService, detail).into());
    }
    let paint = Paint::of(&std::io::stdout());
    output::print(&known.explain(Timestamp::now(), paint))?;
    Ok(Exit::Well)
}
