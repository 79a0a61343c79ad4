//! Attacks on the form of commits and on their signatures: pushed by whoever can push, and admitted past policy's hook
//! by a thief of the policy key.

use std::fmt::Write as _;

use state::Code;
use state::digest::ObjectId;
use state::git::Kind;
use state::sshsig::{self, Namespace};
use tests::attack::commit::{CommitText, weak_armor};
use tests::attack::forge::Forge;
use tests::program;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    (
        "arbitrary installation: an unsigned commit, pushed",
        |range| {
            range.push_refused(Code::AuthorUnsigned, |forge| {
                written(forge, CommitText::unsigned)
            })
        },
    ),
    (
        "key compromise below the threshold: policy's only, no author signed",
        |range| {
            range.admission_refused(Code::AuthorUnsigned, |forge| {
                written(forge, CommitText::unsigned)
            })
        },
    ),
    ("a stranger's commit, pushed", |range| {
        range.push_refused(Code::AuthorUnknown, |forge| signed_by(forge, "stranger"))
    }),
    ("a stranger's commit, admitted", |range| {
        range.admission_refused(Code::AuthorUnknown, |forge| signed_by(forge, "stranger"))
    }),
    ("policy's own key signs a commit", |range| {
        range.admission_refused(Code::AuthorUnknown, |forge| signed_by(forge, "policy"))
    }),
    ("root's key signs a commit", |range| {
        range.push_refused(Code::AuthorUnknown, |forge| signed_by(forge, "root"))
    }),
    ("the signature of another commit, pushed", |range| {
        range.push_refused(Code::AuthorBadSignature, borrowed)
    }),
    ("the signature of another commit, admitted", |range| {
        range.admission_refused(Code::AuthorBadSignature, borrowed)
    }),
    ("a commit signed as a manifest, pushed", |range| {
        range.push_refused(Code::AuthorBadSignature, as_manifest)
    }),
    ("a commit signed as a manifest, admitted", |range| {
        range.admission_refused(Code::AuthorBadSignature, as_manifest)
    }),
    ("the signature of a tag on a commit, pushed", |range| {
        range.push_refused(Code::AuthorBadSignature, of_tag)
    }),
    ("the signature of a tag on a commit, admitted", |range| {
        range.admission_refused(Code::AuthorBadSignature, of_tag)
    }),
    ("a weak key, for which everybody signs, pushed", |range| {
        range.push_refused(Code::SignatureNoncanonical, weak)
    }),
    ("a weak key, for which everybody signs, admitted", |range| {
        range.admission_refused(Code::SignatureNoncanonical, weak)
    }),
    ("an ECDSA signature", |range| {
        range.push_refused(Code::SignatureNoncanonical, ecdsa)
    }),
    ("a GPG signature", |range| {
        range.push_refused(Code::SignatureNoncanonical, |forge| {
            edited(forge, |text| text.replace("SSH SIGNATURE", "PGP SIGNATURE"))
        })
    }),
    (
        "malleability: a header that begins with gpgsig, pushed",
        |range| range.push_refused(Code::CommitMalformed, extra_gpgsig),
    ),
    (
        "malleability: a header that begins with gpgsig, admitted",
        |range| range.admission_refused(Code::CommitMalformed, extra_gpgsig),
    ),
    ("malleability: a second, junk gpgsig, pushed", |range| {
        range.push_refused(Code::CommitMalformed, second_gpgsig)
    }),
    ("malleability: a second, junk gpgsig, admitted", |range| {
        range.admission_refused(Code::CommitMalformed, second_gpgsig)
    }),
    ("malleability: re-wrapped base64, pushed", |range| {
        range.push_refused(Code::SignatureNoncanonical, rewrapped)
    }),
    ("malleability: re-wrapped base64, admitted", |range| {
        range.admission_refused(Code::SignatureNoncanonical, rewrapped)
    }),
    (
        "malleability: a signature by SHA-256 with trailing bytes",
        |range| range.admission_refused(Code::SignatureNoncanonical, trailing),
    ),
    ("an extra header before the signature, pushed", |range| {
        range.push_refused(Code::CommitMalformed, extra_header)
    }),
    ("an extra header before the signature, admitted", |range| {
        range.admission_refused(Code::CommitMalformed, extra_header)
    }),
    ("an extra header after the signature", |range| {
        range.push_refused(Code::CommitMalformed, |forge| {
            edited(forge, |text| {
                text.replacen("\n\n", "\nreviewed-by nobody\n\n", 1)
            })
        })
    }),
    ("two authors in one commit", |range| {
        range.push_refused(Code::CommitMalformed, |forge| {
            signed(forge, |commit| {
                commit.extra = format!("author {}\n", commit.person)
            })
        })
    }),
    ("two encodings in one commit", |range| {
        range.push_refused(Code::CommitMalformed, |forge| {
            signed(forge, |commit| {
                commit.extra = "encoding UTF-8\nencoding UTF-7\n".to_owned()
            })
        })
    }),
    ("headers in another order", |range| {
        range.admission_refused(Code::CommitMalformed, |forge| {
            let commit = forge.evil_commit();
            let text = commit.signed(&forge.key("author"));
            let author = format!("author {}\n", commit.person);
            let committer = format!("committer {}\n", commit.person);
            let swapped = format!("{committer}{author}");
            let text = text.replacen(&format!("{author}{committer}"), &swapped, 1);
            forge.write(Kind::Commit, text.as_bytes())
        })
    }),
    ("a person with a second address", |range| {
        range.push_refused(Code::CommitMalformed, |forge| {
            signed(forge, |commit| {
                commit.person = "alice <alice@example.org> <m@example.org> 1795000000 +0000".into();
            })
        })
    }),
    ("a time with a fraction", |range| {
        range.push_refused(Code::CommitMalformed, |forge| {
            signed(forge, |commit| {
                commit.person = commit.person.replace(" +0000", ".5 +0000")
            })
        })
    }),
    ("CR LF in the headers", |range| {
        range.admission_refused(Code::CommitMalformed, |forge| {
            edited(forge, |text| text.replace(" +0000\n", " +0000\r\n"))
        })
    }),
    ("NUL in the message, pushed", |range| {
        range.push_refused(Code::CommitMalformed, nul)
    }),
    ("NUL in the message, admitted", |range| {
        range.admission_refused(Code::CommitMalformed, nul)
    }),
    ("a trailer that names another tree, pushed", |range| {
        range.push_refused(Code::TrailerMismatch, trailer)
    }),
    ("a trailer that names another tree, admitted", |range| {
        range.admission_refused(Code::TrailerMismatch, trailer)
    }),
    ("payload mismatch: policy tells another payload", |range| {
        range.release_refused(Code::PayloadMismatch, |forge| {
            forge.push_main(forge.evil_commit().signed(&forge.key("author")));
            forge.admit_edited(|draft| {
                let other = forge.origin(&forge.parent(&forge.tip("main"))).payload;
                draft.manifest.author.payload = other;
                let author = draft.manifest.author.clone();
                draft.edit_release("web", |web| web.origin = author);
            });
        })
    }),
];

