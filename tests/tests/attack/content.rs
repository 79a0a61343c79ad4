//! Attacks in the content of files, and on what is made of them.

use std::fmt::Write as _;

use state::Code;
use state::digest::ObjectId;
use state::git::Kind;
use tests::attack::forge::Forge;
use tests::attack::range::Range;

use crate::Case;

/// The overlay that decides what `web` runs in `dev`.
const OVERLAY: &str = "environments/dev/web.yaml";

pub(crate) const CASES: &[Case] = &[
    ("a YAML alias bomb, pushed", |range| {
        pushed(range, Code::ConfigInvalid, bomb)
    }),
    ("a YAML alias bomb, admitted", |range| admitted(range, bomb)),
    ("a YAML key that stands twice, pushed", |range| {
        pushed(range, Code::ConfigInvalid, duplicate)
    }),
    ("a YAML key that stands twice, admitted", |range| {
        admitted(range, duplicate)
    }),
    ("a YAML merge key, pushed", |range| {
        pushed(range, Code::ConfigInvalid, merge_key)
    }),
    ("a YAML merge key, admitted", |range| {
        admitted(range, merge_key)
    }),
    ("a YAML float, pushed", |range| {
        pushed(range, Code::ConfigInvalid, float)
    }),
    ("a YAML float, admitted", |range| admitted(range, float)),
    ("a YAML tag, pushed", |range| {
        pushed(range, Code::ConfigInvalid, |overlay| {
            format!("{overlay}keep: !!str 4\n")
        })
    }),
    ("a second YAML document, pushed", |range| {
        pushed(range, Code::ConfigInvalid, |overlay| {
            format!("{overlay}---\nkeep: 4\n")
        })
    }),
    ("YAML that nests without end, pushed", |range| {
        pushed(range, Code::ConfigInvalid, |overlay| {
            let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
            format!("{overlay}place: {open}{close}\n")
        })
    }),
    ("an integer that a float cannot hold, pushed", |range| {
        pushed(range, Code::ConfigInvalid, |overlay| {
            format!("{overlay}keep: 9007199254740993\n")
        })
    }),
    ("an unquoted numeric pin, pushed", |range| {
        pushed(range, Code::PinInvalid, numeric_pin)
    }),
    ("an unquoted numeric pin, admitted", |range| {
        admitted(range, numeric_pin)
    }),
    ("a branch for a pin, pushed", |range| {
        pushed(range, Code::PinInvalid, |_| {
            "source: { commit: main }\n".to_owned()
        })
    }),
    ("an abbreviated pin, pushed", |range| {
        pushed(range, Code::PinInvalid, |_| {
            "source: { commit: \"1234567\" }\n".to_owned()
        })
    }),
    (
        "render mismatch: another commit than the author's",
        |range| {
            altered(range, |forge, web| {
                web.spec.source.commit = forge.evil.parse().unwrap()
            })
        },
    ),
    (
        "render mismatch: another program than the author's",
        |range| {
            altered(range, |_, web| {
                web.spec.run.command = vec!["/bin/sh".into(), "-c".into(), "id".into()]
            })
        },
    ),
    (
        "render mismatch: another repository than the author's",
        |range| {
            altered(range, |_, web| {
                web.spec.source.repository = "https://evil.example.org/web.git".into()
            })
        },
    ),
    ("render mismatch: the rules that no author wrote", |range| {
        altered_rules(range)
    }),
    (
        "replay in another environment: prod's release in dev",
        replay_in_dev,
    ),
    ("a release that is not in policy's form", |range| {
        range.intake_refused(Code::ConfigInvalid, |forge| {
            forge.push_main(forge.evil_commit().signed(&forge.key("author")));
            forge.admit_edited(|draft| {
                let path = "releases/dev/web.yaml";
                let text = [&draft.files[path], &b"# by hand\n"[..]].concat();
                draft.files.insert(path.to_owned(), text.into());
                draft.seal();
            });
        })
    }),
];

/// An author's commit whose overlay is what `edit` makes of the evil one.
fn commit(forge: &Forge, edit: fn(&str) -> String) -> ObjectId {
    let commit = forge.commit_with(&[(OVERLAY, &edit(&forge.evil_overlay()))]);
    forge.write(Kind::Commit, commit.signed(&forge.key("author")).as_bytes())
}

#[track_caller]
fn pushed(range: &mut Range, code: Code, edit: fn(&str) -> String) -> Code {
    range.push_refused(code, |forge| commit(forge, edit))
}

