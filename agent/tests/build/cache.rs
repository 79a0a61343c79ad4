//! What is kept between builds of a service.

use std::fs;
use std::time::{Duration, Instant};

use crate::host::{Host, commands_with, shell};

#[tokio::test]
async fn what_is_kept_comes_back_and_a_file_is_new_exactly_if_it_changed() {
    let mut host = Host::new();
    host.write("same", "same");
    host.write("other", "1");
    // What cargo and make do: build again what is newer than its product.
    let script = "mkdir -p target/deep; echo ---
        for f in same other; do
            if [ ! -e target/deep/$f ] || [ $f -nt target/deep/$f ]; then cp $f target/deep/$f; echo built $f; fi
        done";
    let mut spec = host.spec(host.commit(), script);
    spec.build.cache = vec!["target".into()];
    spec.build.output = vec!["target/deep/other".into()];
    let first = spec.source.commit;
    host.write("other", "2");
    let second = host.commit();

    for (number, commit, said, content) in [
        (1, first, "built same\nbuilt other\n", "1"),
        (2, first, "", "1"),
        (3, second, "built other\n", "2"),
        (4, first, "built other\n", "1"),
    ] {
        spec.source.commit = commit;
        let built = host.release(number, &spec).await.unwrap();
        let log = fs::read_to_string(built.path().join("build.log")).unwrap();
        assert_eq!(log.split_once("\n---\n").unwrap().1, said, "build {number}");
        assert_eq!(
            fs::read_to_string(built.path().join("app/other")).unwrap(),
            content
        );
    }
}

#[tokio::test]
async fn a_build_that_fails_or_hides_its_folder_keeps_the_next_one_well() {
    let mut host = Host::new();
    let mut spec = host.spec(
        host.commit(),
        "mkdir -p target; echo kept >target/x; exit 1",
    );
    spec.build.cache = vec!["target".into(), "deep/er".into()];
    host.release(1, &spec).await.unwrap_err();
    spec.build.steps = vec![shell(
        "cat target/x; rm -r target; ln -s /usr target; mkdir locked; touch locked/x; chmod 555 locked",
    )];
    host.release(2, &spec).await.unwrap();
    spec.build.steps = vec![shell("test ! -e target; mkdir -p deep/er; touch deep/er/x")];
    host.release(3, &spec).await.unwrap();
    spec.build.steps = vec![shell("test -e deep/er/x")];
    host.release(4, &spec).await.unwrap();
}

#[tokio::test]
async fn a_build_that_nobody_waits_for_any_more_ends_and_keeps_its_cache() {
    let mut host = Host::new();
    let mark = format!("{}.{}", 700, std::process::id());
    let mut spec = host.spec(
        host.commit(),
        &format!("mkdir target; touch target/x; sleep {mark}"),
    );
    spec.build.cache = vec!["target".into()];
    let sleeps = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !commands_with(&mark)
            .iter()
            .any(|line| line.starts_with("sleep"))
        {
            assert!(Instant::now() < deadline, "the build never came to its end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        unexpected = host.release(1, &spec) => panic!("{unexpected:?}"),
        () = sleeps => {}
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !commands_with(&mark).is_empty() {
        assert!(Instant::now() < deadline, "the build goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    spec.build.steps = vec![shell("test -e target/x")];
    host.release(2, &spec).await.unwrap();
}
