//! The services of this host, each with a task of its own, for those who talk to them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use state::name::ServiceName;
use state::{Code, Refusal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::service::{Ask, Handle, Message};

/// The services of this host, for those who talk to them.
#[derive(Debug, Default)]
pub struct Services {
    handles: Mutex<BTreeMap<ServiceName, Handle>>,
}

impl Services {
    /// Their names.
    pub fn names(&self) -> Vec<ServiceName> {
        self.lock().keys().cloned().collect()
    }

    /// Has `service` take an operator's decision, and gives its answer.
    ///
    /// # Errors
    /// `UNKNOWN_SERVICE`, and what the service refuses.
    pub async fn ask(&self, service: &ServiceName, ask: Ask) -> Result<String, Refusal> {
        let unknown = || Refusal::new(Code::UnknownService, format!("'{service}'"));
        let inbox = self.lock().get(service).map(|handle| handle.inbox.clone());
        let (answer, answered) = oneshot::channel();
        let message = Message::Ask(ask, answer);
        inbox
            .ok_or_else(unknown)?
            .send(message)
            .await
            .map_err(|_| unknown())?;
        answered.await.map_err(|_| unknown())?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServiceName, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_alive(&self, service: &ServiceName) -> bool {
        self.lock()
            .get(service)
            .is_some_and(|handle| !handle.task.is_finished())
    }

    pub(super) fn ended(&self) -> Vec<ServiceName> {
        let handles = self.lock();
        let ended = handles
            .iter()
            .filter(|(_, handle)| handle.task.is_finished());
        ended.map(|(service, _)| service.clone()).collect()
    }

    pub(super) fn insert(&self, service: ServiceName, handle: Handle) {
        self.lock().insert(service, handle);
    }

    pub(super) fn inboxes(&self) -> Vec<(ServiceName, mpsc::Sender<Message>)> {
        let mut handles = self.lock();
        handles.retain(|_, handle| !handle.task.is_finished());
        handles
            .iter()
            .map(|(name, handle)| (name.clone(), handle.inbox.clone()))
            .collect()
    }

    pub(super) fn settled(&self) -> Vec<watch::Receiver<u64>> {
        self.lock()
            .values()
            .map(|handle| handle.settled.clone())
            .collect()
    }
}
