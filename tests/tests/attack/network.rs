//! Attacks by whoever serves the repository or stands in between: too much, too slow, too little, something else.

use std::iter::{once, repeat};
use std::time::Duration;

use serde_json::json;
use state::Code;
use tests::attack::hostile::{Hostile, Question, Reply};
use tests::attack::pack::{self, Entry, Packet};
use tests::attack::range::Range;
use tests::attack::siege::remote_of;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("endless data: branches without end", endless_branches),
    ("endless data: progress without end", endless_progress),
    ("endless data: headers without end", endless_headers),
    ("slow retrieval: a byte a second", slow_retrieval),
    ("hanging mirror: no answer", hanging_mirror),
    ("hanging mirror: half an answer", hanging_in_the_middle),
    ("delta bomb", delta_bomb),
    ("10 GB of zeros", zeros),
    ("redirect to another host", redirect),
    ("redirect to plain http", downgrade),
    ("truncated pack", truncated_pack),
    ("connection cut within the pack", cut_connection),
    ("wrong object bytes", wrong_bytes),
    ("missing object", missing_object),
    ("an object of another kind", wrong_kind),
    ("a branch that nothing is sent for", lying_branch),
    ("a branch that is a link to another", link_to_main),
    ("missing branch", missing_branch),
    ("a page in place of git's protocol", garbage),
    ("a shallow repository", shallow_repository),
    (
        "a certificate of somebody else's authority",
        wrong_authority,
    ),
];

/// Behaves well but for the answer to one question.
fn but(
    question: Question,
    mut answer: impl FnMut(Vec<u8>) -> Reply + Send + 'static,
) -> impl FnMut(Question, Vec<u8>) -> Reply + Send + 'static {
    move |asked, honest| match asked == question {
        true => answer(honest),
        false => Reply::good(honest),
    }
}

/// Sends this pack in place of the right one.
fn pack(
    of: impl Fn(Vec<u8>) -> Vec<u8> + Send + 'static,
) -> impl FnMut(Question, Vec<u8>) -> Reply + Send + 'static {
    but(Question::Pack, move |honest| {
        let pack = of(pack::pack_of(&honest));
        Reply::good(pack::with_pack(&honest, &pack))
    })
}

fn line(text: &[u8]) -> Vec<u8> {
    pack::bytes(&[Packet::Line(text.to_vec())])
}

fn endless_branches(range: &mut Range) -> Code {
    range.server_refused(
        Code::FetchTooBig,
        but(Question::Refs, |_| {
            let branch = line(format!("{} refs/heads/more\n", "01".repeat(20)).as_bytes());
            Reply::stream(repeat(branch.repeat(1000)))
        }),
    )
}

fn endless_progress(range: &mut Range) -> Code {
    range.server_refused(
        Code::FetchTooBig,
        but(Question::Pack, |_| {
            let progress = line(&[&[2], "almost there\r".repeat(1000).as_bytes()].concat());
            Reply::stream(once(line(b"packfile\n")).chain(repeat(progress)))
        }),
    )
}

fn endless_headers(range: &mut Range) -> Code {
    range.server_refused(Code::FetchFailed, |_, _| {
        let more = "X-More: and more\r\n".repeat(1000).into_bytes();
        Reply::raw(
            "",
            once(b"HTTP/1.1 200 OK\r\n".to_vec()).chain(repeat(more)),
        )
    })
}

fn slow_retrieval(range: &mut Range) -> Code {
    range.server_refused(Code::FetchTimeout, |_, honest| {
        Reply::stream(honest.into_iter().map(|byte| vec![byte])).every(Duration::from_secs(1))
    })
}

fn hanging_mirror(range: &mut Range) -> Code {
    range.server_refused(Code::FetchTimeout, |_, _| Reply::silence())
}

fn hanging_in_the_middle(range: &mut Range) -> Code {
    range.server_refused(
        Code::FetchTimeout,
        but(Question::Pack, |honest| {
            let half = honest[..honest.len() / 2].to_vec();
            // The length of the whole is told, and the rest does not come.
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", honest.len());
            Reply::raw(head, once(half))
        }),
    )
}

fn delta_bomb(range: &mut Range) -> Code {
    range.server_refused(
        Code::FetchFailed,
        pack(|_| {
            let base = Entry::zeros(1);
            let hundredfold = Entry::repeated(base.len(), 1 << 20, 100);
            // Copies the first 16 MiB of that two thousand times: 32 GB.
            let more = Entry::repeated(hundredfold.len(), 0xff_ffff, 2000);
            pack::pack(&[base, hundredfold, more])
        }),
    )
}

fn zeros(range: &mut Range) -> Code {
    // What reads them has a deadline, and what it has written by then is thrown away.
    range.server_refused(
        Code::FetchTimeout,
        pack(|_| pack::pack(&[Entry::zeros(10 << 10)])),
    )
}