/// A thief of the policy key admits what a lax reader might make of the overlay: the evil version.
#[track_caller]
fn admitted(range: &mut Range, edit: fn(&str) -> String) -> Code {
    range.release_refused(Code::RenderMismatch, |forge| {
        let evil = forge.evil_commit().signed(&forge.key("author"));
        forge.push_main(evil);
        let mut lax = forge.draft();
        forge.point("main", &forge.parent(&forge.tip("main")));
        let commit = commit(forge, edit);
        forge.point("main", &commit);
        let draft = forge.empty_draft(forge.origin(&commit));
        let author = draft.manifest.author;
        lax.manifest.author = author.clone();
        lax.manifest.author_tree = draft.manifest.author_tree;
        lax.parents = draft.parents;
        lax.edit_release("web", |web| web.origin = author);
        forge.admit(lax);
    })
}

fn bomb(overlay: &str) -> String {
    let mut text = overlay.to_owned() + "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
    for (one, next) in ('a'..='i').zip('b'..='j') {
        let uses = vec![format!("*{one}"); 10].join(", ");
        let _ = writeln!(text, "{next}: &{next} [{uses}]");
    }
    text
}

fn duplicate(overlay: &str) -> String {
    let harmless = "source: { commit: \"0123456789012345678901234567890123456789\" }\n";
    format!("{harmless}{overlay}")
}

fn merge_key(overlay: &str) -> String {
    let pin = overlay.trim_end().strip_prefix("source: ").unwrap();
    format!("source: {{ <<: {pin} }}\n")
}

fn float(overlay: &str) -> String {
    format!("{overlay}keep: 4.0\n")
}

fn numeric_pin(_: &str) -> String {
    "source: { commit: 1234567890123456789012345678901234567890 }\n".to_owned()
}

/// An author asks for something harmless, and a thief of the policy key admits something else in its place.
#[track_caller]
fn altered(range: &mut Range, edit: fn(&Forge, &mut state::release::Release)) -> Code {
    range.release_refused(Code::RenderMismatch, |forge| {
        harmless(forge);
        forge.admit_edited(|draft| draft.edit_release("web", |web| edit(forge, web)));
    })
}

/// An author's harmless change of `web` in every environment.
fn harmless(forge: &Forge) {
    let path = "services/web/service.yaml";
    let base = forge.files(&forge.tip("main"))[path].to_vec();
    let base = String::from_utf8(base).unwrap() + "keep: 4\n";
    let commit = forge.commit_with(&[(path, &base)]);
    forge.push_main(commit.signed(&forge.key("author")));
}

/// Rules that admit everybody, admitted beside an author's harmless change of the rules.
fn altered_rules(range: &mut Range) -> Code {
    let before = range.witness();
    let forge = range.forge();
    let path = "environments/dev/environment.yaml";
    let commit = forge.commit_with(&[(path, "hosts: any\nmaxRemovals: 1000\n")]);
    forge.push_main(commit.signed(&forge.key("author")));
    forge.admit_edited(|draft| {
        let path = "releases/dev/environment.yaml";
        let dev = tests::attack::admission::environment("dev");
        let mut rules = state::release::Rules::from_yaml(dev, &draft.files[path]).unwrap();
        rules.spec.max_removals = 1_000_000;
        let (id, text) = (rules.id(), rules.to_yaml());
        draft
            .files
            .insert(path.to_owned(), text.into_bytes().into());
        draft.manifest.changes[0].to = Some(id);
        draft.seal();
    });
    range.serve(&forge.path);
    range.wait_for_refusal(Code::RenderMismatch);
    range.unharmed(&before);
    range.floor_not_back(&before);
    range.recover();
    Code::RenderMismatch
}

/// An author gives the evil version to `prod` only; a thief of the policy key gives it to `dev` too.
fn replay_in_dev(range: &mut Range) -> Code {
    range.release_refused(Code::RenderMismatch, |forge| {
        let path = "services/web/service.yaml";
        let base = forge.files(&forge.tip("main"))[path].to_vec();
        let base = String::from_utf8(base).unwrap() + "keep: 4\n";
        let prod = forge.evil_overlay();
        let commit = forge.commit_with(&[(path, &base), ("environments/prod/web.yaml", &prod)]);
        forge.push_main(commit.signed(&forge.key("author")));
        forge.admit_edited(|draft| {
            let prod = draft.files["releases/prod/web.yaml"].clone();
            draft.files.insert("releases/dev/web.yaml".to_owned(), prod);
            draft.edit_release("web", |_| {});
        });
    })
}
