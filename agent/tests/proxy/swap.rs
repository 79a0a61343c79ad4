//! Swaps while clients keep asking.

use std::sync::atomic::Ordering;

use agent::slot::{Role, Slot};
use agent::traffic::table::{Address, Backend};
use tests::load::{self, Load};

use crate::support::{Echo, Host, SOON, until, web};

/// Has the slot beside `old` take over, and waits until `old` can be stopped.
async fn swap(host: &mut Host, old: Slot, address: Address) {
    host.apply(|table| {
        let candidate = Backend {
            address,
            weight: 100,
            role: Role::Candidate,
            extra: Default::default(),
        };
        table.slots.insert(old.other(), candidate);
        if let Some(old) = table.slots.get_mut(&old) {
            old.weight = 0;
        }
    })
    .await;
    let remaining = host.driver.drain(&web(), old, SOON).await.unwrap();
    assert_eq!(remaining, 0);
}

/// Waits until `slot` has got 200 requests.
async fn serves(host: &Host, slot: Slot) {
    until("the live release serves", || async {
        host.driver.sample(&web(), slot).await.unwrap().requests >= 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_swaps_under_load_lose_no_request() {
    let mut host = Host::start().await;
    let (mut slot, mut live) = (Slot::Blue, Echo::start("release-0").await);
    host.serve(slot, live.address.clone()).await;

    let url = format!("http://{}/", host.table.listen).parse().unwrap();
    let load = Load::post(url, u64::MAX);
    let stop = load.stop.clone();
    let load = tokio::spawn(load::run(load));
    for number in 1..=10 {
        serves(&host, slot).await;
        let next = Echo::start(&format!("release-{number}")).await;
        swap(&mut host, slot, next.address.clone()).await;
        // The old process is killed the moment the proxy says that nothing is in flight there.
        live = next;
        slot = slot.other();
    }
    serves(&host, slot).await;
    stop.store(true, Ordering::Relaxed);
    let report = load.await.unwrap().unwrap();
    println!("{}", report.to_json());
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    assert!(report.ok >= 2000, "{}", report.ok);
    assert_eq!(report.seen.len(), 11, "{:?}", report.seen);
    drop(live);
}
