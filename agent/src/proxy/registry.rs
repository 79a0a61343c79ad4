//! All services that the proxy serves, and the three orders that change them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use state::name::ServiceName;
use state::refusal::{Code, Refusal};
use tokio::sync::Mutex;

use super::limit::Limits;
use super::listen::Listener;
use super::protocol::Observed;
use super::service::Service;
use crate::traffic::table::RouteTable;

/// The services by name, each with its listener.
pub(super) struct Registry {
    routes: PathBuf,
    limits: Limits,
    /// Held through a change, so there is one at a time. Requests never ask for it.
    services: Mutex<BTreeMap<ServiceName, Served>>,
}

struct Served {
    service: Arc<Service>,
    listener: Listener,
}

impl Registry {
    /// Serves what the table files in `routes` say. A file that cannot be served is reported and left out.
    pub(super) async fn load(routes: PathBuf, limits: Limits) -> std::io::Result<Self> {
        std::fs::create_dir_all(&routes)?;
        let registry = Self {
            routes,
            limits,
            services: Mutex::new(BTreeMap::new()),
        };
        for entry in std::fs::read_dir(&registry.routes)? {
            let name = entry?.file_name();
            // What is not a table, such as a file that is just being written, is not ours.
            let Some(service) = name
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            match registry.apply(&service).await {
                Ok(observed) => {
                    tracing::info!(service = %service, generation = observed.generation, "serving");
                }
                Err(refusal) => tracing::error!(service = %service, error = %refusal, "not served"),
            }
        }
        Ok(registry)
    }

    /// Reads the table of `service` again and puts it in force. A refusal changes nothing.
    pub(super) async fn apply(&self, service: &ServiceName) -> Result<Observed, Refusal> {
        let mut services = self.services.lock().await;
        let table = RouteTable::load(&self.routes, service)?.ok_or_else(|| {
            Refusal::new(
                Code::RoutesInvalid,
                format!("service '{service}' has no file"),
            )
        })?;
        let other = services.iter().find(|(name, served)| {
            *name != service && served.service.table().listen == table.listen
        });
        if let Some((other, _)) = other {
            let detail = format!("{}: service '{other}' listens there", table.listen);
            return Err(Refusal::new(Code::ListenInUse, detail));
        }
        let Some(served) = services.get_mut(service) else {
            let live = Arc::new(Service::new(table.clone(), self.limits));
            let listener = Listener::start(table.listen, live.clone(), self.limits).await?;
            let observed = live.observe();
            let served = Served {
                service: live,
                listener,
            };
            services.insert(service.clone(), served);
            return Ok(observed);
        };
        let current = served.service.table();
        check_generation(&current, &table)?;
        if table.listen != current.listen {
            let live = served.service.clone();
            let listener = Listener::start(table.listen, live, self.limits).await?;
            std::mem::replace(&mut served.listener, listener)
                .stop()
                .await;
        }
        served.service.replace(table);
        Ok(served.service.observe())
    }

    /// What is served for `service`.
    pub(super) async fn observe(&self, service: &ServiceName) -> Option<Observed> {
        let services = self.services.lock().await;
        services.get(service).map(|served| served.service.observe())
    }

    /// Stops listening for `service`; requests in flight end.
    pub(super) async fn remove(&self, service: &ServiceName) {
        let mut services = self.services.lock().await;
        if let Some(served) = services.remove(service) {
            served.listener.stop().await;
        }
    }

    /// Closes connections to slots that are no longer used, for ever.
    pub(super) async fn tidy(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for served in self.services.lock().await.values() {
                served.service.expire();
            }
        }
    }

    /// Closes every listening socket, calls `closed`, then waits for the requests in flight.
    pub(super) async fn close(&self, closed: impl FnOnce()) {
        let mut leaving = Vec::new();
        for (_, served) in std::mem::take(&mut *self.services.lock().await) {
            leaving.push(served.listener.stop().await);
        }
        closed();
        for task in leaving {
            // A task that panicked has closed its connections already.
            let _ = task.await;
        }
    }
}

/// The same generation again is fine if it says the same; an earlier one, or another content, comes from a writer
/// that does not know what is in force.
fn check_generation(current: &RouteTable, next: &RouteTable) -> Result<(), Refusal> {
    let detail = match next.generation.cmp(&current.generation) {
        std::cmp::Ordering::Greater => return Ok(()),
        std::cmp::Ordering::Equal if next.is(current) => return Ok(()),
        std::cmp::Ordering::Equal => "with another content",
        std::cmp::Ordering::Less => "is an earlier one",
    };
    Err(Refusal::new(
        Code::GenerationStale,
        format!(
            "got generation {}, which {detail}; generation {} is in force",
            next.generation, current.generation
        ),
    ))
}
