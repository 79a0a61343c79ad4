//! Untrusted text on its way to a person: control characters, escapes and bidirectional overrides are shown, not obeyed.

use std::fmt;

/// Displays `0` with everything that a terminal could act upon escaped; tabs become spaces.
///
/// ```
/// assert_eq!(state::text::Escaped("ok\u{1b}[2J\n").to_string(), r"ok\u{1b}[2J\n");
/// ```
pub struct Escaped<'a>(pub &'a str);

/// Says whether `c` may reach a terminal as it is.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{200b}'..='\u{200f}'   // zero width, direction marks
            | '\u{2028}'..='\u{202e}' // line and paragraph separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}' // invisible operators, isolates
            | '\u{061c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}') // tags
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\t' => f.write_str("    ")?,
                c if is_plain(c) => fmt::Write::write_char(f, c)?,
                c => write!(f, "{}", c.escape_default())?,
            }
        }
        Ok(())
    }
}

/// Escapes each line of `text` and keeps the line breaks: for logs and diffs.
pub fn escape_lines(text: &str) -> String {
    text.split('\n')
        .map(|line| Escaped(line).to_string())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_or_turns_text_passes() {
        let hostile = "a\x1b[31m\u{202e}b\u{9b}c\r\u{feff}\u{7f}";
        let shown = Escaped(hostile).to_string();
        assert!(shown.chars().all(is_plain), "{shown}");
        assert_eq!(Escaped("Grüße, 世界").to_string(), "Grüße, 世界");
        assert_eq!(escape_lines("a\x07\nb"), "a\\u{7}\nb");
    }
}