/// The evil commit, in whatever form.
fn written(forge: &Forge, form: fn(&CommitText) -> String) -> ObjectId {
    forge.write(Kind::Commit, form(&forge.evil_commit()).as_bytes())
}

/// The evil commit after `edit`, signed by an author as it then is.
fn signed(forge: &Forge, edit: impl FnOnce(&mut CommitText)) -> ObjectId {
    let mut commit = forge.evil_commit();
    edit(&mut commit);
    forge.write(Kind::Commit, commit.signed(&forge.key("author")).as_bytes())
}

/// The evil commit, signed by an author, after `edit` of its bytes.
fn edited(forge: &Forge, edit: impl FnOnce(String) -> String) -> ObjectId {
    let text = forge.evil_commit().signed(&forge.key("author"));
    let changed = edit(text.clone());
    assert_ne!(changed, text);
    forge.write(Kind::Commit, changed.as_bytes())
}

/// The evil commit with `armor` for a signature.
fn armored(forge: &Forge, armor: &str) -> ObjectId {
    let text = forge.evil_commit().with_armor(armor);
    forge.write(Kind::Commit, text.as_bytes())
}

fn signed_by(forge: &Forge, name: &str) -> ObjectId {
    let text = forge.evil_commit().signed(&forge.key(name));
    forge.write(Kind::Commit, text.as_bytes())
}

