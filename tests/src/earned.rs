//! Which end-to-end case earned which refusal code: `tests/run.sh codes` sets a folder, cases write into it, and a code
//! without a file is one that nobody has ever seen refused.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use state::Code;

/// The variable that names the folder; without it nothing is written.
const FOLDER: &str = "WRIT_EARNED";

/// Notes that `case` has just asserted that the real programs answer with `code`.
///
/// # Panics
/// When the folder cannot be written to.
pub fn earn(code: Code, case: &str) {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    // One short write at the end of a file: cases in other processes do the same.
    File::options()
        .create(true)
        .append(true)
        .open(Path::new(&folder).join(code.as_str()))
        .and_then(|mut file| file.write_all(format!("{case}\n").as_bytes()))
        .expect("the folder of earned codes");
}

/// The same for a code by its text, in the name of the running test.
///
/// # Panics
/// When there is no such code.
#[track_caller]
pub fn earn_here(code: &str) {
    let known = Code::ALL.iter().find(|known| known.as_str() == code);
    let known = known.unwrap_or_else(|| panic!("there is no code {code}"));
    let thread = std::thread::current();
    earn(*known, thread.name().unwrap_or("a case without a name"));
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "there is no code NO_SUCH_CODE")]
    fn only_codes_of_the_list_are_earned() {
        super::earn_here("NO_SUCH_CODE");
    }
}