fn redirect(range: &mut Range) -> Code {
    let elsewhere = Hostile::start(&range.fleet.path("elsewhere"), &range.honest());
    let target = elsewhere.url();
    let code = range.server_refused(Code::FetchFailed, move |_, _| Reply::redirect(&target));
    assert_eq!(
        elsewhere.heads(),
        [""; 0],
        "nobody followed, with a credential or without"
    );
    code
}

fn downgrade(range: &mut Range) -> Code {
    range.server_refused(Code::FetchFailed, |_, _| {
        Reply::redirect("http://localhost/state.git/info/refs?service=git-upload-pack")
    })
}

fn truncated_pack(range: &mut Range) -> Code {
    range.server_refused(
        Code::FetchFailed,
        pack(|honest| honest[..honest.len() / 2].to_vec()),
    )
}

fn cut_connection(range: &mut Range) -> Code {
    range.server_refused(
        Code::FetchFailed,
        but(Question::Pack, |honest| {
            Reply::stream(once(honest[..honest.len() / 2].to_vec()))
        }),
    )
}

fn wrong_bytes(range: &mut Range) -> Code {
    range.server_refused(
        Code::FetchFailed,
        pack(|mut honest| {
            // An answer without news has no pack to damage.
            let Some(end) = honest.len().checked_sub(20) else {
                return honest;
            };
            honest.truncate(end);
            let middle = honest.len() / 2;
            honest[middle] ^= 1;
            pack::sealed(honest)
        }),
    )
}

fn missing_object(range: &mut Range) -> Code {
    let repository = range.honest();
    range.server_refused(
        Code::ObjectMissing,
        but(Question::Pack, move |honest| {
            let pack = pack::without(&repository, "admitted:manifest");
            Reply::good(pack::with_pack(&honest, &pack))
        }),
    )
}

fn wrong_kind(range: &mut Range) -> Code {
    range.intake_refused(Code::ObjectCorrupt, |forge| {
        let tree = forge.tree_of(&forge.tip("trust"));
        // git itself would not have a branch point at a tree.
        std::fs::write(forge.path.join("refs/heads/trust"), format!("{tree}\n")).unwrap();
    })
}

fn lying_branch(range: &mut Range) -> Code {
    range.server_refused(
        Code::FetchFailed,
        but(Question::Refs, |honest| {
            Reply::good(moved(&honest, "refs/heads/admitted"))
        }),
    )
}

/// An answer in which a branch is somewhere where nothing is.
fn moved(honest: &[u8], branch: &str) -> Vec<u8> {
    let mut packets = pack::packets(honest);
    for packet in &mut packets {
        if let Packet::Line(line) = packet
            && line.ends_with(format!("{branch}\n").as_bytes())
        {
            *line = format!("{} {branch}\n", "01".repeat(20)).into_bytes();
        }
    }
    pack::bytes(&packets)
}

fn link_to_main(range: &mut Range) -> Code {
    range.intake_refused(Code::LogRollback, |forge| {
        forge.run_git(&["symbolic-ref", "refs/heads/admitted", "refs/heads/main"]);
    })
}

fn missing_branch(range: &mut Range) -> Code {
    range.intake_refused(Code::RefMissing, |forge| {
        forge.run_git(&["update-ref", "-d", "refs/heads/fresh"]);
    })
}

fn garbage(range: &mut Range) -> Code {
    range.server_refused(Code::FetchFailed, |_, _| {
        Reply::good(b"<html>\x1b[2J\xff\x00 Please log in</html>".to_vec())
    })
}

fn shallow_repository(range: &mut Range) -> Code {
    range.intake_refused(Code::FetchFailed, |forge| {
        forge.push_main(forge.evil_commit().signed(&forge.key("author")));
        let tip = forge.admit_edited(|_| {});
        std::fs::write(forge.path.join("shallow"), format!("{tip}\n")).unwrap();
    })
}

fn wrong_authority(range: &mut Range) -> Code {
    let between = Hostile::start(&range.fleet.path("between"), &range.honest());
    let before = range.witness();
    let mut remote = remote_of(&between);
    // The host knows the authority of the real server, which is another.
    let real = Hostile::start(&range.fleet.path("hostile"), &range.honest());
    remote["ca"] = json!(real.ca());
    range.follow(json!([remote]));
    range.wait_for_refusal(Code::FetchFailed);
    range.unharmed(&before);
    assert_eq!(
        between.heads(),
        [""; 0],
        "nothing was said, and no credential"
    );
    range.follow(json!([remote_of(&real)]));
    range.honest_pass();
    range.follow_honest();
    Code::FetchFailed
}