fn borrowed(forge: &Forge) -> ObjectId {
    let harmless = forge.commit_with(&[]).unsigned();
    let armor = sshsig::sign(&forge.key("author"), Namespace::Git, harmless.as_bytes());
    armored(forge, &armor)
}

fn as_manifest(forge: &Forge) -> ObjectId {
    let text = forge
        .evil_commit()
        .signed_as(&forge.key("author"), Namespace::Manifest);
    forge.write(Kind::Commit, text.as_bytes())
}

fn of_tag(forge: &Forge) -> ObjectId {
    let commit = written(forge, CommitText::unsigned);
    let tag = format!(
        "object {commit}\ntype commit\ntag v1\ntagger a <a@example.org> 1795000000 +0000\n\nRelease\n"
    );
    let armor = sshsig::sign(&forge.key("author"), Namespace::Git, tag.as_bytes());
    armored(forge, &armor)
}

fn weak(forge: &Forge) -> ObjectId {
    armored(forge, &weak_armor("git"))
}

fn ecdsa(forge: &Forge) -> ObjectId {
    let (key, text) = (forge.keys.path("ecdsa"), forge.path.join("payload"));
    let run = |args: &[&str]| {
        let mut keygen = program::command("ssh-keygen", &forge.path);
        program::run(keygen.args(args)).ok();
    };
    let (key, payload) = (key.to_str().unwrap(), text.to_str().unwrap());
    if !forge.keys.path("ecdsa").exists() {
        run(&["-q", "-t", "ecdsa", "-N", "", "-f", key]);
    }
    std::fs::write(&text, forge.evil_commit().unsigned()).unwrap();
    run(&["-q", "-Y", "sign", "-n", "git", "-f", key, payload]);
    let signature = text.with_extension("sig");
    let armor = std::fs::read_to_string(&signature).unwrap();
    for file in [text, signature] {
        std::fs::remove_file(file).unwrap();
    }
    armored(forge, &armor)
}

fn extra_gpgsig(forge: &Forge) -> ObjectId {
    edited(forge, |text| {
        text.replacen("gpgsig ", "gpgsig-x junk\ngpgsig ", 1)
    })
}

fn second_gpgsig(forge: &Forge) -> ObjectId {
    edited(forge, |text| text.replacen("\n\n", "\ngpgsig junk\n\n", 1))
}

fn rewrapped(forge: &Forge) -> ObjectId {
    edited(forge, |text| {
        // The first two lines of base64 become one.
        let start = text.find("SSH SIGNATURE-----\n ").unwrap() + 20;
        let end = start + text[start..].find("\n ").unwrap();
        let mut joined = text[..end].to_owned();
        let _ = write!(joined, "{}", &text[end + 2..]);
        joined
    })
}

fn trailing(forge: &Forge) -> ObjectId {
    edited(forge, |text| {
        text.replacen(
            " -----END SSH SIGNATURE-----",
            " AAAA\n -----END SSH SIGNATURE-----",
            1,
        )
    })
}

fn extra_header(forge: &Forge) -> ObjectId {
    signed(forge, |commit| {
        commit.extra = "reviewed-by nobody\n".to_owned()
    })
}

fn nul(forge: &Forge) -> ObjectId {
    signed(forge, |commit| {
        commit.message = "Improve things\0or not\n".to_owned()
    })
}

fn trailer(forge: &Forge) -> ObjectId {
    let tree = "7".repeat(64);
    signed(forge, |commit| {
        commit.message = format!("Improve things\n\nTree-SHA256: {tree}\n")
    })
}
