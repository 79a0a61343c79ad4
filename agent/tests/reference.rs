//! The page of the command line is the help of the program. To renew it: `SNAPSHOTS=overwrite cargo test -p agent`.

use snapbox::{assert_data_eq, file};

#[test]
fn the_reference_page_is_the_programs_help() {
    assert_data_eq!(
        agent::command::reference(),
        file!["../../docs/agent-cli.md"].raw()
    );
}
