//! The page of refusal codes is made from the list in the code. To renew it:
//! `SNAPSHOTS=overwrite cargo test -p tests --test refusal_codes`.

use std::fmt::Write as _;

use snapbox::{assert_data_eq, file};
use state::Code;

const HEAD: &str = "# Refusal codes

Whenever Writ refuses, holds or fails something, it says so with one of these codes. They stand in errors, in JSON and
in the journal, and they keep their meaning. A refusal never stops what runs. This page is made from the programs.

| code | what to do |
|---|---|
";

#[test]
fn the_page_of_refusal_codes_lists_all() {
    let mut page = HEAD.to_owned();
    for code in Code::ALL {
        let remedy = code.remedy().replace('|', "\\|");
        let _ = writeln!(page, "| `{code}` | {remedy} |");
    }
    assert_data_eq!(page, file!["../../docs/refusal-codes.md"].raw());
}
