//! The page of the command line is the help of the program. To renew it: `SNAPSHOTS=overwrite cargo test -p policy`.

use snapbox::{assert_data_eq, file};

#[test]
fn the_reference_page_is_the_programs_help() {
    assert_data_eq!(
        policy::command::reference(),
        file!["../../docs/policy-cli.md"].raw()
    );
}
