//! A service whose files a newer version wrote. What runs runs on, by its shim and the proxy; nothing of it is started,
//! stopped, changed or forgotten until a version is installed that understands them.

use state::durable::{self, Extra};
use state::name::ServiceName;
use state::{Code, Refusal};
use tokio::sync::{mpsc, watch};

use super::{Handle, Message};
use crate::host::Host;
use crate::journal::{Entry, Kind};
use crate::slot::Slot;
use crate::status::{Health, HeldKind, HeldView, Problem, ServiceView};
use crate::traffic::table::RouteTable;

/// Checks that no newer version wrote what the service's processes and the proxy go by. Its record is asked when it is
/// opened.
///
/// # Errors
/// `STATE_NEWER`.
pub fn check(host: &Host, service: &ServiceName) -> Result<(), Refusal> {
    durable::check_file(&host.service(service).record())?;
    durable::check_file(&RouteTable::path(&host.layout.routes(), service))?;
    let mut slots = [Slot::Blue, Slot::Green].into_iter();
    slots.try_for_each(|slot| host.runner.check(service, slot))
}

/// Says whether a service stands still for `refusal`.
pub fn is_cause(refusal: &Refusal) -> bool {
    refusal.code == Code::StateNewer
}

/// Shows why the service stands still, and answers with that whoever wants something of it.
pub fn spawn(host: &Host, service: ServiceName, refusal: Refusal) -> Handle {
    tracing::warn!(%service, %refusal, "left alone");
    host.journal.append(&Entry {
        service: Some(service.clone()),
        ..Entry::new(Kind::Hold, &format!("left alone: {refusal}"))
    });
    host.board.show(view(service, &refusal));
    let (sender, inbox) = mpsc::channel(16);
    let (settled, receiver) = watch::channel(0);
    Handle {
        inbox: sender,
        settled: receiver,
        task: tokio::spawn(answer(inbox, settled, refusal)),
    }
}

async fn answer(mut inbox: mpsc::Receiver<Message>, settled: watch::Sender<u64>, refusal: Refusal) {
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Order(order) => {
                settled.send_replace(order.serial);
            }
            Message::Ask(_, answer) => {
                // Whoever asked may be gone.
                let _ = answer.send(Err(refusal.clone()));
            }
        }
    }
}

fn view(name: ServiceName, refusal: &Refusal) -> ServiceView {
    ServiceView {
        name,
        phase: "unknown".to_owned(),
        health: Health::Unknown,
        running: None,
        desired: None,
        deployment: None,
        held: Some(HeldView {
            kind: HeldKind::Newer,
            since: None,
            until: None,
            problem: Problem::from(refusal),
        }),
        restart: None,
        degraded: Vec::new(),
        extra: Extra::default(),
    }
}
